"""The server's own word on when to come back: read from headers, an error's fields or its text.

What makes no sense (negative, NaN, past, garbage) is as if it had not been said. Nothing raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

LONGEST_S = 86_400.0
"""What exceeds a day is taken for a day."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE]\+?[0-9]{1,2})?")
_TEXT = re.compile(
    r"(?:retry|try again|wait|повторите)\s+(?:in|after|for|через)\s+"
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?(ms|milli|s|m|h|с|м|ч)?",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "milli": 0.001, "m": 60.0, "м": 60.0, "h": 3600.0, "ч": 3600.0}
_SECONDS_KEYS = frozenset({"retry_after", "retryafter", "retry_after_seconds"})
_MILLISECONDS_KEYS = frozenset({"retry_after_ms", "retryafterms"})


def from_headers(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, by `retry-after-ms` or `retry-after` (names in lower case).

    A date is measured from the response's own `date`, so that no wrong clock of ours counts; only
    without one from `now`, Unix time in seconds.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    return _sensible(seconds) if seconds is not None else _until(text, headers.get("date"), now)


def from_fields(fields: Mapping[str, object]) -> float | None:
    """Seconds to wait, by a field of an error: `retry_after`, its `metadata` or its `headers`."""
    for name, value in _flat(fields):
        key = name.lower().replace("-", "_")
        number = _number(str(value).strip()) if not isinstance(value, bool) else None
        if number is not None and key in _SECONDS_KEYS:
            return _sensible(number)
        if number is not None and key in _MILLISECONDS_KEYS:
            return _sensible(number / 1000)
    return None


def from_text(text: str) -> float | None:
    """Seconds to wait, by a sentence such as `Please try again in 7.5s`."""
    found = _TEXT.search(text)
    if found is None:
        return None
    return _sensible(float(found[1]) * _UNITS.get((found[2] or "s").lower(), 1.0))


def _flat(fields: Mapping[str, object], levels: int = 3) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            if levels and name.lower() in {"metadata", "headers", "details"}:
                yield from _flat(value, levels - 1)
        else:
            yield name, value


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _sensible(seconds: float) -> float | None:
    return min(seconds, LONGEST_S) if math.isfinite(seconds) and seconds >= 0 else None


def _until(text: str, date: str | None, now: float) -> float | None:
    then = _moment(text)
    if then is None:
        return None
    sent = _moment(date) if date else None
    return _sensible(then - (now if sent is None else sent))


def _moment(text: str) -> float | None:
    """The Unix time of an HTTP date (RFC 9110, 5.6.7)."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
