"""Whole jobs against an endpoint that does what others were seen to do, all in a few runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.conftest import Shell, read_lines, wait_until
from tests.acceptance.world import (
    COST,
    FAILING,
    FORMS,
    PASSING,
    STOPPING,
    World,
    answer,
    error,
    lines,
)
from tests.conftest import Workdir

ROWS = 6


@dataclass
class Night:
    """What came of a run: the lines of both files by `custom_id`, and what the endpoint counted."""

    world: World
    done: dict[str, dict[str, Any]]
    failed: dict[str, dict[str, Any]]
    told: str

    def of(self, model: str) -> list[dict[str, Any]]:
        """The answered rows of a model."""
        return [line for name, line in self.done.items() if name.startswith(f"{model}/")]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """One run of all that passes or ends a row: it ends by itself, with some failed."""
    behaviours = PASSING | FORMS | {name: how for name, (how, _, _) in FAILING.items()}
    folder = tmp_path_factory.mktemp("world") / "work"
    folder.mkdir()
    shell = Shell(Workdir(folder))
    with World(behaviours) as world:
        shell.environ["NIGHTSHIFT_BASE_URL"] = world.base_url
        shell.write("night.jsonl", lines(behaviours, ROWS))
        try:
            ended = shell("run", "night.jsonl", "-o", "out", "--gateway", "routerai", code=1)
        finally:
            shell.end()
        done, failed = (
            {line["custom_id"]: line for line in read_lines(folder / "out" / f"{name}.jsonl")}
            for name in ("output", "errors")
        )
        yield Night(world, done, failed, ended.err)


@pytest.mark.parametrize("model", PASSING)
def test_what_passes_costs_no_row(night: Night, model: str) -> None:
    assert len(night.of(model)) == ROWS
    extra = sum(n for (name, _), n in night.world.calls.items() if name == model) - ROWS
    assert 1 <= extra <= 6


@pytest.mark.parametrize("model", FORMS)
def test_a_paid_answer_is_kept_whatever_its_form_and_bought_once(night: Night, model: str) -> None:
    answered = night.of(model)

    assert len(answered) == ROWS
    assert all(night.world.calls[model, number] == 1 for number in range(ROWS))
    assert {line["nightshift"]["cost_rub"] for line in answered} == {COST}
    for line in answered:
        (choice,) = line["response"]["body"]["choices"]
        assert "message" in choice


def test_flags_are_signal(night: Night) -> None:
    flags = {model: night.of(model)[0]["nightshift"].get("flags", []) for model in FORMS}

    assert {model: one for model, one in flags.items() if one} == {
        "reasoning-alone": ["only_reasoning"],
        "max-tokens": ["truncated"],
        "prohibited": ["filtered"],
        "safety": ["filtered"],
        "refused": ["refusal"],
    }


def test_a_stream_is_put_together_with_its_usage(night: Night) -> None:
    for line in night.of("stream"):
        body = line["response"]["body"]
        number = line["custom_id"].rpartition("/")[2]
        assert body["choices"][0]["message"] == {"role": "assistant", "content": f"ответ {number}"}
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["usage"]["total_tokens"] == 16


@pytest.mark.parametrize("model", FAILING)
def test_what_concerns_a_row_fails_that_row_with_the_words(night: Night, model: str) -> None:
    _, code, words = FAILING[model]
    told = night.failed[f"{model}/1"]["nightshift"]

    assert len(night.of(model)) == ROWS - 1
    assert told["code"] == code
    assert words in told["message"]
    assert night.world.calls[model, 1] <= 4


def test_nothing_is_lost(night: Night) -> None:
    assert len(night.done) + len(night.failed) == ROWS * len(night.world.behaviours)
    assert set(night.failed) == {f"{model}/1" for model in FAILING}


# ── What waits for the user ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def world(shell: Shell) -> Iterator[World]:
    """An endpoint of which some models are never answered."""
    with World(dict(STOPPING)) as one:
        shell.environ["NIGHTSHIFT_BASE_URL"] = one.base_url
        yield one


def stand(shell: Shell) -> dict[str, Any]:
    """How the job stands, as programs are told."""
    found: dict[str, Any] = json.loads(shell("status", "latest", "--json").out)
    return found


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ("limit-0", "rate_limited", "HTTP 429: Quota exceeded, limit: 0"),
        ("vllm-404", "misconfigured", "HTTP 404: The model `vllm-404` does not exist."),
        ("balance-1113", "insufficient_balance", "HTTP 429: 您的账户已欠费"),
    ],
)
def test_one_model_rests_with_the_words_and_the_others_go_on(
    shell: Shell, world: World, model: str, reason: str, words: str
) -> None:
    shell.write("in.jsonl", lines(["well", model], 8))

    limits = ("--stop-after", "2", "--stop-after-rows", "2", "--gateway", "routerai")
    paused = shell("run", "in.jsonl", "-o", "out", *limits, code=3)
    told = stand(shell)

    assert (told["state"], told["reason"], told["completed"]) == ("paused", reason, 8)
    assert told["failed"] == 0
    assert words in told["reason_text"]
    assert words in paused.err
    world.behaviours[model] = answer
    shell("resume", "latest", "--yes")
    assert stand(shell)["completed"] == 16


def test_a_key_that_is_rejected_for_good_pauses_the_job_and_no_row_fails(
    shell: Shell, world: World
) -> None:
    shell.write("in.jsonl", lines(["well"], 60))
    world.behaviours["well"] = lambda asked: (
        answer(asked) if asked.nth <= 10 else error(401, "User not found.")
    )

    shell("run", "in.jsonl", "-o", "out", "--stop-after", "2", "--gateway", "routerai", code=3)
    told = stand(shell)

    assert (told["reason"], told["failed"]) == ("key_rejected", 0)
    assert told["completed"] == 10
    assert "HTTP 401: User not found." in told["reason_text"]


def test_a_resume_does_not_meet_the_same_row_again_and_again(shell: Shell, world: World) -> None:
    shell.write("in.jsonl", lines(["well"], 10))
    world.behaviours["well"] = lambda asked: (
        error(401, "No access for this one") if asked.row == 9 else answer(asked)
    )
    limits = ("--stop-after", "2", "--stop-after-rows", "3", "--gateway", "routerai")
    run = shell.start("run", "in.jsonl", "-o", "out", *limits)
    wait_until("it rests or ends", lambda: run.process.poll() is not None)
    if run.process.returncode == 3:
        shell("resume", "latest", "--yes", code=1)

    (failed,) = read_lines(shell.folder / "out" / "errors.jsonl")
    assert failed["custom_id"] == "well/9"
    assert "No access for this one" in failed["nightshift"]["message"]


def test_a_wait_is_told_with_the_words_and_a_resume_ends_it(shell: Shell, world: World) -> None:
    shell.write("in.jsonl", lines(["well"], 8))
    limited = error(429, "Rate limit reached, please retry after 86400 seconds", code=429)
    world.says = lambda _: limited
    run = shell.start("run", "in.jsonl", "-o", "out", "--gateway", "routerai")
    wait_until("the wait is told", lambda: any(job.get("wait") for job in shell.jobs()))
    told, status = stand(shell), shell("status", "latest").out
    before = world.times["well"]
    world.says = None

    shell("resume", "latest", "--yes")
    run.ends(0)

    wait = told["wait"]
    assert wait["code"] == "endpoint.rate_limited"
    assert "HTTP 429: Rate limit reached, please retry after 86400 seconds" in wait["said"]
    assert wait["until"] - wait["next_at"] > 80_000
    assert told["reason"] == "rate_limited"
    assert "asked to wait until" in status
    assert "please retry after 86400 seconds" in status
    assert before <= 10
    assert Decimal(json.loads((shell.folder / "out" / "cost.json").read_text())["cost_rub"])
