"""What Flower draws of a job."""

from __future__ import annotations

from batch.flower.plots import charts
from batch.watching.time_series import NARROWEST_S, Failure, Series


def test_how_it_goes_now_is_not_told_by_a_span_that_has_just_begun() -> None:
    series = Series(began=1000.0)
    for place in range(3):
        for _ in range(20):
            series.answered(1000.0 + place * NARROWEST_S, 1.0, 2000.0)
    begins, whole = 1000.0 + 2 * NARROWEST_S, 1000.0 + 3 * NARROWEST_S

    assert charts(series, begins + 0.2, None)[0].now == "240 now"
    assert charts(series, whole, None)[0].now == "240 now"
    series.answered(whole + 1.0, 1.0, whole + 1.0)
    assert charts(series, whole + 1.0, None)[0].now == "240 now"
    assert charts(series, whole + NARROWEST_S - 1, None)[0].now == "15 now"


def test_a_job_with_failures_is_drawn_and_of_one_that_rests_nothing_is_told_as_of_now() -> None:
    series = Series(began=1000.0)
    series.answered(1001.0, 1.0, 1010.0)
    for code in ("endpoint.5xx", "endpoint.5xx", "endpoint.timeout"):
        series.failed(Failure(1002.0, 1, code, 500, 1), 1010.0)

    drawn = charts(series, 1010.0, None, runs=False)

    # One without a shape in it would only be scrolled past.
    assert [chart.key for chart in drawn] == ["throughput", "latency", "errors"]
    assert not [chart.now for chart in drawn if "now" in chart.now]


def test_what_workers_wait_for_is_drawn_by_cause() -> None:
    series = Series(began=1000.0)
    for place in range(2):
        at = 1001.0 + place * NARROWEST_S
        series.answered(at, 1.0, at)
        series.waited(at, at + 4.0, {"rpm": 4.0, "backoff": 0.5})

    chart = next(each for each in charts(series, 1010.0, None) if each.key == "waiting")

    assert [layer.name for layer in chart.layers] == [
        "the job's limit of requests per minute",
        "the pause before failed calls are made again",
    ]
    assert chart.now == "0.9 now"
    assert "the job's limit of requests per minute 0.8, the pause" in chart.columns[0].text


def test_a_value_alone_is_a_line_as_long_as_its_span() -> None:
    series = Series(began=1000.0)
    series.answered(1001.0, 1.0, 1001.0)

    latency = next(each for each in charts(series, 1004.0, None) if each.key == "latency")

    begin, end = latency.layers[0].path.removeprefix("M").split(" L")
    assert (begin.split(",")[0], end.split(",")[0]) == ("0.0", "1000.0")
