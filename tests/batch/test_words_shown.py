"""Every sentence is shown in the reader's language: found by the catalogue, not by examples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch import language, reports
from batch.cli.exit_summary import say_ending
from batch.cli.progress_text import lines, note, sentence
from batch.coordinator import flower_commands
from batch.coordinator.status_publisher import _made_of
from batch.flower import page_texts, status_reader
from batch.notifications import notification
from batch.store.events import history
from batch.watching.event_text import told as told_event
from batch.watching.progress import Progress, at_standstill, progress_of
from batch.watching.staleness import Attention
from jobs.message import N_, Message
from jobs.pause_reasons import PauseReason
from jobs.request import Fault
from jobs.stall import Stall, Stalled
from jobs.states import JobState
from jobs.worker_heartbeat import Wait
from scripts import wording
from tests.batch.making import publish

ROOT = Path(__file__).parent.parent.parent
BLANK = re.compile(r"\{(\w+)(![ra])?(?::([^{}]*))?\}")
WHEN = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
REASON = N_(
    "a call cost {cost:exact} ₽, more than the maximum of {bound:exact} ₽", cost=Decimal(3), bound=2
)


@pytest.fixture(autouse=True)
def _russian() -> Iterator[None]:
    language.use("ru")
    yield
    language.use("en")


@cache
def _translations() -> dict[str, str]:
    return {
        each.id: each.string
        for each in wording.read("ru")
        if isinstance(each.id, str) and isinstance(each.string, str) and each.id
    }


def _pieces(text: str) -> list[str]:
    """What stands between the blanks, if that is words of a sentence."""
    parts = re.split(r"\{[^{}]*\}|%[sd]|%\(\w+\)s|\n|[:;.] ", text)
    return [part.strip() for part in parts if len(re.findall("[A-Za-z]{2,}", part)) >= 3]


@cache
def _english() -> re.Pattern[str]:
    """What would show that a sentence of ours was left in English; commands stay as they are."""
    shared = " ".join(_translations().values())
    found = {piece for text in _translations() for piece in _pieces(text) if piece not in shared}
    ordered = sorted(found, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, ordered)) + r")\b")


def check(shown: str) -> None:
    """Nothing of ours is English on this screen or page, and no blank is left unfilled."""
    left = _english().search(shown)
    assert left is None, f"in English: {left and left[0]!r}"
    assert not re.search(r"\{\w+(![ra])?(:(,|\.|exact)[^{}]*)?\}", shown), shown


def _sample(conversion: str | None, spec: str | None) -> Any:
    if conversion:
        return "x"
    if spec == "exact":
        return Decimal("7.5")
    return 7 if spec else N_("the worker is stopping")


def test_every_form_is_said_with_all_that_fills_it() -> None:
    forms = [text for text in _translations() if BLANK.search(text)]
    assert len(forms) > 300

    for form in forms:
        given = {blank[1]: _sample(blank[2], blank[3]) for blank in BLANK.finditer(form)}
        stored = Message(form, **given)
        check(language._(Message.read(str(stored), stored.data)))


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("batch", "jobs", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_what_is_written_as_a_message_can_be_gathered_and_filled() -> None:
    """Babel finds texts only where they stand, and mypy does not see a blank that has no value."""
    found = 0
    for place, call in _calls():
        if call.func.id not in ("N_", "Message"):  # type: ignore[attr-defined]
            continue
        match call.args:
            case [ast.Constant(value=str(form))]:
                names = {blank[1] for blank in BLANK.finditer(form)}
                given = {each.arg for each in call.keywords}
                assert names == given or None in given or not given, (place, names ^ given)
                is_gathered = call.func.id == "N_"  # type: ignore[attr-defined]
                assert is_gathered or len(_pieces(form)) == 0, (place, form)
                found += 1
            case _:
                assert call.func.id == "Message", (place, "no text to gather")  # type: ignore[attr-defined]
    assert found > 800


def _page(progress: Progress, objections: dict[str, str]) -> status_reader.Job:
    document: dict[str, object] = progress.as_json()
    document |= _made_of(progress, document)
    document |= {"objections": objections, "coordinated": True}
    return msgspec.json.decode(msgspec.json.encode(document), type=status_reader.Job, strict=False)


def _screens(progress: Progress, objections: dict[str, str]) -> str:
    """What the terminal and Flower say of a moment of a job."""
    page = _page(progress, objections)
    told = [sentence(progress), note(progress), *lines(progress, 200, 200)]
    told += [
        page_texts.state(page),
        page_texts.reason(page),
        *(page_texts.help_for(page) or ())[:1],
    ]
    told += [button.name + button.ask for button in page_texts.wishes(page)]
    told += [f"{name}: {text}" for name, text in page_texts.facts(page)]
    return "\n".join(told)


@pytest.mark.parametrize("reason", PauseReason)
def test_a_pause_is_told_in_russian_everywhere(
    reason: PauseReason, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [Fault(9, "input.json", N_('"{key}" is missing', key="model"))]
    with closing(publish(tmp_path, faults=faults)) as store:
        store.set_state(JobState.PAUSED, reason=reason, text=REASON, goes_on_at=WHEN.timestamp())
        job, why = store.job(), store.why()
        say_ending(job, store)
        objections = flower_commands.objections(job)
        event = notification.occasion(job)
        word = notification.text(notification.word_of(job, event, why)) if event else ""
        happened = [", ".join(told_event(each, lambda *_: "")) for each in history(store.db)]
        folder = reports.write_all(store, tmp_path / "out")
        page = (folder / "report.html").read_text("utf-8")

    shown = (_screens(progress_of(job, 1.0), objections), capsys.readouterr().err, word)
    for screen in (
        *shown,
        *happened,
        re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL),
    ):
        check(screen)
    assert "вызов стоил 3 ₽, больше максимума 2 ₽" in " ".join((*happened, page))
    assert language._(next(iter(why.skipped)).message) == 'нет поля "model"'
    english = (folder / "errors.jsonl").read_text("utf-8")
    assert '\\"model\\" is missing' in english


@pytest.mark.parametrize("stall", Stall)
def test_a_stalled_job_is_told_in_russian(stall: Stall, tmp_path: Path) -> None:
    text = N_("Redis does not answer ({kind})", kind="ConnectionError")
    with closing(publish(tmp_path)) as store:
        progress = progress_of(store.job(), 1.0)
    stalled = Stalled(stall, WHEN.timestamp(), str(text), text.data)

    check(_screens(at_standstill(progress, stalled), {}))
    check(_screens(at_standstill(progress, stalled, WHEN.timestamp()), {}))


def test_what_holds_a_job_up_is_told_in_russian(tmp_path: Path) -> None:
    said = N_("the response is not a chat completion: {words}", words="<html>")
    wait = Wait("endpoint.down", str(said), WHEN.timestamp(), data=said.data)
    with closing(publish(tmp_path)) as store:
        job = replace(store.job(), state=JobState.IN_PROGRESS)
    attention = Attention(N_("the embedded server does not answer"), 1.0, 1.0)

    for progress in (
        progress_of(job, 1.0, wait=wait),
        progress_of(job, 1.0, down_s=9.0),
        replace(progress_of(job, 1.0), attention=attention),
    ):
        check(_screens(progress, {}))
