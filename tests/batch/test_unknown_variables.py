"""A name that begins with NIGHTSHIFT_ and means nothing is told; one of a cap is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batch.main import COMMANDS
from batch.unknown_variables import SETTINGS, check_variables
from jobs.errors import UsageError

ROOT = Path(__file__).parents[2]


def told(name: str, command: str = "run") -> list[str]:
    return list(check_variables({name: "1", "HOME": "/"}, command, COMMANDS))


@pytest.mark.parametrize(
    "name",
    [
        *("NIGHTSHIFT_BUDGET", "NIGHTSHIFT_BUDGET_RUBLES", "NIGHTSHIFT_BUGDET_RUB"),
        *("NIGHTSHIFT_RUB_PER_DAY", "NIGHTSHIFT_SPEND_LIMIT", "NIGHTSHIFT_COST_CAP"),
    ],
)
def test_what_may_be_meant_as_a_cap_is_refused_where_it_would_run_uncapped(name: str) -> None:
    for command in ("run", "submit", "estimate", "coordinator"):
        with pytest.raises(UsageError, match=f"{name} is not a setting, so it would cap nothing"):
            told(name, command)
    assert "does nothing" in told(name, "status")[0]


def test_the_likeliest_name_is_offered() -> None:
    with pytest.raises(UsageError) as refusal:
        told("NIGHTSHIFT_BUDGET")
    assert refusal.value.hint == "did you mean NIGHTSHIFT_BUDGET_RUB?"
    (warned,) = told("NIGHTSHIFT_MODLE")
    assert warned.endswith("did you mean NIGHTSHIFT_MODEL?")


@pytest.mark.parametrize(
    "name",
    [
        *("NIGHTSHIFT_HOME", "NIGHTSHIFT_BUDGET_RUB", "NIGHTSHIFT_API_KEY_FILE", "PATH"),
        *("NIGHTSHIFT_PORT", "NIGHTSHIFT_SMTP_PASSWORD_FILE"),
    ],
)
def test_what_any_command_knows_is_not_told(name: str) -> None:

    assert told(name, "status") == []


def test_every_name_that_is_read_is_known() -> None:
    """Those of options are found out; the others stand in a table."""
    sources = [
        path for folder in ("batch", "jobs", "workers") for path in (ROOT / folder).rglob("*.py")
    ]
    sources += [ROOT / "docker-compose.yml", ROOT / "Dockerfile"]
    read = {
        name
        for path in sources
        for name in re.findall(
            r"(?<!_)NIGHTSHIFT_[A-Z][A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")
        )
    }

    unknown = [list(check_variables({name: ""}, "status", COMMANDS)) for name in sorted(read)]

    assert [each for each in unknown if each] == []
    assert SETTINGS - read == set()
