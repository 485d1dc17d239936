"""What one call led to: answered, refused, retry, or stop the job.

Decided in one place (`workers.calling.classifier`), acted upon in another (`workers.call`).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from jobs.pause_reasons import PauseReason
from jobs.usage import Usage


class Billing(StrEnum):
    """Whether a call was charged for."""

    NONE = "none"
    """Certainly not billed."""
    KNOWN = "known"
    """Billed, and the endpoint told how much."""
    UNKNOWN = "unknown"
    """May have been billed: booked at its bound until looked up."""


class CostSource(StrEnum):
    """Where the cost of a call comes from: who told it, if anybody did."""

    ENDPOINT = "endpoint"
    LOOKUP = "lookup"
    BALANCE = "balance"
    UNKNOWN = "unknown"


class Charge(msgspec.Struct, frozen=True):
    """What an answer says of its price. `cost` is ₽, exact; None where the endpoint kept silent."""

    billing: Billing = Billing.NONE
    cost: Decimal | None = None
    usage: Usage | None = None
    provider: str = ""


NOT_BILLED = Charge()
MAYBE_BILLED = Charge(Billing.UNKNOWN)


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """The model answered. `flags`: truncated, filtered, refusal, only_reasoning, model_mismatch,
    odd_finish. `form` is the answer as a chat completion where it came in another form.
    """

    charge: Charge
    finish_reason: str = ""
    flags: tuple[str, ...] = ()
    form: bytes = b""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """This request will never be answered as it stands."""

    code: str
    message: str
    charge: Charge = NOT_BILLED


class RetryKind(StrEnum):
    """What a retry is counted as; each kind has a limit of its own."""

    THROTTLED = "throttled"
    """The endpoint is busy or limits us: all slow down; no attempt is used up."""
    UNREACHABLE = "unreachable"
    """Nothing was sent: DNS, refused connection, TLS; no attempt is used up."""
    PASSING = "passing"
    """A fault of the endpoint (5xx) that may be gone next time: `max_attempts` in all."""
    ONCE = "once"
    """Refused for a reason that is not so: sent once more."""
    DOUBTED = "doubted"
    """It would concern more than this request, and is not believed yet: asked again, seldom."""
    UNCERTAIN = "uncertain"
    """It may have been billed and its answer is lost or useless: sent once more."""


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """Call again later. `after` is the server's own word in seconds, if it gave one; `at_first`:
    nothing else was answered yet.
    """

    kind: RetryKind
    code: str
    message: str
    charge: Charge = NOT_BILLED
    after: float | None = None
    at_first: bool = False


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """No request of this job, or of its `model`, can succeed until the user acts. `is_sure`: more
    than this one answer says so.
    """

    reason: PauseReason
    code: str
    message: str
    charge: Charge = NOT_BILLED
    model: str = ""
    is_sure: bool = False


Outcome = Answered | Refused | Retry | Stop
