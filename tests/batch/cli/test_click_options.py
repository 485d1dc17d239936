"""A new option of a job is declared in one place, and all that deal with options know it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from batch.cli.click_options import FIXED, JOB_OPTIONS, UNSET
from batch.commands import resume, run
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.option_declaration import declared
from tests.batch.making import spec

ROOT = Path(__file__).parents[3]
NEW = """class Limits(BaseModel):
    moons: Annotated[
        Count | None,
        Option("--moons", "N", help="Moons at most.", section=HOURS, in_checks=True),
        AtResume(help="New moons."),
    ] = 7
    kept: Annotated[bool, Option("--keep", help="Keeps.", of_one_job=True)] = False
"""
PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
import click
import jobs.job_options
from batch.commands import estimate, resume, run, serve
from batch.cli import click_options, spec_builder
from scripts import reference

def section(module):
    told, at = [], ""
    for line in module.command.get_help(click.Context(module.command)).splitlines():
        at = line if line and line[0] != " " else at
        told += [at] if "--moons" in line else []
    return told

unset = {**click_options.UNSET, "header": (), "model_map": {}}
made = spec_builder.make_spec("nj-1", Path("-"), {**unset, "moons": 3, "keep": True})
given = {each.name: None for each in click_options.JOB_OPTIONS} | {"model_map": {}}
change = resume._change(made, given | {"moons": 5}, ())
told = []
others = made.model_copy(update={"limits": jobs.job_options.Limits()})
try:
    resume._check_fixed(others, given | {"keep": True})
except resume.UsageError as error:
    told = [error.message]
print(json.dumps({
    "help": [section(each) for each in (run, estimate, resume, serve)],
    "variable": [each.envvar for each in run.command.params if each.name == "moons"],
    "made": [made.limits.moons, made.limits.kept],
    "default": spec_builder.make_spec("nj-1", Path("-"), unset).limits.moons,
    "changed": change.applied(made).limits.moons,
    "refused": told,
    "of_one_job": [each.name for each in serve.command.params if each.name in ("moons", "keep")],
    "reference": [line for line in reference.commands() if "--moons" in line],
}))
"""


def test_a_new_option_is_declared_in_one_place(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    page = tmp_path / "jobs" / "job_options.py"
    page.write_text(
        page.read_text("utf-8").replace("class Limits(BaseModel):\n", NEW, 1), encoding="utf-8"
    )

    ran = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(tmp_path), str(ROOT)],
        env={**os.environ, "NIGHTSHIFT_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["help"] == [["Hours:"]] * 4
    assert told["variable"] == ["NIGHTSHIFT_MOONS"]
    assert (told["made"], told["default"], told["changed"]) == ([3, True], 7, 5)
    assert told["refused"] == ["--keep of a submitted job cannot be changed: False"]
    assert told["of_one_job"] == ["moons"]
    assert "| `--moons` | Moons at most. |" in told["reference"]
    assert "| `--moons` | New moons. |" in told["reference"]


def test_no_two_options_have_one_name() -> None:
    names = [each.name for each in JOB_OPTIONS]

    assert len({*names}) == len(names)
    assert {*names} == {each.name for each in declared(Spec)}


@pytest.mark.parametrize(
    "given",
    [
        *({"dedupe": True}, {"prompt": "Why?"}, {"choices": "yes,no"}, {"notify_mail": "a@b.org"}),
        *({"service_tier": "flex"}, {"output_dir": Path("elsewhere")}, {"max_attempts": 7}),
    ],
)
def test_what_a_submitted_job_keeps_is_refused_by_name(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as refused:
        resume._check_fixed(spec(tmp_path), {**_none(), **given})

    (name,) = given
    flag = next(each.option.flag for each in FIXED if each.name == name)
    assert refused.value.message.startswith(f"{flag} of a submitted job cannot be changed")


def test_saying_again_what_a_job_is_already_is_not_refused(tmp_path: Path) -> None:
    job = spec(tmp_path, dedupe="all", max_attempts=7)

    resume._check_fixed(
        job,
        {**_none(), "dedupe_all": True, "max_attempts": 7, "output_dir": Path(job.output_dir)},
    )


def _none() -> dict[str, Any]:
    return dict.fromkeys(UNSET)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--concurrency", "4"], "--max-in-flight"),
        (["--output=here"], "--output-dir"),
        (["--budget-rubb", "4"], "--budget-rub"),
    ],
)
def test_an_option_of_another_tool_is_told_by_its_name_here(words: list[str], told: str) -> None:
    with pytest.raises(click.NoSuchOption) as refused:
        run.command.main(["a.jsonl", *words], standalone_mode=False)

    assert refused.value.possibilities is not None
    assert told in refused.value.possibilities
