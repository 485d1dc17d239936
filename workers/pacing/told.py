"""The limits that some gateways tell in their headers; RouterAI does not.

`x-ratelimit-limit-requests` and `-tokens`, with `x-ratelimit-reset-…` for when they are whole
again: `1s`, `6m0s`, `350ms`, or seconds. A limit that takes more than a minute to be whole again is
one of a day or an hour (Groq counts requests by the day), and paces nothing by the minute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MARK = "x-ratelimit-limit-"
_NUMBER = re.compile(r"[0-9]{1,12}")
_TIME = re.compile(r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s|d))")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def told_limits(headers: Mapping[str, str]) -> tuple[int, int]:
    """(requests, tokens) per minute by these headers, names in lower case; 0 where none is told."""
    return _limit(headers, "requests"), _limit(headers, "tokens")


def _limit(headers: Mapping[str, str], what: str) -> int:
    text = headers.get(_MARK + what, "")
    if not _NUMBER.fullmatch(text) or _seconds(headers.get(f"x-ratelimit-reset-{what}", "")) > 60:
        return 0
    return int(text)


def _seconds(text: str) -> float:
    """Zero where it makes no sense: then the limit is taken for one of a minute."""
    parts: list[tuple[str, str]] = _TIME.findall(text)
    if parts:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return float(text) if _NUMBER.fullmatch(text) else 0.0
