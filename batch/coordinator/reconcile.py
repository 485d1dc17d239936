"""What must be done about a chunk that is out: decisions from what is seen of it, no IO.

A dead worker, a lost message, a wiped Redis and a restarted coordinator are one case: a chunk that
is open on disk, but that nobody runs and no message asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SILENCE_S = 20.0
"""A chunk whose worker has shown no sign for so long is lost, unless the user is more patient.
Signs of life are 15 s old at most.
"""

LOST_MESSAGE_S = 6.0
"""A chunk that nobody took, with fewer messages waiting than chunks, is sent again after this."""

OVERDUE_S = 600.0
"""And in any case after this."""


class Step(Enum):
    """What to do with a chunk."""

    KEEP = "keep"
    SEND_AGAIN = "send again"
    LOSE = "lose"


@dataclass
class Watch:
    """What is known of a chunk that is out; monotonic seconds.

    `seen_at` is when its worker last showed a sign, None before the first. `doubted_at` is since
    when all that is seen says that it is lost. `mine`: this coordinator fed it.
    """

    sent_at: float
    seen_at: float | None = None
    doubted_at: float | None = None
    mine: bool = True


def decide(
    watch: Watch,
    *,
    named: bool,
    now: float,
    redis_since: float,
    heard_at: float,
    message_missing: bool,
    patience_s: float = SILENCE_S,
) -> Step:
    """What to do at `now`.

    `named` is whether a worker just told that it has the chunk. `redis_since` is since when Redis
    has been answering with its memory whole: before that, silence proves nothing. `heard_at` is
    when all deliveries had been taken in: what seems lost may be told of in one that was not read
    yet. `message_missing` is whether no message may ask for it; `patience_s` how long a worker may
    be silent.
    """
    if named:
        watch.seen_at, watch.doubted_at = now, None
        return Step.KEEP
    if watch.seen_at is not None and now - max(watch.seen_at, redis_since) > patience_s:
        if watch.doubted_at is None:
            watch.doubted_at = now
        return Step.LOSE if heard_at > watch.doubted_at else Step.KEEP
    watch.doubted_at = None
    if watch.seen_at is not None:
        return Step.KEEP
    waited = now - max(watch.sent_at, redis_since)
    if waited > OVERDUE_S or (message_missing and waited > LOST_MESSAGE_S):
        return Step.SEND_AGAIN
    return Step.KEEP
