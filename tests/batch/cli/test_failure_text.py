"""The commands that help, by what failed and what was cut off."""

from __future__ import annotations

import pytest

from batch.cli.failure_text import cause_lines, ways_out
from batch.store.failure_causes import Causes, Why
from tests.batch.making import JOB


def why(*codes: str, truncated: int = 0) -> Why:
    found = Why(Causes(), Causes(), Causes())
    for line, code in enumerate(codes, start=1):
        found.failures.add(code, line, f"says line {line}", 400)
    for line in range(truncated):
        found.flagged.add("truncated", line + 1)
    return found


@pytest.mark.parametrize(
    ("found", "commands"),
    [
        (why(), []),
        (why("endpoint.5xx", "endpoint.cut"), ["resume {} --retry failed"]),
        (why("endpoint.too_large"), ["failures {} --input > failed.jsonl"]),
        (
            why("endpoint.too_large", "endpoint.cut", "endpoint.5xx"),
            [
                "resume {} --retry endpoint.5xx,endpoint.cut",
                "failures {} --code endpoint.too_large --input > failed.jsonl",
            ],
        ),
        (why(truncated=2), ["resume {} --retry truncated --max-tokens 4000"]),
    ],
)
def test_each_kind_of_failure_has_the_command_that_helps(found: Why, commands: list[str]) -> None:
    told = [command for _, command in ways_out(found, JOB)]

    assert told == [f"nightshift {command.format(JOB)}" for command in commands]


def test_a_thousand_failures_are_a_few_lines() -> None:
    many = why(*(f"endpoint.{number % 60}" for number in range(1000)), truncated=1000)

    lines = list(cause_lines(many, JOB))

    assert len(lines) <= 12
    assert lines[-1].endswith("lines 1, 2, 3, 4, 5, 6, 7, 8 and 992 more")
