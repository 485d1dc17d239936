"""Whatever a job is paused for: the command that is printed does go on with it, once filled in."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import pytest

from batch.cli.exit_summary import say_ending
from batch.commands import resume, show
from batch.store.incidents import Trouble
from jobs.errors import NoSuchJob
from jobs.job_options import Budget
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from jobs.table_task import TableForm, Task
from tests.batch.making import prices, publish

FILLED_IN = {
    "RUB": "9",
    "HH:MM": "07:00",
    "N": "9",
    "URL": "http://127.0.0.1:1/v1",
    "OLD=NEW": "old=new",
}
ENDPOINT = ("wrong_address", "redirect", "model_not_found", "certificate", "blocked", "refused")
PAUSES = [
    *((each, "", Budget()) for each in PauseReason),
    *((PauseReason.MISCONFIGURED, f"endpoint.{code}", Budget()) for code in ENDPOINT),
    (PauseReason.BUDGET_EXHAUSTED, "", Budget(rub=Decimal(1))),
    (PauseReason.BUDGET_EXHAUSTED, "", Budget(tokens=1)),
]


@pytest.mark.parametrize(("reason", "code", "budget"), PAUSES)
def test_the_printed_command_goes_on_with_the_job(
    reason: PauseReason,
    code: str,
    budget: Budget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.setattr(resume, "read_prices", lambda *_args, **_more: prices())
    window = "00:00-00:01" if reason is PauseReason.WINDOW_CLOSED else None
    with closing(publish(tmp_path, budget=budget, window=window)) as store:
        store.keep_troubles((Trouble(code, 1.0),) if code else ())
        store.set_state(
            JobState.PAUSED, reason=reason, text=Message("words"), standing=store.job().state
        )
        assert say_ending(store.job(), store) == 3

    typed = capsys.readouterr().err.splitlines()[-1].replace("&& ", "")
    for command in typed.strip().removeprefix("nightshift ").split("nightshift "):
        name, *words = shlex.split(command)
        words = [FILLED_IN.get(word, word) for word in words]
        is_dry = ["--dry-run"] if name == "resume" else []
        program = import_module(f"batch.commands.{name}").command
        assert program.main([*words, *is_dry], standalone_mode=False) == 0
    assert ("--base-url" in words) == (code in ("endpoint.wrong_address", "endpoint.redirect"))


def test_the_answered_table_is_told_wherever_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Task(prompt="{{ a }}", form=TableForm(kind="csv", columns=("a",)))
    with closing(publish(tmp_path, task=task, source="a.csv")) as store:
        say_ending(replace(store.job(), state=JobState.COMPLETED), store)
        folder = store.job().spec.output_dir

    assert f"answered table: {folder}/a.answered.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "hint"), [("17", "show latest 17"), ("17 3", "nightshift status")]
)
def test_a_row_without_its_job_is_told_how_to_be_named(
    named: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    publish(tmp_path).close()

    with pytest.raises(NoSuchJob) as refused:
        show.command.main(named.split(), standalone_mode=False)

    assert hint in str(refused.value.hint)
