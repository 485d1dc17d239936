"""Axes: round figures and round local times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from batch.plotting import TimeAxis, offset_s, round_time, round_up

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("least", "top"),
    [(0.00071, 0.0008), (1.0, 1.0), (7.0, 8.0), (10.0, 10.0), (1001.0, 2000.0)],
)
def test_the_end_of_an_axis_is_a_round_figure_of_the_same_kind(least: float, top: float) -> None:
    assert round_up(least) == pytest.approx(top)
    assert round_up(Decimal(str(least))) == Decimal(str(top))
    assert round_up(1.1, (1, 1.2, 10)) == 1.2


@pytest.mark.parametrize(("least", "step"), [(0.2, 1), (3, 5), (40_000, 43_200), (90_000, 172_800)])
def test_the_step_between_ticks_is_a_round_time(least: float, step: float) -> None:
    assert round_time(least) == step


@pytest.mark.parametrize("hours", [-3.5, 0, 5.75])
def test_ticks_stand_at_round_times_of_the_readers_clock(hours: float) -> None:
    zone = timezone(timedelta(hours=hours))

    def clock(moment: float) -> datetime:
        return datetime.fromtimestamp(moment, zone)

    axis = TimeAxis(NOON + 77, NOON + 77 + 6 * 3600, offset_s(clock, NOON))
    ticks, step = axis.ticks(6)

    assert step == 3600
    assert 5 <= len(ticks) <= 7
    assert all(clock(moment).minute == clock(moment).second == 0 for _, moment in ticks)
    assert all(0 <= place < 100 for place, _ in ticks)
    assert [place for place, _ in ticks] == [axis.at(moment) for _, moment in ticks]
