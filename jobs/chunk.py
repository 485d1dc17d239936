"""A run of requests on its way to a worker, and what the worker says when it is done with it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.budget import Amount
from jobs.constraints import Count
from jobs.gateways import Tariff
from jobs.message import N_, Message, data_of
from jobs.pause_reasons import PauseReason

MOST_MODELS = 64
"""Models that one chunk is for: a worker has a dispatcher and a pace for each."""


class Terms(msgspec.Struct, frozen=True):
    """What a worker must know of a job's spec. Times in seconds.

    `max_refusals`: so many alike in a row pause the job; 0: none do. `stop_after_rows` requests
    must meet, over `stop_after_s`, what would stop the job, before it is believed of an endpoint
    that has `answered` within the job; `left` requests it had when the chunk was fed. `share`: of
    the pace, against other jobs. `rub_per_hour` only paces, so that it may be a float.
    `responses_by`: how requests for `/responses` are made (`workers.calling.responses`).
    """

    max_attempts: int = 5
    max_refusals: int = 10
    stop_after_rows: int = 5
    stop_after_s: float = 60.0
    answered: bool = False
    left: Count = 2**53
    idle_timeout_s: float = 60.0
    total_timeout_s: float = 900.0
    never_pay_twice: bool = False
    rpm: int | None = None
    tpm: int | None = None
    max_in_flight: int | None = None
    rub_per_hour: float | None = None
    share: float = 10.0
    tariff: Tariff = Tariff()
    responses_by: str = "auto"


class Speed(msgspec.Struct, frozen=True):
    """The part of the terms that may change while a job runs: its coordinator publishes it."""

    rpm: int | None
    tpm: int | None
    max_in_flight: int | None
    rub_per_hour: float | None
    share: float

    @property
    def is_sound(self) -> bool:
        """Whether a pace can be kept by it."""
        limits = (self.rpm, self.tpm, self.max_in_flight, self.rub_per_hour, self.share)
        return all(limit is None or 0 < limit < float("inf") for limit in limits)


class Work(msgspec.Struct, frozen=True, array_like=True):
    """A request as a worker gets it.

    `model` is a place in the payload's list of models; `rub` and `tokens` are the most that one
    call can cost; `attempts` and `uncertain` count the calls made for it in earlier chunks.
    """

    ordinal: Count
    model: Count
    body: bytes
    rub: Decimal | None
    tokens: Count
    attempts: Count = 0
    uncertain: Count = 0

    @property
    def bound(self) -> Amount:
        """The most that one call can cost."""
        return Amount(self.rub, self.tokens)


class Payload(msgspec.Struct, frozen=True):
    """A chunk, whole. `chunk` is a number that no other chunk of the job ever had, so it is the
    fence too: what comes back of a chunk that was given up cannot be taken for another's. `key` is
    the fingerprint of the API key and the headers it is meant for. `kinds` says of each of the
    `models` what is asked of it (`jobs.request_kinds`), so that one of them may be there twice;
    none: chat.
    `version`: see `jobs.wire`.
    """

    job: str
    name: str
    chunk: Count
    base_url: str
    key: str
    terms: Terms
    grant: Amount
    models: tuple[str, ...]
    requests: list[Work]
    kinds: tuple[str, ...] = ()
    version: Count = 1


class ReturnReason(msgspec.Struct, frozen=True, array_like=True):
    """Why requests came back without a result: `code` is one of the constants below, or the
    endpoint's. It is so of requests for `model` alone, if it names one. `data`: see `Message`.
    """

    code: str
    message: str = ""
    pause: PauseReason | None = None
    model: str = ""
    data: str = ""

    @property
    def told(self) -> Message:
        """The sentence, for whoever shows it."""
        return Message.read(self.message, self.data)


def because(
    code: str, told: str, pause: PauseReason | None = None, model: str = ""
) -> ReturnReason:
    """A reason, in our words or the endpoint's."""
    return ReturnReason(code, str(told), pause, model, data_of(told))


DONE = ReturnReason("done")
"""Nothing came back: every request has its result."""
DRAINED = because("drained", N_("the worker is stopping"))
HELD = because("held", N_("the job is paused or cancelled"))
UNAFFORDABLE = because("unaffordable", N_("the grant is used up"))
WORKER_DIED = because("worker_died", N_("the worker was killed"))


NOBODY = "-"
"""The outbox of a closing that only ends what its worker kept of a chunk that it was refused."""


class ChunkClosed(msgspec.Struct, frozen=True, array_like=True):
    """A worker is done with a chunk. Requests without a result wait again in the home.

    `returned` has an (ordinal, attempts, uncertain) for each, `refusals` how often each code was
    met that cost nothing and ended nothing (429 and the like). `calls` counts the chunk's calls
    that were or may have been billed: what is left of its grant is free when all of them are
    booked. It is 0 where they are in the home already. `outbox` is that of the worker which ran the
    chunk, whoever tells it: of others the home does not believe it, nor of NOBODY. `began`: its
    calls were allowed to leave.
    """

    chunk: Count
    reason: ReturnReason
    returned: list[tuple[Count, Count, Count]]
    refusals: dict[str, Count]
    calls: Count = 0
    outbox: str = ""
    began: bool = True
