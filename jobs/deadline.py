"""The moment after which nothing new of a job is sent: `07:00`, or `2026-05-04T07:00`."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from jobs.errors import InvalidValue
from jobs.message import N_

_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})(?:@([A-Za-z0-9_+/-]+))?")


def parse_deadline(text: str, now: datetime, zone: tzinfo) -> datetime:
    """The next such moment after the aware `now`, in the text's own zone or else in `zone`.

    `ValueError` with a sentence for what is no moment, or one that is over.
    """
    clock = _CLOCK.fullmatch(text.strip())
    moment = _next(clock, text, now, zone) if clock else _given(text, zone)
    if moment <= now:
        raise InvalidValue(N_("{text!r} is in the past", text=text))
    return moment


def _next(clock: re.Match[str], text: str, now: datetime, zone: tzinfo) -> datetime:
    try:
        at = time(int(clock[1]), int(clock[2]))
        zone = ZoneInfo(clock[3]) if clock[3] else zone
    except (KeyError, OSError, ValueError):
        raise _unreadable(text) from None
    moment = datetime.combine(now.astimezone(zone).date(), at, tzinfo=zone)
    return moment if moment > now else moment + timedelta(days=1)


def _given(text: str, zone: tzinfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _unreadable(text) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _unreadable(text: str) -> ValueError:
    return InvalidValue(
        N_("{text!r} is not a time such as 07:00 or 2026-05-04T07:00+03:00", text=text)
    )
