"""What came of a request, and the ledger's row for each call that was or may have been billed."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from jobs.constraints import Count, Latency, Place, Seconds, Tokens
from jobs.outcome import Billing
from jobs.usage import Usage


class ResultState(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One HTTP attempt: a row of the ledger.

    `ordinal` is the request's place among the job's valid requests, from 0. `attempt` counts the
    calls of this request from 1. `sent_at` is Unix time in seconds, `latency_s` monotonic.
    `status` is None where no answer came. `bound` and `bound_tokens` are
    the most it can cost; ₽ None without a price.
    """

    id: str
    ordinal: Count
    chunk: Count
    attempt: Count
    sent_at: Seconds
    latency_s: Latency
    status: Count | None
    code: str
    billing: Billing
    cost: Decimal | None = None
    bound: Decimal | None = None
    bound_tokens: Tokens = 0
    usage: Usage | None = None
    generation_id: str = ""
    provider: str = ""


class Result(msgspec.Struct, frozen=True, array_like=True):
    """The end of a request; of several, the first to reach the home counts.

    `code` and `message` are empty when completed. `body` is the place of the raw answer in the
    delivery's bodies, -1 for none. `attempts` counts all calls, refused ones included. `data` is
    what `message` was made of, if it is ours.
    """

    ordinal: Count
    state: ResultState
    code: str
    message: str
    status: Count | None
    attempts: Count
    call: str
    latency_s: Latency
    finished_at: Seconds
    request_id: str = ""
    flags: tuple[str, ...] = ()
    body: Place = -1
    data: str = ""
