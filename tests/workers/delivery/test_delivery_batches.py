"""What waits to be delivered for one job."""

from __future__ import annotations

from collections import Counter

from jobs.outcome import Billing
from jobs.result import Call, Result, ResultState
from jobs.wire import Found
from tests.workers.fakes import JOB
from workers.delivery.delivery_batches import Batch


def one(number: int) -> Batch:
    """With one of everything, from a segment of that number."""
    batch = Batch(JOB, since=1.0, segments=Counter({number: number}))
    batch.calls.append(Call(f"box-{number}", number, 1, 1, 1.0, 0.5, 200, "", Billing.UNKNOWN))
    batch.found.append(Found(number, f"box-{number}", None))
    result = Result(number, ResultState.COMPLETED, "", "", 200, 1, f"box-{number}", 0.5, 2.0)
    batch.add(result, b"answer %d" % number)
    return batch


def test_a_batch_that_takes_in_another_has_all_of_both_and_each_result_its_own_body() -> None:
    batch = one(1)

    batch.extend(one(2))

    assert [call.id for call in batch.calls] == ["box-1", "box-2"]
    assert [found.call for found in batch.found] == ["box-1", "box-2"]
    assert [batch.bodies[result.body] for result in batch.results] == [b"answer 1", b"answer 2"]
    assert batch.segments == {1: 1, 2: 2}
    assert (batch.rows, batch.size) == (6, len(b"answer 1" + b"answer 2"))
