"""A call of the ledger, as those read it who count them all."""

from __future__ import annotations

from typing import NamedTuple

from jobs.usage import Usage


class Billed(NamedTuple):
    """A call of the ledger: the columns of `BILLED`, as they stand there."""

    ordinal: int
    id: str
    sent_at: float
    latency_s: float
    billing: str
    cost: str | None
    source: str
    bound: str | None
    prompt: int | None
    completion: int | None
    cached: int | None
    written: int | None
    reasoning: int | None
    provider: str
    chunk: int = 0

    @property
    def usage(self) -> Usage:
        """Its tokens; none where nobody told."""
        counts = (self.prompt, self.completion, self.cached, self.written, self.reasoning)
        return Usage(*(count or 0 for count in counts))


BILLED = ", ".join(f"calls.{name}" for name in Billed._fields)
"""For a SELECT; tuples are read in half the time that rows with names take."""
