"""What a worker tells of itself every other second, as its coordinator reads it: typed, bounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec

from jobs.constraints import Count, Seconds
from jobs.message import Message
from jobs.signing import Target

_OUTAGE = frozenset(
    f"endpoint.{name}"
    for name in (
        *("5xx", "overloaded", "down", "unreachable", "local_limit", "stale", "cut", "timeout"),
        *("request_timeout", "conflict", "unexpected"),
    )
)


MOST_SAID, MOST_DATA = 400, 2000
"""Characters of a sentence, and of what it was made of."""


class Wait(msgspec.Struct, frozen=True):
    """What holds a job up: the `code` of what the endpoint `said` instead of an answer, with its
    status. It wants to be left alone `until`, and is asked again at `next_at`; Unix seconds, None
    where it named no time, or a call asks now and then.
    """

    code: Annotated[str, msgspec.Meta(max_length=100)]
    said: Annotated[str, msgspec.Meta(max_length=MOST_SAID)]
    until: Seconds | None = None
    next_at: Seconds | None = None
    data: Annotated[str, msgspec.Meta(max_length=MOST_DATA)] = ""

    @property
    def told(self) -> Message:
        """What it said, for whoever shows it."""
        return Message.read(self.said, self.data)

    @property
    def is_outage(self) -> bool:
        """Whether it says that the endpoint is not there, and not that it will not."""
        return self.code in _OUTAGE


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job's part of a worker: its chunks, calls in flight, and for how long (s) its endpoint has
    not answered. `refused` counts refusals by chunk and code, of chunks that are not closed.
    `bound` is what its requests wait for now, `waits` for how long they did so far, by cause (see
    `jobs.bottleneck`); both are of the worker, not of the job alone.
    """

    chunks: Count = 0
    in_flight: Count = 0
    refused: dict[Count, dict[str, Count]] = {}
    down_s: Seconds = 0.0
    wait: Wait | None = None
    bound: Annotated[str, msgspec.Meta(max_length=100)] = ""
    waits: dict[str, Seconds] = {}


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model's part of a worker: the scope of its pace, and the calls in flight it bears."""

    scope: str = ""
    limit: Count = 0
    waiting: Count = 0
    down: bool = False


class Rest(msgspec.Struct, frozen=True):
    """₽ on the account `at` Unix seconds, when nothing of a worker was in flight."""

    rub: Decimal
    at: Seconds


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker. `key` is the fingerprint of its API key and headers, `started` Unix time,
    `outbox_lag_s` the age of its oldest result that is not home. `foreign` counts what it dropped
    as not of our making, `now` is its clock, `at` Redis's when it told this. `rest` is the balance
    since when it has been at rest, or last was. `open` are the chunks of each job that it runs, or
    whose end is not home. `silent_s` is how long ago it told this, by whoever reads it.
    """

    name: str = ""
    started: Seconds = 0.0
    chunks: Count = 0
    in_flight: Count = 0
    base_url: str = ""
    key: str = ""
    draining: bool = False
    jobs: dict[str, JobStatus] = {}
    outbox_lag_s: Seconds = 0.0
    limits: list[LaneStatus] = []
    foreign: Count = 0
    now: Seconds = 0.0
    at: Seconds = 0.0
    open: dict[str, list[Count]] = {}
    rest: Rest | None = None
    silent_s: Seconds = 0.0

    @property
    def target(self) -> Target:
        """Whose chunks it takes."""
        return Target(self.base_url, self.key)
