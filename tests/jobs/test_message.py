"""A message: what it says, and what it is read back from."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobs.errors import InvalidValue
from jobs.message import N_, NOTHING, Message, joined
from jobs.window import parse_window

OPENING = datetime(2026, 11, 29, 2, 0, tzinfo=ZoneInfo("Europe/Moscow"))


def test_a_message_is_its_english_text() -> None:
    told = N_(
        "{path}: {count:,} of {all} ({share:.0%}), {rub}, {rub:exact}, {name!r} until {opening}",
        path=Path("a.csv"),
        count=12345,
        all=20000,
        share=0.62,
        rub=Decimal("0.123456"),
        name="x'y",
        opening=OPENING,
    )

    assert told == (
        'a.csv: 12,345 of 20000 (62%), 0.1235 ₽, 0.123456, "x\'y" until 2026-11-29 02:00 MSK'
    )
    assert type(str(told)) is str


def test_braces_that_are_no_blanks_stand_for_themselves() -> None:
    assert N_("did you mean {{ {near} }}?", near="a") == "did you mean {{ a }}?"
    assert N_("one object in {}: {x}", y=1) == "one object in {}: {x}"


def test_what_an_error_says_stays_a_message() -> None:
    with pytest.raises(InvalidValue) as wrong:
        parse_window("night")
    told = N_("--window: {why}", why=wrong.value)
    foreign = N_("{path} cannot be read: {why}", path="a", why=OSError(13, "Permission denied"))

    assert isinstance(told.parameters["why"], Message)
    assert told.parameters["why"].parameters == {"text": "night"}
    assert foreign == "a cannot be read: Permission denied"


@pytest.mark.parametrize(
    "told",
    [
        NOTHING,
        Message("no blanks"),
        N_("{n:,} of {s}, {d:exact}, {d}", n=1234, s="{n}", d=Decimal("1E-9")),
        N_("until {opening}", opening=OPENING),
        joined([N_("the cap of {cap}", cap=Decimal(5)), N_("resumes at {at}", at=OPENING)]),
        N_("{why}: {more}", why=N_("{why}", why=N_("deep {x}", x=1.5)), more=NOTHING),
    ],
)
def test_a_stored_message_is_read_back_as_it_was(told: Message) -> None:
    back = Message.read(str(told), told.data)

    assert (back, back.form, back.parameters) == (told, told.form, told.parameters)
    assert back.data == told.data


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        "7",
        '{"form": 1, "blanks": {}}',
        '{"form": "{x}", "blanks": {"x": null}}',
        '{"form": "{x}", "blanks": {"x": {"rub": "x"}}}',
        '{"form": "{x}", "blanks": {"x": {"at": "x", "zone": "MSK"}}}',
        '{"form":"{x}","blanks":{"x":' * 50 + "1" + "}}" * 50,
        "[" * 100_000,
    ],
)
def test_data_that_are_none_leave_the_text(data: str) -> None:
    assert Message.read("the text", data) == "the text"


def test_a_form_from_elsewhere_reaches_no_attribute_and_no_width() -> None:
    data = '{"form": "{x.__class__} {x[0]} {x:9999999}", "blanks": {"x": "a"}}'

    assert Message.read("", data) == "{x.__class__} {x[0]} {x:9999999}"
