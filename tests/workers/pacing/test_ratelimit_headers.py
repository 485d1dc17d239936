"""Limits that gateways tell in headers."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from workers.pacing.ratelimit_headers import RateLimitHeaders

NOW = 1_741_305_600.0


def told(*answers: dict[str, str]) -> tuple[int, int]:
    one = RateLimitHeaders()
    for headers in answers:
        one.hear({f"x-ratelimit-{name}": text for name, text in headers.items()}, NOW)
    return one.rpm, one.tpm


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, (0, 0)),
        ({"limit-requests": "600", "limit-tokens": "90000"}, (600, 90_000)),
        ({"limit-requests": "600", "reset-requests": "1.5s"}, (600, 0)),
        ({"limit-requests": "600", "reset-requests": "350ms"}, (600, 0)),
        ({"limit-tokens": "6000", "reset-tokens": "59"}, (0, 6000)),
        # Of a second: ten of a minute would need six seconds to be whole again.
        ({"limit-requests": "10", "reset-requests": "1s"}, (600, 0)),
        ({"limit": "100", "remaining": "20", "reset": "1"}, (6000, 0)),
        ({"limit-requests": "60", "remaining-requests": "59", "reset-requests": "1s"}, (60, 0)),
        # Of a day, though it says so nowhere.
        ({"limit-requests": "1000", "reset-requests": "1m26.4s"}, (0, 0)),
        ({"limit-requests": "14400", "reset-requests": "2m59.56s"}, (0, 0)),
        ({"limit-requests": "14400", "reset-requests": "1h0m0s"}, (0, 0)),
        # A moment, in seconds or milliseconds.
        ({"limit": "20", "reset": f"{NOW + 40:.0f}"}, (20, 0)),
        ({"limit": "20", "reset": f"{(NOW + 40) * 1000:.0f}"}, (20, 0)),
        ({"limit": "50", "reset": f"{(NOW + 7200) * 1000:.0f}"}, (0, 0)),
        ({"limit-requests": "0", "reset-requests": "1s"}, (0, 0)),
        ({"limit-requests": "-5"}, (0, 0)),
        ({"limit-requests": "many"}, (0, 0)),
        ({"limit-requests": "1e9"}, (0, 0)),
        ({"limit-requests": "9" * 40}, (0, 0)),
        ({"limit-requests": "60", "reset-requests": "soon"}, (60, 0)),
    ],
)
def test_limits_are_read_in_the_unit_that_their_reset_tells(
    headers: dict[str, str], limits: tuple[int, int]
) -> None:
    assert told(headers) == limits


def test_a_moment_is_measured_by_the_clock_of_the_endpoint() -> None:
    one, day = RateLimitHeaders(), 24 * 3600
    told = {"x-ratelimit-limit": "20", "x-ratelimit-reset": f"{NOW + 40:.0f}"}

    one.hear({**told, "date": formatdate(NOW, usegmt=True)}, NOW - day)

    assert one.rpm == 20


def test_a_longer_reset_shows_that_a_limit_is_not_of_a_second_or_a_minute() -> None:
    soon = {"limit-requests": "10", "reset-requests": "1s"}

    assert told(soon, {"limit-requests": "10", "reset-requests": "40s"}, soon) == (10, 0)
    assert told(soon, {"limit-requests": "10", "reset-requests": "3h"}, soon) == (0, 0)
