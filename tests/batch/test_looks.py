"""What commands show of a job, and how they remove it: in this process, on a real home."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch.main import cli
from batch.money.caps import KeyCaps, read_caps
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.registry import Registry
from jobs.errors import NightshiftError
from jobs.states import JobState
from scripts import schemas
from tests.batch.making import JOB, call, closing, delivery, feed, publish, result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A job of three requests: r-1 and r-3 answered, r-2 failed; all is written."""
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    store = publish(tmp_path, 3)
    chunk = feed(store, 3)
    costs = ["0.5", "0.25", "0.7500001"]
    calls = [call(place, chunk.chunk, cost=cost) for place, cost in enumerate(costs)]
    ends = [
        result(0, chunk.chunk),
        result(1, chunk.chunk, code="endpoint.bad_request"),
        result(2, chunk.chunk, flags=("truncated",)),
    ]
    delivery_ledger.apply(store, [delivery(calls, ends, [closing(chunk.chunk, calls=3)])])
    store.set_state(JobState.FINALIZING)
    store.set_state(JobState.COMPLETED, now=1005.0)
    store.written(store.revision())
    store.close()
    return Home(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False)


def documents(*words: str) -> list[dict[str, Any]]:
    found = run(*words, "--json").stdout.splitlines()
    for each in found:
        schemas.check(each, schemas.COMMANDS[words[0]])
    return [json.loads(each) for each in found]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("row", [(), ("2",), ("r-2",)])
def test_a_request_is_shown_by_its_line_and_its_id_and_the_first_failed_one_without(
    row: tuple[str, ...],
) -> None:
    shown = run("show", JOB, *row).stdout

    assert "custom_id r-2" in shown
    assert "failed: endpoint.bad_request (HTTP 400): says endpoint.bad_request" in shown
    assert "cost 0.25 ₽, 1 attempt\n" in shown


@pytest.mark.usefixtures("home")
def test_programs_get_the_request_its_end_and_its_calls() -> None:
    (good,) = documents("show", "latest", "r-3")

    assert (good["state"], good["body"]["n"], good["response"]["status_code"]) == (
        "completed",
        3,
        200,
    )
    assert [Decimal(each["cost"]) for each in good["calls"]] == [Decimal("0.7500001")]
    assert good["nightshift"]["cost_rub"] == "0.7500001"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("--failed", ["r-2"]),
        ("--truncated", ["r-3"]),
        ("--flagged", ["r-3"]),
        ("--costliest", ["r-3", "r-1", "r-2"]),
        ("--slowest", ["r-1", "r-2", "r-3"]),
    ],
)
def test_what_is_worth_a_look_is_listed(kind: str, ids: list[str]) -> None:
    assert [each["custom_id"] for each in documents("show", JOB, kind)] == ids
    assert [line.split()[1] for line in run("show", JOB, kind).stdout.splitlines()] == ids
    assert len(documents("show", JOB, kind, "--limit", "1")) == 1


@pytest.mark.usefixtures("home")
def test_a_request_that_is_not_there_is_told() -> None:
    refusal = run("show", JOB, "9").exception

    assert isinstance(refusal, NightshiftError)
    assert "has no request '9'" in refusal.message


def test_jobs_that_are_over_are_removed_after_a_yes(home: Home) -> None:
    assert JOB in run("prune").stdout
    assert isinstance(run("rm", "latest").exception, NightshiftError)
    assert run("prune", "--older-than", "90000d").stdout == ""
    assert home.job_ids() == [JOB]

    assert "1 job removed" in run("prune", "--older-than", "1d", "--yes").stderr

    assert home.job_ids() == []


def test_a_key_gets_another_cap_and_keeps_the_rest(home: Home) -> None:
    run("keys", "add", "lab", "--budget-rub-per-day", "5", "--budget-rub-per-month", "50")
    before = Registry(home.folder).keys()

    run("keys", "set", "lab", "--budget-rub-per-day", "7")

    assert read_caps(home.folder).keys["lab"] == KeyCaps(Decimal(7), Decimal(50))
    assert Registry(home.folder).keys() == before
    assert isinstance(run("keys", "set", "lab").exception, NightshiftError)
    assert isinstance(
        run("keys", "set", "x", "--budget-rub-per-day", "7").exception, NightshiftError
    )
