"""How a job went over time: points, their thinning, and the same from the home as live."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.store import delivery_ledger
from batch.watching.latest_incidents import OTHER
from batch.watching.time_series import (
    BOUNDS_S,
    MOST_CODES,
    MOST_POINTS,
    MOST_RECENT,
    NARROWEST_S,
    Failure,
    Series,
    series_of,
    unpacked,
)
from jobs.errors import BadMessage
from jobs.wire import pack
from tests.batch.making import call, closing, delivery, feed, publish, result

NOW = 1e9


def failure(at: float, code: str = "endpoint.5xx", line: int = 1) -> Failure:
    return Failure(at, line, code, 500, 1)


def test_answers_are_counted_where_they_came() -> None:
    series = Series()

    for at in (1000.0, 1001.0, 1000.0 + 3 * NARROWEST_S):
        series.answered(at, 2.0, NOW)

    assert [point.completed for point in series.points] == [2, 0, 0, 1]
    assert series.began == 1000.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_however_long_it_takes_there_are_only_so_many_points_and_nothing_is_lost(
    moments: list[float],
) -> None:
    series = Series()

    for at in moments:
        series.answered(at, 1.0, NOW)
        series.called(at, 1.0, NOW)
        series.paid(at + 1.0, Decimal("0.1"), NOW)

    assert len(series.points) <= MOST_POINTS
    assert sum(point.completed for point in series.points) == len(moments)
    assert sum(sum(point.latency.values()) for point in series.points) == len(moments)
    assert series.cost == Decimal("0.1") * len(moments)


def test_a_clock_that_is_ahead_does_not_stretch_the_series() -> None:
    series = Series()
    series.answered(1000.0, 1.0, 1001.0)

    series.answered(9e9, 1.0, 1001.0)
    series.called(9e9, 50.0, 1001.0)
    series.paid(9e9, Decimal(1), 1001.0)

    assert series.width == NARROWEST_S
    assert sum(point.completed for point in series.points) == 2


def test_a_call_is_in_flight_in_every_point_that_it_spans() -> None:
    series = Series(began=0.0)

    series.called(2.5, 10.0, NOW)
    series.paid(12.5, Decimal("1.25"), NOW)

    assert [point.busy_s for point in series.points] == [2.5, 5.0, 2.5]
    assert [point.in_flight(series.width) for point in series.points] == [0.5, 1.0, 0.5]
    assert [point.cost for point in series.points] == [0, 0, Decimal("1.25")]


def test_what_workers_told_goes_before_what_calls_took() -> None:
    series = Series()

    series.looked(1000.0, 40, 64, {"endpoint.rate_limited": 3})
    series.looked(1000.5, 60, 64, {})

    (point,) = series.points
    assert point.in_flight(series.width) == 50
    assert point.limit / point.samples == 64
    assert point.errors == {"endpoint.rate_limited": 3}


@given(st.lists(st.floats(0.01, 1000), min_size=1), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_right_to_five_percent(latencies: list[float], share: float) -> None:
    series = Series()
    for latency in latencies:
        series.answered(1000.0, latency, NOW)

    found = series.points[0].quantile(share)

    place = -(-int(share * 100) * len(latencies) // 100)
    exact = sorted(latencies)[max(place, 1) - 1]
    assert found == pytest.approx(exact, rel=0.051)


def test_no_answers_have_no_quantile() -> None:
    series = Series()
    series.failed(failure(1000.0), NOW)

    assert series.points[0].quantile(0.5) is None


def test_the_spread_is_that_of_late_answers() -> None:
    series = Series()
    assert series.spread() == 1.0

    for number in range(98):
        series.answered(1000.0 + number / 100, 2.0, NOW)
    series.answered(1001.0, 20.0, NOW)
    series.answered(1001.0, 20.0, NOW)

    assert series.spread() == pytest.approx(10, rel=0.1)


def test_every_latency_is_in_one_bucket() -> None:
    series = Series()
    for latency in (0.0, *BOUNDS_S, 1e5):
        series.answered(1000.0, latency, NOW)

    assert series.buckets == [2, *[1] * len(BOUNDS_S)]


def test_the_last_failures_are_kept_and_every_code_counts() -> None:
    series = Series()

    for number in range(MOST_RECENT + 5):
        series.failed(failure(1000.0 + number, line=number), NOW)

    assert [each.line for each in series.recent] == list(range(MOST_RECENT + 4, 4, -1))
    assert series.failures == {"endpoint.5xx": MOST_RECENT + 5}


def test_codes_without_end_are_counted_as_others() -> None:
    series = Series()

    for number in range(500):
        series.failed(failure(1000.0, f"code-{number}"), NOW)

    assert len(series.failures) <= MOST_CODES + 1
    assert series.failures[OTHER] == 500 - MOST_CODES
    assert len(series.points[0].errors) <= MOST_CODES + 1


def test_it_is_packed_small_and_read_back() -> None:
    series = Series()
    for number in range(20_000):
        series.answered(1000.0 + number, 1 + number % 37, NOW)
        series.called(1000.0 + number, 1.0, NOW)
        series.paid(1001.0 + number, Decimal("0.0000522948192"), NOW)

    data = series.packed()

    assert len(data) < 64 * 1024
    assert unpacked(data) == series


@pytest.mark.parametrize("data", [b"", b"nonsense", pack(b"\x93\x01\x02\x03"), pack(b"")])
def test_what_is_no_series_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        unpacked(data)


def test_the_home_tells_the_same_as_what_came_in(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    chunk = feed(store)
    calls = [call(n, sent_at=1002.0 + 7 * n, latency_s=3.0, cost="0.3") for n in range(4)]
    results = [result(n, finished_at=1005.0 + 7 * n, latency_s=3.0) for n in range(3)]
    results.append(result(3, finished_at=1026.0, code="endpoint.context_length"))

    applied = delivery_ledger.apply(store, [delivery(calls, results, [closing(chunk.chunk)])])

    live = Series(began=1001.0)
    for each in applied.told_calls:
        live.called(each.sent_at, each.latency_s, NOW)
    for ended, rub in applied.told_costs:
        live.paid(ended, rub, NOW)
    for end in applied.told_results[:3]:
        live.answered(end.finished_at, end.latency_s, NOW)
    live.failed(Failure(1026.0, 4, "endpoint.context_length", 400, 1), NOW)
    assert series_of(store, NOW) == live
    store.close()


def test_a_delivery_that_comes_twice_tells_nothing_new(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    chunk = feed(store)
    sent = delivery([call(0)], [result(0)], [closing(chunk.chunk)])
    delivery_ledger.apply(store, [sent])

    again = delivery_ledger.apply(store, [sent])

    assert (again.told_calls, again.told_results) == ([], [])
    store.close()


def test_nothing_that_was_waited_for_is_lost_where_points_become_wider() -> None:
    series = Series(began=0.0)
    end = MOST_POINTS * series.width + 1

    series.waited(end - 3, end, {"rpm": 3.0})

    assert sum(point.waited.get("rpm", 0.0) for point in series.points) == pytest.approx(3.0)


def test_what_was_waited_for_within_a_minute_is_spread_over_it(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    began = store.job().started_at or 0.0
    minute = began // 60 * 60 + 120
    store.keep_waits(minute + 30, {"rpm": 48.0})

    points = series_of(store, minute + 600).points

    assert sum(point.waited.get("rpm", 0.0) for point in points) == pytest.approx(48.0)
    assert max(point.waited.get("rpm", 0.0) for point in points) == pytest.approx(4.0)
    store.close()
