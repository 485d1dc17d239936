"""What the version before this one left in Redis and on a worker's disk is read by this one.

The bytes were written by that version's own code. A field may be added at the end, with a value for
those that do not tell it; none may go, move or change its meaning.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from jobs.budget import Amount
from jobs.chunk import DRAINED
from jobs.outcome import Billing
from jobs.result import ResultState
from jobs.wire import unpack_bodies, unpack_delivery, unpack_payload
from tests.batch.making import ANSWER, JOB, MODEL
from workers.delivery import journal
from workers.delivery.journal import Claimed, Closed, Ended, Heard, Sent

RELEASED = Path(__file__).parents[2] / "released"


def test_a_payload_of_the_former_version_is_run() -> None:
    payload = unpack_payload((RELEASED / "payload.bin").read_bytes())

    assert (payload.job, payload.chunk, payload.models) == (JOB, 1, (MODEL,))
    assert payload.grant == Amount(Decimal("1.5"), 400)
    assert payload.version == 1
    (work,) = payload.requests
    assert (work.ordinal, bytes(work.body), work.rub) == (0, b'{"n":1}', Decimal("0.5"))


def test_a_delivery_of_a_worker_of_the_former_version_is_booked() -> None:
    told = unpack_delivery((RELEASED / "delivery.bin").read_bytes())

    assert told.version == 1
    assert [call.billing for call in told.calls] == [Billing.KNOWN, Billing.UNKNOWN]
    assert [call.cost for call in told.calls] == [Decimal("0.5"), None]
    assert [each.state for each in told.results] == [ResultState.COMPLETED, ResultState.FAILED]
    (closed,) = told.closed
    assert (closed.reason, closed.refusals) == (DRAINED, {"endpoint.rate_limited": 2})
    assert unpack_bodies(told.bodies) == [ANSWER, ANSWER]


def test_a_journal_that_a_killed_worker_of_the_former_version_left_is_read(tmp_path: Path) -> None:
    (tmp_path / "00000001.log").write_bytes((RELEASED / "outbox.bin").read_bytes())

    found = list(journal.records(tmp_path))

    assert [type(each) for each in found] == [Claimed, Sent, Heard, Ended, Closed]
    sent = found[1]
    assert isinstance(sent, Sent)
    assert (sent.job, sent.bound) == (JOB, Amount(Decimal("0.5"), 200))
