"""A new reason for a pause is written in one place, and all that tell of pauses know it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import lifecycle
from jobs.message import Message
from jobs.pause_reasons import Ends, PauseReason, pausing, reason_for
from jobs.states import JobState
from tests.batch.making import publish

ROOT = Path(__file__).parents[2]
NEW = '''FULL_MOON = (
        "full_moon",
        Pausing("the moon is full", cure="wait for dawn, then:", options=" --rpm 1", bars="moon"),
    )
    USER = ("user"'''
PROGRAM = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import jobs.pause_reasons
import msgspec
from batch import reports
from batch.coordinator import flower_commands
from batch.coordinator.redis.flower_inbox import Wish
from batch.cli import exit_summary, progress_text
from batch.flower import page_texts, status_reader
from batch.notifications import notification
from batch.watching.progress import progress_of
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from scripts import reference
from tests.batch.making import publish

folder = Path(sys.argv[1])
store = publish(folder, 1)
store.set_state(JobState.PAUSED, reason=PauseReason("full_moon"), text="it shines")
job, why = store.job(), store.why()
progress = progress_of(job, 0.0).as_json()
objections = flower_commands.objections(job)
seen = {**progress, "objections": objections, "coordinated": True}
page = msgspec.convert(seen, status_reader.Job, strict=False)
told = notification.word_of(job, notification.occasion(job), why)
print(json.dumps({
    "status": progress_text.standing(job.state, job.reason),
    "ending": list(exit_summary.ways_on(job, why)),
    "json": [progress["needs_action"], progress["remedy"]],
    "badge": [page_texts.state(page), page_texts.reason(page), page.needs_action],
    "buttons": [each.wish for each in page_texts.wishes(page)],
    "help": page_texts.help_for(page),
    "click": page_texts.answer(flower_commands.heed(store, Wish("resume", "token", 0.0)), page),
    "event": told["event"],
    "notification": notification.text(told).splitlines(),
    "report": (reports.write_all(store, folder / "out") / "report.html").read_text("utf-8"),
    "reference": list(reference.pauses()),
}))
"""


def test_a_new_reason_is_written_in_one_place(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    reasons = tmp_path / "jobs" / "pause_reasons.py"
    reasons.write_text(reasons.read_text("utf-8").replace('USER = ("user"', NEW), "utf-8")
    folders = map(str, (tmp_path / "home", tmp_path, ROOT))

    ran = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *folders],
        env={**os.environ, "NIGHTSHIFT_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    ((texts, command),) = told["ending"]
    assert (texts, command.split()[:2]) == ("wait for dawn, then:", ["nightshift", "resume"])
    assert command.endswith(" --rpm 1")
    assert told["status"] == "paused (the moon is full)"
    assert told["json"] == [True, command]
    assert told["badge"] == ["Paused", "the moon is full: it shines", True]
    assert told["buttons"] == ["cancel"]
    assert told["help"] == ["wait for dawn, then:", command]
    assert told["click"] == f"The moon is full. wait for dawn, then: {command}"
    assert told["event"] == "paused.full_moon"
    assert (told["notification"][0], told["notification"][-1]) == ("The moon is full.", command)
    assert "The moon is full." in told["report"]
    assert command in re.sub("<[^>]*>", "", told["report"])
    assert any("`full_moon` | the moon is full | by you" in line for line in told["reference"])


@pytest.mark.parametrize("reason", PauseReason)
def test_what_is_told_of_a_pause_agrees(tmp_path: Path, reason: PauseReason) -> None:
    """Who must act is told how; who need not is not; a resume that can only fail is not offered."""
    store = publish(tmp_path, 2)
    at = 4e9 if reason.rule.ends is Ends.BY_ITSELF else None
    store.set_state(JobState.PAUSED, reason=reason, text=Message("it rests"), goes_on_at=at)
    job = store.job()

    found = lifecycle.remedy(job)
    assert found is not None
    assert job.id in found.command or found.command.startswith("nightshift budget")
    assert "{" not in found.command
    acts = lifecycle.needs_action(job.state, job.reason)
    waits = lifecycle.shown(job.state, job.reason) != JobState.PAUSED
    assert acts + waits + reason.rule.is_wanted == 1
    assert not (waits and lifecycle.is_at_rest(job))
    store.close()


@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        ("misconfigured", "endpoint.bad_request", "same_error"),
        ("misconfigured", "endpoint.wrong_address", "misconfigured"),
        ("misconfigured", "endpoint.model_not_found", "misconfigured"),
        ("key_rejected", "endpoint.key_rejected", "key_rejected"),
    ],
)
def test_ten_equal_errors_are_not_a_wrong_address(told: str, code: str, reason: str) -> None:
    assert reason_for(PauseReason(told), code) == reason


def test_a_reason_that_is_unknown_here_needs_somebody() -> None:
    assert pausing("of_a_later_version").ends is Ends.BY_SOMEBODY
