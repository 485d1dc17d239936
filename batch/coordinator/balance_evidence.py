"""What the balance tells of calls whose cost nobody told: where it lost nothing, they cost nothing.

Workers tell what the account held while nothing was in flight. If between two such moments it lost
exactly what is known to have been spent, then nothing else was taken: the holds of those calls that
ended with a reply, and that the endpoint knows no cost of, are released. Whoever else spends from
the account makes the figures differ, and then all stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from batch.coordinator.worker_status import Rested
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.money import ZERO, add, subtract, total

PATIENCE_S = 12.0
"""So long the next balance is waited for: a worker asks a second after it came to rest."""

_FLOAT = Decimal("1e-12")
"""Of a balance: the endpoint's figures are floats."""


class Balances:
    """Of one job."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._home = Home(store.home)
        self._waits: tuple[float, float] | None = None
        self._judged: tuple[str, float] | None = None

    def look(self, rests: Iterable[Rested]) -> None:
        """Keeps the last balance before the job's first call."""
        for rest in rests:
            if self._store.rests.is_wanted(rest.key, rest.at):
                self._keep(rest)

    def release(self, rests: Iterable[Rested], now: float) -> bool:
        """Whether holds were just released, or a balance that may do so is still waited for.

        To be asked while nothing of the home is in flight; `now` is monotonic.
        """
        keys = self._store.rests.keys()
        if not keys or not self._store.job().unknown or not self._store.rests.releasable():
            return False
        ended = self._store.rests.last_end()
        if self._waits is None or self._waits[0] != ended:
            self._waits = (ended, now)
        new = next((rest for rest in rests if rest.key in keys and rest.at > ended), None)
        if new is not None and (new.key, new.at) != self._judged:
            self._judged, self._waits = (new.key, new.at), (ended, float("-inf"))
            return self._judge(new)
        return now - self._waits[1] < PATIENCE_S

    def _judge(self, new: Rested) -> bool:
        old, at, others = self._store.rests.get(new.key)
        known = add(self._store.rests.known_since(at), subtract(self._spent_by_others(), others))
        unexplained = abs(subtract(subtract(old, new.rub), known))
        if unexplained > max(abs(old), abs(new.rub)) * _FLOAT:
            return False
        released = self._store.rests.release(at)
        self._keep(new)
        return released > 0

    def _keep(self, rest: Rested) -> None:
        self._store.rests.put(rest.key, rest.rub, rest.at, self._spent_by_others())

    def _spent_by_others(self) -> Decimal:
        """₽ of all other jobs of the home at the endpoint, as far as it is known."""
        mine = self._store.job()
        spent = []
        for store in self._home.stores():
            job = store.job()
            if job.id != mine.id and job.spec.base_url == mine.spec.base_url:
                spent.append(job.settled_rub)
        return total(spent) if spent else ZERO
