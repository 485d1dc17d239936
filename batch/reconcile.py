"""What must be done about a chunk that is out: pure decisions from what is seen of it.

A dead worker, a lost message, a wiped Redis and a restarted coordinator are one case: a chunk that
is open on disk, but that nobody runs and no message asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DONE = "done"
SILENCE_S = 20.0
"""A chunk whose worker has shown no sign for so long is lost. Claims live 15 s without renewal."""

LOST_MESSAGE_S = 6.0
"""A chunk that nobody took, with fewer messages waiting than chunks, is sent again after this."""

OVERDUE_S = 600.0
"""And in any case after this."""

UNTOLD_S = 90.0
"""A worker said it is done with a chunk, but its closing has not come."""


class Step(Enum):
    """What to do with a chunk."""

    KEEP = "keep"
    SEND_AGAIN = "send again"
    LOSE = "lose"


@dataclass
class Watch:
    """What is known of a chunk that is out; monotonic seconds.

    `seen_at` is when its worker last showed a sign, None before the first. `mine` is whether this
    coordinator fed it: of others nobody knows whether they were ever taken.
    """

    sent_at: float
    mine: bool
    seen_at: float | None = None
    done_at: float | None = None

    def look(self, claim: str | None, now: float) -> None:
        """Takes in what Redis says of the chunk at `now`."""
        if claim == DONE:
            self.done_at = self.done_at or now
            self.seen_at = now
        elif claim is not None:
            self.seen_at = now


def decide(
    watch: Watch, *, claimed: bool, now: float, redis_since: float, message_missing: bool
) -> Step:
    """What to do at `now`.

    `redis_since` is since when Redis has been answering with its memory whole: before that, silence
    proves nothing. `message_missing` is whether fewer messages wait than chunks were never taken.
    """
    if watch.done_at is not None:
        return Step.LOSE if now - watch.done_at > UNTOLD_S else Step.KEEP
    if claimed:
        return Step.KEEP
    if watch.seen_at is not None or not watch.mine:
        since = max(watch.seen_at or watch.sent_at, redis_since)
        return Step.LOSE if now - since > SILENCE_S else Step.KEEP
    waited = now - max(watch.sent_at, redis_since)
    if waited > OVERDUE_S or (message_missing and waited > LOST_MESSAGE_S):
        return Step.SEND_AGAIN
    return Step.KEEP
