"""Limits that gateways tell in headers."""

from __future__ import annotations

import pytest

from workers.pacing.told import told_limits


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, (0, 0)),
        ({"limit-requests": "600", "limit-tokens": "90000"}, (600, 90_000)),
        ({"limit-requests": "600", "reset-requests": "1.5s"}, (600, 0)),
        ({"limit-requests": "600", "reset-requests": "350ms"}, (600, 0)),
        ({"limit-tokens": "6000", "reset-tokens": "59"}, (0, 6000)),
        # Of a day, though it says so nowhere.
        ({"limit-requests": "14400", "reset-requests": "2m59.56s"}, (0, 0)),
        ({"limit-requests": "14400", "reset-requests": "1h0m0s"}, (0, 0)),
        ({"limit-requests": "-5"}, (0, 0)),
        ({"limit-requests": "many"}, (0, 0)),
        ({"limit-requests": "1e9"}, (0, 0)),
        ({"limit-requests": "9" * 40}, (0, 0)),
        ({"limit-requests": "60", "reset-requests": "soon"}, (60, 0)),
    ],
)
def test_limits_are_read_where_they_are_of_a_minute(
    headers: dict[str, str], limits: tuple[int, int]
) -> None:
    assert told_limits({f"x-ratelimit-{name}": text for name, text in headers.items()}) == limits
