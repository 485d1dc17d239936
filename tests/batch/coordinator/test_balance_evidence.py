"""Where the balance lost no more than is known to be spent, what nobody told cost nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from jobs.job_options import Budget
from jobs.states import JobState
from tests.batch.house import House, job
from tests.batch.making import JOB, call, closing, delivery, result

BOUND = Decimal("1.452")


def rest(house: House, rub: str, at: float | None = None, **facts: Any) -> None:
    """A worker that came to rest tells what the account held."""
    at = house.clock.wall if at is None else at
    house.worker(now=house.clock.wall, rest={"rub": rub, "at": at}, **facts)


def begin(house: House) -> None:
    """Four requests under a cap of five bounds; one of them was refused at an unknown cost."""
    job(house, 4, budget=Budget(rub=BOUND * 5))
    rest(house, "100")
    house.turn()
    house.post.take(JOB, 1)
    house.turn(2)


def end(house: House, **unknown: Any) -> None:
    sent_at = house.clock.wall
    house.turn(2)
    facts: dict[str, Any] = {"cost": None, "status": 502, "code": "endpoint.5xx", **unknown}
    calls = [
        *(call(n, cost="0.5", bound=str(BOUND), sent_at=sent_at) for n in range(3)),
        call(3, bound=str(BOUND * 4), sent_at=sent_at, **facts),
    ]
    back = closing(1, [(3, 1, 1)])
    house.post.send(delivery(calls, [result(n) for n in range(3)], [back]))
    house.post.claimed[JOB, 1] = "done"
    house.turn(4)


def test_a_hold_is_released_when_the_balance_lost_what_is_known_and_no_more(house: House) -> None:
    begin(house)
    end(house)
    assert house.row().state is JobState.IN_PROGRESS, "it waits for the balance"
    assert house.out() == []

    rest(house, "98.5")
    house.turn(3)

    assert house.row().booked_rub == 0
    assert house.out() == [2], "and goes on with what came back"
    (row,) = house.store().db.execute("SELECT cost, source FROM calls WHERE ordinal = 3")
    assert tuple(row) == ("0", "balance")


@pytest.mark.parametrize("left", ["98.4", "98.6", "198.5"])
def test_a_balance_that_tells_anything_else_releases_nothing(house: House, left: str) -> None:
    begin(house)
    end(house)

    rest(house, left)
    house.turn(3)

    assert house.row().booked_rub == BOUND * 4
    assert house.row().state is JobState.PAUSED


@pytest.mark.parametrize(
    "unknown",
    [{"status": None, "code": "endpoint.timeout"}, {"generation_id": "gen-1"}],
    ids=["no reply", "not asked for yet"],
)
def test_a_call_that_may_still_be_billed_or_told_of_is_not_released(
    house: House, unknown: dict[str, Any]
) -> None:
    begin(house)
    end(house, **unknown)

    rest(house, "98.5")
    house.turn(3)

    assert house.row().booked_rub == BOUND * 4


def test_a_balance_from_before_the_last_call_or_by_a_wrong_clock_tells_nothing(
    house: House,
) -> None:
    begin(house)
    end(house)

    rest(house, "98.5", at=house.clock.wall - 60)
    house.turn(2)
    assert house.row().booked_rub == BOUND * 4

    house.worker(now=house.clock.wall + 86400, rest={"rub": "98.5", "at": house.clock.wall + 86400})
    house.turn(20)

    assert house.row().booked_rub == BOUND * 4
    assert house.row().state is JobState.PAUSED, "it is not waited for for ever"
