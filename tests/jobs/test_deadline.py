"""Deadlines as people write them, and the moment at which work is done that rests by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobs.deadline import parse_deadline
from jobs.window import parse_window

MOSCOW = ZoneInfo("Europe/Moscow")
NOW = datetime(2026, 5, 3, 22, 30, tzinfo=MOSCOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("07:00", "2026-05-04T07:00+03:00"),
        ("23:00", "2026-05-03T23:00+03:00"),
        ("22:30", "2026-05-04T22:30+03:00"),
        ("07:00@UTC", "2026-05-04T07:00+00:00"),
        ("2026-05-05T07:00", "2026-05-05T07:00+03:00"),
        ("2026-05-05T07:00+05:00", "2026-05-05T07:00+05:00"),
        ("2026-05-05", "2026-05-05T00:00+03:00"),
    ],
)
def test_a_deadline_is_the_next_such_moment(text: str, moment: str) -> None:
    assert parse_deadline(text, NOW, MOSCOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["", "7", "25:00", "07:61", "07:00@Nowhere/City", "tomorrow"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as"):
        parse_deadline(text, NOW, MOSCOW)


def test_a_moment_that_is_over_is_told() -> None:
    with pytest.raises(ValueError, match="in the past"):
        parse_deadline("2026-05-03T22:30", NOW, MOSCOW)


@pytest.mark.parametrize(
    ("now", "hours", "done"),
    [
        ("2026-05-03T23:30", 2, "2026-05-04T01:30"),
        ("2026-05-03T23:30", 7.5, "2026-05-04T07:00"),
        ("2026-05-03T23:30", 8, "2026-05-04T23:30"),
        ("2026-05-03T12:00", 1, "2026-05-04T00:00"),
        ("2026-05-03T12:00", 20, "2026-05-06T03:00"),
        ("2026-05-04T07:00", 1, "2026-05-05T00:00"),
    ],
)
def test_work_rests_outside_of_the_hours(now: str, hours: float, done: str) -> None:
    window = parse_window("23:00-07:00@Europe/Moscow")
    at = datetime.fromisoformat(now).replace(tzinfo=MOSCOW)

    found = window.after(at, timedelta(hours=hours))

    assert found == datetime.fromisoformat(done).replace(tzinfo=MOSCOW)
    assert window.after(at.astimezone(UTC), timedelta(hours=hours)) == found


def test_a_night_in_which_the_clock_is_set_back_has_an_hour_more() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    window = parse_window("22:00-06:00@Europe/Berlin")
    evening = datetime(2026, 10, 24, 22, 0, tzinfo=berlin)

    assert window.after(evening, timedelta(hours=9)) == datetime(2026, 10, 25, 6, tzinfo=berlin)
