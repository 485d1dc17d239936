"""Hours of the night: over midnight, in any zone, through both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.window import Window, parse_window

MOSCOW = ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda at: f"{at[0]:02}:{at[1]:02}")
ZONES = st.sampled_from(["UTC", "Europe/Moscow", "Europe/Berlin", "Asia/Kathmandu", "Etc/GMT+5"])
MOMENTS = st.integers(1_577_836_800, 2_082_758_399).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start, end = draw(TIMES), draw(TIMES)
    if start == end:
        end = f"{(int(end[:2]) + 1) % 24:02}{end[2:]}"
    return parse_window(f"{start}-{end}@{draw(ZONES)}")


@pytest.mark.parametrize(
    ("clock", "inside"),
    [
        ("22:59", False),
        ("23:00", True),
        ("23:59", True),
        ("00:00", True),
        ("06:59", True),
        ("07:00", False),
        ("12:00", False),
    ],
)
def test_a_window_over_midnight_is_open_from_its_start_up_to_its_end(
    clock: str, inside: bool
) -> None:
    window = parse_window("23:00-07:00@Europe/Moscow")
    hour, minute = clock.split(":")

    now = datetime(2026, 3, 3, int(hour), int(minute), tzinfo=MOSCOW)

    assert window.contains(now) is inside
    assert window.contains(now.astimezone(UTC)) is inside


def test_a_window_within_a_day_is_closed_at_night() -> None:
    window = parse_window("09:00-18:00@Europe/Moscow")

    assert window.contains(datetime(2026, 3, 3, 6, 0, tzinfo=UTC))
    assert not window.contains(datetime(2026, 3, 3, 15, 0, tzinfo=UTC))
    assert not window.contains(datetime(2026, 3, 3, 0, 0, tzinfo=UTC))


def test_it_opens_next_today_if_that_is_still_to_come_and_else_tomorrow() -> None:
    window = parse_window("23:00-07:00@Europe/Moscow")

    before = window.next_opening(datetime(2026, 3, 3, 12, 0, tzinfo=MOSCOW))
    within = window.next_opening(datetime(2026, 3, 3, 23, 30, tzinfo=MOSCOW))

    assert before == datetime(2026, 3, 3, 23, 0, tzinfo=MOSCOW)
    assert within == datetime(2026, 3, 4, 23, 0, tzinfo=MOSCOW)


def test_a_window_keeps_to_the_wall_clock_when_summer_time_comes() -> None:
    """On 29 March 2026 Berlin's clocks go from 02:00 to 03:00."""
    window = parse_window("23:00-07:00@Europe/Berlin")

    opening = window.next_opening(datetime(2026, 3, 28, 23, 30, tzinfo=BERLIN))

    assert opening.astimezone(UTC) == datetime(2026, 3, 29, 21, 0, tzinfo=UTC)
    assert window.contains(datetime(2026, 3, 29, 4, 59, tzinfo=UTC))
    assert not window.contains(datetime(2026, 3, 29, 5, 0, tzinfo=UTC))


def test_a_start_that_the_clock_skips_is_passed_all_the_same() -> None:
    window = parse_window("02:30-05:00@Europe/Berlin")

    assert not window.contains(datetime(2026, 3, 29, 0, 59, tzinfo=UTC))
    assert window.contains(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))


def test_an_hour_that_comes_twice_is_within_the_window_twice() -> None:
    """On 25 October 2026 Berlin's clocks go from 03:00 back to 02:00."""
    window = parse_window("02:00-03:00@Europe/Berlin")

    inside = [
        window.contains(datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=minutes))
        for minutes in range(-30, 181, 30)
    ]

    assert inside == [False, True, True, True, True, False, False, False]


@given(windows())
def test_a_window_reads_what_it_writes(window: Window) -> None:
    assert parse_window(str(window)) == window


@given(windows(), MOMENTS)
def test_the_next_opening_lies_ahead_within_a_day_and_an_hour(
    window: Window, now: datetime
) -> None:
    opening = window.next_opening(now)

    assert now < opening.astimezone(UTC) <= now + timedelta(hours=25)
    local = opening.astimezone(UTC).astimezone(ZoneInfo(window.zone))
    # A start that the clock skips comes an hour later.
    assert local.time() == window.start or local.utcoffset() != opening.utcoffset()


@given(windows(), MOMENTS)
def test_a_moment_is_in_a_window_or_in_the_rest_of_the_day(window: Window, now: datetime) -> None:
    rest = Window(window.end, window.start, window.zone)

    assert window.contains(now) is not rest.contains(now)


@pytest.mark.parametrize(
    "text",
    [
        *("", "23:00", "23:00-", "23-7", "23:00-07:00@", "7:00-8:00", "23:00–07:00"),
        *("24:00-07:00", "23:60-07:00", "23:00-23:00", "23:00-07:00@Mars/Phobos"),
        *("23:00-07:00@../../etc/passwd", "23:00-07:00@/etc/passwd", "23:00-07:00@Europe"),
        *("٢٣:00-07:00", "23:00-07:00\n23:00-07:00", "23:00-07:00@Europe/Moscow\x00"),
    ],
)
def test_what_is_no_window_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a |invalid hour|same minute"):
        parse_window(text)
