"""Turns a call and its outcome into rows: the ledger's, and the result's if it ended the request.

Used alike by the runner while it runs and by the recovery of what a killed worker left.
"""

from __future__ import annotations

from jobs.message import N_, data_of
from jobs.outcome import Answered, Billing, Outcome
from jobs.result import Call, Result, ResultState
from workers.calling.endpoint import Answer, Reply
from workers.delivery.journal import Sent

GENERATION_ID = "x-generation-id"
REQUEST_ID = "x-request-id"
WORKER_DIED = "system.worker_died"
UNCERTAIN = "system.uncertain"


def call_row(sent: Sent, answer: Answer, outcome: Outcome) -> Call:
    """The ledger's row of a call that ended."""
    charge = outcome.charge
    return Call(
        id=sent.call,
        ordinal=sent.ordinal,
        chunk=sent.chunk,
        attempt=sent.attempt,
        sent_at=sent.sent_at,
        latency_s=answer.latency_s,
        status=answer.status,
        code="" if isinstance(outcome, Answered) else outcome.code,
        billing=charge.billing,
        cost=charge.cost,
        bound=sent.bound.rub,
        bound_tokens=sent.bound.tokens or 0,
        usage=charge.usage,
        generation_id=answer.generation_id,
        provider=charge.provider,
    )


def call_without_answer(sent: Sent, generation_id: str, code: str = WORKER_DIED) -> Call:
    """The ledger's row of a call that was cut here: it may be billed, nobody knows."""
    return Call(
        id=sent.call,
        ordinal=sent.ordinal,
        chunk=sent.chunk,
        attempt=sent.attempt,
        sent_at=sent.sent_at,
        latency_s=0.0,
        status=None,
        code=code,
        billing=Billing.UNKNOWN,
        bound=sent.bound.rub,
        bound_tokens=sent.bound.tokens or 0,
        generation_id=generation_id,
    )


def result_of(sent: Sent, answer: Answer, outcome: Outcome, now: float) -> Result:
    """The end of the request by this call: completed if answered, else failed."""
    completed = isinstance(outcome, Answered)
    message = "" if isinstance(outcome, Answered) else outcome.message
    return Result(
        ordinal=sent.ordinal,
        state=ResultState.COMPLETED if completed else ResultState.FAILED,
        code="" if isinstance(outcome, Answered) else outcome.code,
        message=str(message),
        status=answer.status,
        attempts=sent.attempt,
        call=sent.call,
        latency_s=answer.latency_s,
        finished_at=now,
        request_id=answer.headers.get(REQUEST_ID) or answer.generation_id,
        flags=outcome.flags if isinstance(outcome, Answered) else (),
        data=data_of(message),
    )


def never_sent(ordinal: int, attempts: int, now: float) -> Result:
    """The end of a request that is not called again, since an earlier call may have been billed."""
    return Result(
        ordinal=ordinal,
        state=ResultState.FAILED,
        code=UNCERTAIN,
        message=str(N_("an earlier call may have been billed, and paying twice is forbidden")),
        status=None,
        attempts=attempts,
        call="",
        latency_s=0.0,
        finished_at=now,
    )


def raw_body(answer: Answer, outcome: Outcome) -> bytes:
    """The answer as a chat completion, or as it came; empty where none did."""
    if isinstance(outcome, Answered) and outcome.form:
        return outcome.form
    return answer.body if isinstance(answer, Reply) else b""
