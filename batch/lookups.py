"""When to ask the endpoint what an uncertain call cost: its figures lag behind the call."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

WAITS_S = (5.0, 30.0, 300.0, 3600.0)
"""After the call's end; the last ones may come after the job's."""

FIRST = {True: 2, False: 1}
"""So many are waited for before a job's outputs are written: for calls that were answered, so that
their cost is exact, and for those that were not."""

_ANSWER_WITHIN_S = 15.0
_AT_ONCE = 50


class Lookups:
    """What was asked, so that nothing is asked twice at a time."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}

    def due(self, calls: Sequence[sqlite3.Row], now: float) -> list[tuple[int, str, str]]:
        """(ordinal, call, generation id) of the calls to ask for at `now`, Unix seconds."""
        uncertain = {call["id"] for call in calls}
        self._asked = {call: at for call, at in self._asked.items() if call in uncertain}
        due = [call for call in calls if self._is_due(call, now)][:_AT_ONCE]
        for call in due:
            self._asked[call["id"]] = now
        return [(call["ordinal"], call["id"], call["generation_id"]) for call in due]

    def _is_due(self, call: sqlite3.Row, now: float) -> bool:
        if not call["generation_id"] or call["lookups"] >= len(WAITS_S):
            return False
        if now - self._asked.get(call["id"], 0.0) < _ANSWER_WITHIN_S:
            return False
        return bool(now >= call["ended_at"] + WAITS_S[call["lookups"]])


def is_awaited(call: sqlite3.Row) -> bool:
    """Whether a lookup may still tell the call's cost soon enough to wait for it."""
    return bool(call["generation_id"]) and call["lookups"] < FIRST[call["answered"]]
