"""Days and months of a named time zone: for caps that hold over all jobs of a home."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

QUARTER_S = 900
"""Money is added up by quarters of an hour: all zones of today begin their days at one."""


class Period(StrEnum):
    """What a cap is for."""

    DAY = "day"
    MONTH = "month"


def span(period: Period, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """The beginning of the day or month that the aware moment `now` is in, and of the next."""
    here = ZoneInfo(zone)
    day = now.astimezone(here).date()
    if period is Period.DAY:
        first, following = day, day + timedelta(days=1)
    else:
        first = day.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    start, end = (datetime.combine(each, time(), tzinfo=here) for each in (first, following))
    return start, end
