"""What of a job's settings was changed by whoever filled the form in."""

from __future__ import annotations

from decimal import Decimal

import pytest

from batch import language
from batch.coordinator import flower_commands
from batch.flower import forms
from batch.flower.status_reader import Job
from jobs.states import JobState

SHOWN = Job(
    "job_x", "x", JobState.IN_PROGRESS, 1, budget_rub=Decimal(500), window="23:00-07:00@Asia/Omsk"
)
NOW = Job("job_x", "x", JobState.IN_PROGRESS, 1, budget_rub=Decimal(1000), max_in_flight=5)


@pytest.mark.parametrize(
    ("filled", "changed"),
    [
        ({}, {}),
        ({"priority": "high"}, {"priority": "high"}),
        ({"budget_rub": ""}, {}),
        ({"budget_rub": "700"}, {"budget_rub": "700"}),
        ({"max_in_flight": "5"}, {}),
    ],
)
def test_what_somebody_else_changed_while_the_form_was_open_is_left_alone(
    filled: dict[str, str], changed: dict[str, str]
) -> None:
    was = forms.current(SHOWN)
    form = {**was, **filled} | {f"was_{name}": text for name, text in was.items()}

    assert forms.figures(NOW, form.get) == changed


def test_hours_without_a_zone_are_not_moved_by_saving_the_form() -> None:
    job = Job("job_x", "x", JobState.IN_PROGRESS, 1, window="23:00-07:00")

    assert forms.figures(job, forms.current(job).get) == {}
    assert forms.figures(job, {"priority": "high"}.get) == {"priority": "high"}


@pytest.mark.parametrize(
    ("cookie", "machine", "zone"),
    [
        ("Asia/Omsk", "Europe/Moscow", "Asia/Omsk"),
        ("", "Europe/Moscow", "Europe/Moscow"),
        ("Nowhere/Else", ":Europe/Moscow", "Europe/Moscow"),
        ("", "MSK-3", "UTC"),
    ],
)
def test_hours_without_a_zone_are_those_of_a_zone_that_a_job_can_have(
    cookie: str, machine: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", machine)
    language.use_zone(cookie)
    job = Job("job_x", "x", JobState.IN_PROGRESS, 1)

    found = forms.figures(job, {"window": "22:00-06:00"}.get)

    language.use_zone("")
    assert found == {"window": f"22:00-06:00@{zone}"}
    assert flower_commands.change_of(found).fields["window"] == f"22:00-06:00@{zone}"
