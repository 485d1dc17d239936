"""Days and months by the calendar of a zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.period import QUARTER_S, Period, span

MOSCOW = "Europe/Moscow"


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        (Period.DAY, "2026-11-24T20:59:59+00:00", "2026-11-23T21:00", "2026-11-24T21:00"),
        (Period.DAY, "2026-11-24T21:00:00+00:00", "2026-11-24T21:00", "2026-11-25T21:00"),
        (Period.MONTH, "2026-11-24T20:59:59+00:00", "2026-10-31T21:00", "2026-11-30T21:00"),
        (Period.MONTH, "2026-12-31T21:00:00+00:00", "2026-12-31T21:00", "2027-01-31T21:00"),
        (Period.MONTH, "2028-02-29T12:00:00+00:00", "2028-01-31T21:00", "2028-02-29T21:00"),
    ],
)
def test_days_and_months_begin_at_midnight_of_the_zone(
    period: Period, now: str, start: str, end: str
) -> None:
    found = span(period, MOSCOW, datetime.fromisoformat(now))

    told = tuple(each.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") for each in found)
    assert told == (start, end)


@given(
    st.sampled_from(Period),
    st.sampled_from(sorted(available_timezones())),
    st.datetimes(datetime(2025, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
)
def test_a_moment_is_within_its_period_which_begins_at_a_quarter(
    period: Period, zone: str, moment: datetime
) -> None:
    now = moment.replace(tzinfo=UTC)

    start, end = span(period, zone, now)

    assert start.timestamp() <= now.timestamp() < end.timestamp()
    assert start.timestamp() % QUARTER_S == end.timestamp() % QUARTER_S == 0
