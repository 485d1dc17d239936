"""When to ask the endpoint what an uncertain call cost: its figures lag behind the call."""

from __future__ import annotations

from batch.store.jobstore import JobStore

WAITS_S = (5.0, 30.0, 300.0, 3600.0)
"""After the call's end; the last ones may come after the job's."""

FIRST_ANSWERED, FIRST_CUT = 2, 1
"""So many are waited for before a job's outputs are written: for calls that were answered, so that
their cost is exact, and for those that were not."""

_ANSWER_WITHIN_S = 15.0
_AT_ONCE = 50


class Lookups:
    """What was asked, so that nothing is asked twice at a time."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._asked: dict[str, float] = {}

    def due(self, now: float) -> list[tuple[int, str, str]]:
        """(ordinal, call, generation id) of the calls to ask for at `now`, Unix seconds.

        Of any number of uncertain calls only as many are looked at as can be asked for.
        """
        self._asked = {
            call: at for call, at in self._asked.items() if 0 <= now - at < _ANSWER_WITHIN_S
        }
        ended_by = [now - wait for wait in WAITS_S]
        rows = self.store.uncertain.due(ended_by, _AT_ONCE + len(self._asked), now)
        calls = [(row["ordinal"], row["id"], row["generation_id"]) for row in rows]
        due = [call for call in calls if call[1] not in self._asked][:_AT_ONCE]
        self._asked.update((call[1], now) for call in due)
        return due

    @property
    def pending(self) -> bool:
        """Whether a lookup may still tell a call's cost soon enough to wait for it."""
        return self.store.uncertain.awaits(answered=FIRST_ANSWERED, unanswered=FIRST_CUT)
