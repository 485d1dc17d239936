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
_UNIT = (
    r"(?:ms|milli(?:second)?s?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?"
    r"|с|сек\w*|м|мин\w*|ч|час\w*)"
)
_PART = re.compile(rf"([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)\s?({_UNIT})?(?![a-zа-я])", re.IGNORECASE)
_TEXT = re.compile(
    r"(?:(?:retry|try again|back|wait|повторите|подождите)\s+(?:in|after|for|через)|wait|подождите)"
    r"\s+(?:about\s+)?"
    rf"((?:[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?\s?{_UNIT}?(?![a-zа-я])[\s,]{{0,2}}){{1,4}})",
    re.IGNORECASE,
)
_SECONDS = {"m": 60.0, "м": 60.0, "h": 3600.0, "ч": 3600.0, "d": 86_400.0}
_SECONDS_KEYS = frozenset({"retry_after", "retryafter", "retry_after_seconds", "retrydelay"})
_MILLISECONDS_KEYS = frozenset({"retry_after_ms", "retryafterms"})
_RESET_KEYS = frozenset({"x_ratelimit_reset", "ratelimit_reset"})
_NESTED = frozenset({"metadata", "headers", "details"})
_EPOCH_S, _EPOCH_MS = 1e9, 1e12
"""From so much on a number is a moment, not a length of time."""


def answered_at(headers: Mapping[str, str], now: float) -> float:
    """When a response was sent, Unix seconds, by its own `date`, so that no wrong clock of ours
    counts; only without one it is `now`. Moments in it are measured from then.
    """
    sent = _moment(headers.get("date", ""))
    return now if sent is None else sent


def from_headers(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, by `retry-after-ms`, `retry-after` or `x-ratelimit-reset…` (names in lower
    case); `now` as in `answered_at`.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    text, now = headers.get("retry-after", "").strip(), answered_at(headers, now)
    if text:
        seconds = _number(text)
        if seconds is None:
            return _until(text, now)
        return _sensible(seconds - now if 0 <= seconds - now <= LONGEST_S else seconds)
    return _reset(headers, now)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """When a limit that is used up is whole again; of several the last one."""
    told = [
        span(headers.get(f"x-ratelimit-reset{what}", ""), now)
        for what in ("", "-requests", "-tokens")
        if _number(headers.get(f"x-ratelimit-remaining{what}", "")) == 0
    ]
    return max((seconds for seconds in told if seconds is not None), default=None)


def from_fields(fields: Mapping[str, object], now: float) -> float | None:
    """Seconds to wait, by a field of an error: `retry_after`, its `metadata` or its `headers`."""
    for name, value in _flat(fields):
        key = name.lower().replace("-", "_")
        text = "" if isinstance(value, bool) else str(value).strip()
        number = _number(text)
        if key in _SECONDS_KEYS and (seconds := span(text, now)) is not None:
            return seconds
        if key in _MILLISECONDS_KEYS and number is not None:
            return _sensible(number / 1000)
        if key in _RESET_KEYS and number is not None:
            return span(text, now)
    return None


def from_text(text: str) -> float | None:
    """Seconds to wait, by a sentence such as `Please try again in 2m7.5s`."""
    found = _TEXT.search(text)
    return None if found is None else _sensible(_sum(found[1]))


def span(text: str, now: float) -> float | None:
    """`7`, `7.5s`, `2m59s`, `350ms` in seconds; a Unix time, in s or ms, as the time until then."""
    number = _number(text.strip())
    if number is None:
        parts = _PART.sub("", text).strip()
        return _sensible(_sum(text)) if text.strip() and not parts else None
    if number >= _EPOCH_MS:
        number /= 1000
    return _sensible(number - now if number >= _EPOCH_S else number)


def _sum(text: str) -> float:
    return sum(float(count) * _unit(unit.lower()) for count, unit in _PART.findall(text))


def _unit(name: str) -> float:
    return 0.001 if name.startswith(("ms", "milli")) else _SECONDS.get(name[:1], 1.0)


def _flat(fields: Mapping[str, object], levels: int = 3) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        nested = value if isinstance(value, list) else [value]
        if levels and name.lower() in _NESTED:
            for one in nested:
                if isinstance(one, Mapping):
                    yield from _flat(one, levels - 1)
        elif not isinstance(value, Mapping | list):
            yield name, value


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _sensible(seconds: float) -> float | None:
    return min(seconds, LONGEST_S) if math.isfinite(seconds) and seconds >= 0 else None


def _until(text: str, now: float) -> float | None:
    then = _moment(text)
    return None if then is None else _sensible(then - now)


def _moment(text: str) -> float | None:
    """The Unix time of an HTTP date (RFC 9110, 5.6.7)."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
