"""Hours of the night in which a job may run: `23:00-07:00@Europe/Moscow`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from jobs.errors import InvalidValue
from jobs.message import N_

_FORM = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})(?:@([A-Za-z0-9_+/-]+))?")


class Window(msgspec.Struct, frozen=True):
    """From `start` up to `end` in the zone, over midnight if `end` is earlier."""

    start: time
    end: time
    zone: str

    def contains(self, now: datetime) -> bool:
        """Whether the aware moment `now` is within the window."""
        clock = now.astimezone(ZoneInfo(self.zone)).time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def next_opening(self, now: datetime) -> datetime:
        """The next moment after `now` at which the window opens, in the window's zone."""
        local = now.astimezone(ZoneInfo(self.zone))
        opening = datetime.combine(local.date(), self.start, tzinfo=ZoneInfo(self.zone))
        return opening if opening > local else opening + timedelta(days=1)

    def after(self, now: datetime, work: timedelta) -> datetime:
        """The moment at which so much work is done that rests outside of the window."""
        zone = ZoneInfo(self.zone)
        at = now if self.contains(now) else self.next_opening(now)
        while True:
            local = at.astimezone(zone)
            closing = datetime.combine(local.date(), self.end, tzinfo=zone)
            if closing <= local:
                closing += timedelta(days=1)
            # Between aware moments of one zone Python counts wall-clock time: UTC is exact.
            room = closing.astimezone(UTC) - local.astimezone(UTC)
            if work <= room:
                return (at.astimezone(UTC) + work).astimezone(zone)
            work -= room
            at = self.next_opening(closing)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}@{self.zone}"


def parse_window(text: str, *, default_zone: str = "UTC") -> Window:
    """Reads `HH:MM-HH:MM` or `HH:MM-HH:MM@Zone/Name`; `ValueError` with a sentence otherwise."""
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise InvalidValue(
            N_("{text!r} is not a window such as 23:00-07:00@Europe/Moscow", text=text)
        )
    hour, minute, end_hour, end_minute, zone = match.groups()
    try:
        ZoneInfo(zone or default_zone)
    except (KeyError, OSError, ValueError):
        raise InvalidValue(
            N_("{zone!r} is not a time zone such as Europe/Moscow", zone=zone)
        ) from None
    try:
        start, end = time(int(hour), int(minute)), time(int(end_hour), int(end_minute))
    except ValueError:
        raise InvalidValue(N_("{text!r} has an invalid hour or minute", text=text)) from None
    if start == end:
        raise InvalidValue(N_("{text!r} starts and ends at the same minute", text=text))
    return Window(start, end, zone or default_zone)
