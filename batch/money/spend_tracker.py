"""What the caps of a home leave: over all its jobs, the ended ones too.

For each period: spent or possibly spent by calls that were sent in it, and what is set aside for
chunks that are out. A call sent in the next period will have been set aside in this one and still
be so, hence `spent + set aside ≤ cap` holds in every period if it holds whenever a chunk is fed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from batch.money.caps import Caps, KeyCaps, Room, read_caps
from batch.money.removed_jobs import Spending, read_spending, spent_between
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.errors import StorageUnavailable
from jobs.message import N_
from jobs.money import ZERO, add, subtract, total
from jobs.names import CAPS, REMOVED
from jobs.period import Period, span

_Spans = dict[Period, tuple[datetime, datetime]]

_SETTLED_S = 2.0
"""A file that was last written so long ago has its last change in its time of change."""

log = logging.getLogger("nightshift.allowance")


@dataclass(frozen=True)
class JobSpending:
    """What a job has spent, by period, and set aside. `out`: a chunk of it is with a worker or on
    its way to one; `unlimited`: such a one has no grant. `key`: the API key that it is for, if any.
    """

    key: str
    spent: dict[Period, Decimal]
    aside: dict[Period, Decimal]
    out: bool
    unlimited: bool

    def total(self, period: Period) -> Decimal:
        """Spent and set aside."""
        return add(self.spent[period], self.aside[period])


@dataclass(frozen=True)
class _Seen:
    touched: float
    starts: tuple[float, ...]
    share: JobSpending


class Allowance:
    """The caps of one home. The one coordinator asks it before each chunk that it feeds."""

    def __init__(self, home: Home, wall: Callable[[], float] = time.time) -> None:
        self._home = home
        self._wall = wall
        self._seen: dict[str, _Seen] = {}
        self._stamp: object = None
        self._caps = Caps()
        self._kept: object = None
        self._removed_stamp: object = None
        self._spending: Spending = {}

    def caps(self) -> Caps:
        """As they stand in the home now."""
        stamp = self.stamp()
        if stamp != self._stamp:
            self._caps, self._stamp = read_caps(self._home.folder), stamp
        return self._caps

    def stamp(self) -> object:
        """Changes when somebody sets the caps."""
        return _stamp_of(self._home.folder / CAPS)

    def room(self, job_id: str, store: JobStore) -> Room | None:
        """What is left for a job, whose store this is; None without caps."""
        caps = self.caps()
        if not (caps.any or caps.keys):
            return None
        spans = self._spans(caps)
        mine = share_of(store, spans)
        return self._room(caps, mine.key, [mine, *self._others(job_id, spans)], spans)

    def room_for(self, key: str) -> Room | None:
        """What is left for another job of an API key; None without caps."""
        caps = self.caps()
        spans = self._spans(caps)
        return self._room(caps, key, self._others("", spans), spans)

    @staticmethod
    def _room(caps: Caps, key: str, shares: list[JobSpending], spans: _Spans) -> Room | None:
        own = caps.keys.get(key) if key else None
        counted: list[tuple[str, Caps | KeyCaps, list[JobSpending]]] = [("", caps, shares)]
        if own is not None:
            counted.append((key, own, [share for share in shares if share.key == key]))
        rooms = []
        for whose, limits, its in counted:
            waits = any(share.unlimited for share in its)
            for period, (_, ends) in spans.items():
                cap = limits.of(period)
                if cap is not None:
                    used = total(share.total(period) for share in its)
                    left = subtract(cap, used)
                    rooms.append(Room(left, period, cap, ends, not used, waits, whose))
        return min(rooms, key=lambda room: room.rub, default=None)

    def is_over(self) -> bool:
        """Whether what is out is beyond the caps: somebody lowered them, and it must come back.

        Within caps that nobody changes it cannot get there, so the jobs are read after a change
        alone.
        """
        stamp = self.stamp()
        if stamp == self._kept:
            return False
        if self._is_over():
            return True
        self._kept = stamp
        return False

    def _is_over(self) -> bool:
        caps = self.caps()
        shares = self._others("", self._spans(caps)) if caps.any or caps.keys else []
        if caps.any and self._is_beyond(caps, shares):
            return True
        return any(
            self._is_beyond(own, [share for share in shares if share.key == key])
            for key, own in caps.keys.items()
        )

    def _is_beyond(self, caps: Caps | KeyCaps, shares: list[JobSpending]) -> bool:
        if not any(share.out for share in shares):
            return False
        if any(share.unlimited for share in shares):
            return True
        used = self._sum(shares)
        return any(
            cap is not None and add(*used[period]) > cap
            for period, cap in ((period, caps.of(period)) for period in Period)
        )

    def used_by_keys(self) -> dict[str, dict[Period, tuple[Decimal, Decimal]]]:
        """The same for the jobs of each API key."""
        shares = self._others("", self._spans(self.caps()))
        keys = sorted({share.key for share in shares} - {""})
        return {key: self._sum([each for each in shares if each.key == key]) for key in keys}

    def used(self) -> dict[Period, tuple[Decimal, Decimal]]:
        """Spent, and set aside, by all jobs in the day and the month that it is."""
        return self._sum(self._others("", self._spans(self.caps())))

    @staticmethod
    def _sum(shares: list[JobSpending]) -> dict[Period, tuple[Decimal, Decimal]]:
        found = {}
        for period in Period:
            spent = aside = ZERO
            for share in shares:
                spent, aside = add(spent, share.spent[period]), add(aside, share.aside[period])
            found[period] = (spent, aside)
        return found

    def _spans(self, caps: Caps) -> _Spans:
        now = datetime.fromtimestamp(self._wall(), UTC)
        return {period: span(period, caps.zone, now) for period in Period}

    def _others(self, job_id: str, spans: _Spans) -> list[JobSpending]:
        found = {
            other: share
            for other in self._home.job_ids()
            if other != job_id and (share := self._share(other, spans)) is not None
        }
        return [*found.values(), *self._removed({job_id, *found}, spans)]

    def _removed(self, there: set[str], spans: _Spans) -> list[JobSpending]:
        """Those of jobs that are gone, also if they went while the others were read."""
        stamp = _stamp_of(self._home.folder / REMOVED)
        if stamp != self._removed_stamp:
            self._spending, self._removed_stamp = read_spending(self._home.folder), stamp
        nothing = dict.fromkeys(spans, ZERO)
        return [
            JobSpending(
                self._spending[job].key,
                {
                    period: spent_between(self._spending, job, start.timestamp(), end.timestamp())
                    for period, (start, end) in spans.items()
                },
                nothing,
                out=False,
                unlimited=False,
            )
            # A removal that was cut short left the job where it was.
            for job in self._spending.keys() - there
        ]

    def _share(self, job_id: str, spans: _Spans) -> JobSpending | None:
        starts = tuple(start.timestamp() for start, _ in spans.values())
        touched = self._home.touched(job_id)
        seen = self._seen.get(job_id)
        if seen is not None and (seen.touched, seen.starts) == (touched, starts):
            return seen.share
        try:
            store = self._home.open(job_id, read_only=True)
        except StorageUnavailable as error:
            log.warning(N_("{why}; what it spent is not counted", why=error.message))
            return None
        try:
            share = share_of(store, spans)
        finally:
            store.close()
        if abs(time.time() - touched) > _SETTLED_S:
            self._seen[job_id] = _Seen(touched, starts, share)
        return share


def _stamp_of(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError:
        return ()
    return (facts.st_mtime_ns, facts.st_ino, facts.st_size)


def share_of(store: JobStore, spans: _Spans) -> JobSpending:
    """What one job has spent and set aside, read from its store."""
    with store.snapshot():
        origin = store.job().spec.origin
        return JobSpending(
            "" if origin is None else origin.key,
            {
                period: store.spent_between(start.timestamp(), end.timestamp())
                for period, (start, end) in spans.items()
            },
            {
                period: store.chunks.set_aside(start.timestamp())
                for period, (start, _) in spans.items()
            },
            bool(store.chunks.out()),
            store.chunks.unlimited_out(rub=True, tokens=False),
        )
