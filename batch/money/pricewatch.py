"""Watches the endpoint's prices while a job runs: every version is kept, and a rise is seen.

The catalogue is read on a thread of its own: an endpoint that hangs holds nobody up. One that
cannot be read is tried again, and stops no job: bounds are taken by what is known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from batch.money.catalogue_prices import NO_CATALOGUE, Form, read_prices
from batch.store.jobstore import JobRow, JobStore
from jobs.errors import NightshiftError
from jobs.gateways import UNKNOWN
from jobs.job_options import Spec
from jobs.message import N_, Message
from jobs.prices import PriceList, Rise, find_rise

CHECK_S = 600.0
"""So often the prices are read."""

AGAIN_S = 60.0
"""And so soon again if they could not be."""

_LOCKED = tuple(f"({NO_CATALOGUE}: HTTP {status})" for status in (401, 403))

log = logging.getLogger("nightshift.prices")

Key = tuple[tuple[float | None, float | None], object]


class PriceWatch:
    """The prices of one job."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._reading: _Reading | None = None
        self._due_at = time.monotonic() + self._left_of_check()
        self._warned = False
        self._key: Key | None = None
        self._rise: Rise | None = None

    def _left_of_check(self) -> float:
        newest, _ = self._store.prices_of()
        age = CHECK_S if newest is None else time.time() - newest
        return min(max(CHECK_S - age, 0.0), CHECK_S)

    def look(self, job: JobRow) -> Rise | None:
        """Takes in prices that were read meanwhile; tells a rise that the spec does not allow."""
        self._tend(job)
        key = (self._store.prices_of(), job.spec.max_price_rise)
        if key != self._key:
            self._key, self._rise = key, rise_of(self._store, job)
        return self._rise

    def _tend(self, job: JobRow) -> None:
        now = time.monotonic()
        if self._reading is None:
            models = asked_for(self._store)
            if models and now >= self._due_at:
                self._reading = _Reading(lambda: _read(job, models))
        elif self._reading.is_over:
            told, self._reading = self._reading.told, None
            self._due_at = now + (AGAIN_S if told is None else CHECK_S)
            if told is not None:
                keep(self._store, told)
            locked = told is not None and told.source.endswith(_LOCKED)
            if told is None and not self._warned:
                log.warning(
                    N_("{job}: prices cannot be fetched; using the last known ones", job=job.id)
                )
            elif locked and not self._warned:
                log.warning(
                    N_("{job}: prices require a key; using the last known ones", job=job.id)
                )
            self._warned = told is None or locked


class _Reading:
    """One reading, under way or over; `told` is None if nothing came of it."""

    def __init__(self, read: Callable[[], PriceList | None]) -> None:
        self._read = read
        self.told: PriceList | None = None
        # A daemon: a process that ends does not wait for an endpoint.
        self._thread = threading.Thread(target=self._run, name="prices", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.told = self._read()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()


def _read(job: JobRow, models: list[str]) -> PriceList | None:
    """None for what cannot be read now; a list without models where there is no catalogue."""
    try:
        return read_prices(job.spec.base_url, models, now=time.time(), form=form_of(job.spec))
    except NightshiftError as error:
        log.debug("%s: %s", job.id, error.message)
        return None
    except Exception as error:
        # The thread must not die aloud; the known prices go on to count.
        log.debug("%s: %s", job.id, type(error).__name__, exc_info=error)
        return None


def asked_for(store: JobStore) -> list[str]:
    """The models whose prices the endpoint is asked for: all but those that were given by hand."""
    known = store.prices()
    by_hand = {name for name, each in known.models.items() if each.by_hand} if known else set()
    return [name for name in store.queue.models() if name not in by_hand]


def form_of(spec: Spec) -> Form:
    """How the endpoint of a job lists prices; of an unknown currency none is read."""
    keys = {} if spec.money == UNKNOWN else spec.seller.prices
    return Form(keys, spec.rate, lane=spec.lane)


def keep(store: JobStore, told: PriceList, *, accepted: bool = False) -> None:
    """Stores what a reading told, if it differs from what is known or is `accepted` by the user."""
    known = store.prices()
    told = told if known is None else known.kept_up(told)
    if not told.models:
        return
    if accepted or known is None or known.models != told.models:
        store.add_prices(told, accepted=accepted)


def rise_of(store: JobStore, job: JobRow) -> Rise | None:
    """A rise since the prices were accepted, further than the spec allows."""
    accepted, newest = store.accepted_prices(), store.prices()
    if accepted is None or newest is None:
        return None
    return find_rise(accepted, newest, job.spec.max_price_rise)


def sentence(job: JobRow, rise: Rise) -> Message:
    """What the user reads of a rise, with the way to accept it."""
    return N_(
        "{rise}, more than the allowed {percent:f} %; accept it with: nightshift resume {job}",
        rise=rise.message,
        percent=job.spec.max_price_rise,
        job=job.id,
    )
