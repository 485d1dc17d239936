"""Caps for a whole home: what all its jobs together may spend in a day and in a month.

They stand in a file of the home, so that they hold for every job and every coordinator.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from jobs.errors import StorageUnavailable, UsageError
from jobs.message import N_, Message
from jobs.money import is_amount
from jobs.names import CAPS
from jobs.period import Period

ZONE = "Europe/Moscow"


class KeyCaps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """₽ that the batches of one API key of the server may cost; None: no cap."""

    rub_per_day: Decimal | None = None
    rub_per_month: Decimal | None = None

    def of(self, period: Period) -> Decimal | None:
        """The cap of a period."""
        return self.rub_per_day if period is Period.DAY else self.rub_per_month


class Caps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """₽ in a day and in a month of the zone; None: no cap. `keys`: caps of keys by name."""

    rub_per_day: Decimal | None = None
    rub_per_month: Decimal | None = None
    zone: str = ZONE
    keys: dict[str, KeyCaps] = {}

    def of(self, period: Period) -> Decimal | None:
        """The cap of a period."""
        return self.rub_per_day if period is Period.DAY else self.rub_per_month

    @property
    def any(self) -> bool:
        """Whether there is one for all jobs."""
        return self.rub_per_day is not None or self.rub_per_month is not None

    def seen_by(self, key: str) -> Caps:
        """What holds for a job of this key: of two caps the lower one."""
        own = self.keys.get(key, KeyCaps())
        lower = {period: _lower(self.of(period), own.of(period)) for period in Period}
        return Caps(lower[Period.DAY], lower[Period.MONTH], self.zone)


def _lower(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    return min((each for each in (left, right) if each is not None), default=None)


@dataclass(frozen=True)
class Room:
    """What the home's caps leave for a job now, by the one that leaves least.

    `key` names the API key whose cap it is, if it is not one for all jobs. `rub` may be below zero.
    `untouched`: nothing is spent or set aside in this period. `waits`: a chunk of another job is
    out that was fed before there was a cap, and may spend anything.
    """

    rub: Decimal
    period: Period
    cap: Decimal
    ends: datetime
    untouched: bool
    waits: bool
    key: str = ""


def sentence(room: Room) -> Message:
    """What lets no more of a job go: for all jobs, or for the API key that it is for."""
    cap, key, daily = room.cap, room.key, room.period is Period.DAY
    if room.untouched and key:
        return (
            N_("no request fits the daily cap of {cap} for the key {key}", cap=cap, key=key)
            if daily
            else N_("no request fits the monthly cap of {cap} for the key {key}", cap=cap, key=key)
        )
    if room.untouched:
        return (
            N_("no request fits the daily cap of {cap} for all jobs", cap=cap)
            if daily
            else N_("no request fits the monthly cap of {cap} for all jobs", cap=cap)
        )
    if key:
        return (
            N_("the daily cap of {cap} for the key {key} is reached", cap=cap, key=key)
            if daily
            else N_("the monthly cap of {cap} for the key {key} is reached", cap=cap, key=key)
        )
    return (
        N_("the daily cap of {cap} for all jobs is reached", cap=cap)
        if daily
        else N_("the monthly cap of {cap} for all jobs is reached", cap=cap)
    )


def check_zone(name: str) -> str:
    """The name of a time zone; `UsageError` for anything else."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise UsageError(
            N_("{name!r} is not a time zone such as {zone}", name=name, zone=ZONE)
        ) from None
    return name


def read_caps(home: Path) -> Caps:
    """The caps of a home. `StorageUnavailable` for a file that is not ours: no cap is guessed."""
    path = home / CAPS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Caps()
    except OSError as error:
        raise StorageUnavailable(
            N_("{path} cannot be read: {why}", path=path, why=error)
        ) from error
    try:
        caps = msgspec.json.decode(data, type=Caps)
        check_zone(caps.zone)
    except (msgspec.MsgspecError, UsageError, ValueError, ArithmeticError):
        caps = None
    sets: list[Caps | KeyCaps] = [] if caps is None else [caps, *caps.keys.values()]
    amounts = [each.of(period) for each in sets for period in Period]
    if caps is None or not all(amount is None or is_amount(amount) for amount in amounts):
        raise StorageUnavailable(
            N_("{path} does not contain valid caps", path=path),
            hint=N_("remove it and set them again: nightshift budget --help ({path})", path=path),
        )
    return caps


NewCaps = Mapping[str, Any]
"""Fields of `Caps` that a command gave anew."""

NO_CAPS: NewCaps = MappingProxyType({})


def changed(caps: Caps, given: NewCaps) -> Caps:
    """The caps with what was given in its place."""
    return msgspec.structs.replace(caps, **given)


def change_caps(home: Path, given: NewCaps) -> None:
    """Stores what was given, once nothing else can refuse it; the other caps stay."""
    before = read_caps(home)
    if (after := changed(before, given)) != before:
        write_caps(home, after)


def write_caps(home: Path, caps: Caps) -> None:
    """Stores them."""
    write_whole(home / CAPS, msgspec.json.encode(caps) + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file of the home: the old one or the new one stands whatever happens."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(half, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        raise StorageUnavailable(
            N_("{path} cannot be written: {why}", path=path, why=error)
        ) from error
