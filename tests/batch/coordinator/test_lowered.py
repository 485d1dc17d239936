"""What is lowered counts for all that has not left: it is taken back, and fed anew."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from batch.money.caps import Caps, KeyCaps, write_caps
from jobs.chunk import HELD
from jobs.job_options import Budget, Limits
from jobs.states import JobState
from tests.batch.house import House, job
from tests.batch.making import JOB, OTHER, call, closing, delivery, result

BOUND = Decimal("1.452")
TOKENS = 1210
KEY = "night"
"""An API key of the server."""

Lower = Callable[[House], None]


def of_job(**budget: object) -> Lower:
    def lower(house: House) -> None:
        store = house.change()
        spec = store.job().spec
        store.change_spec(spec.model_copy(update={"budget": Budget.model_validate(budget)}))

    return lower


def of_home(day: Decimal | None = None, month: Decimal | None = None) -> Lower:
    return lambda house: write_caps(house.home.folder, Caps(day, month))


def of_key(day: Decimal) -> Lower:
    caps = Caps(keys={KEY: KeyCaps(rub_per_day=day), "another": KeyCaps(rub_per_day=Decimal(0))})
    return lambda house: write_caps(house.home.folder, caps)


def give_back(house: House, chunk: int, job: str = JOB) -> None:
    """A worker heard of the hold: it answered the first request, and returns the rest."""
    first, *rest = house.post.payloads[job, chunk].requests
    back = [(work.ordinal, 0, 0) for work in rest]
    called = call(first.ordinal, chunk, cost="0.1", sent_at=house.clock.wall)
    closed = closing(chunk, back, HELD)
    house.post.send(delivery([called], [result(first.ordinal, chunk)], [closed], job=job))
    house.post.claimed[job, chunk] = "done"


def aside(house: House, name: str = JOB) -> Decimal:
    return house.store(name).chunks.out_aside()


@pytest.mark.parametrize(
    ("had", "lower"),
    [
        (Budget(rub=BOUND * 12), of_job(rub=BOUND * 3)),
        (Budget(), of_job(rub=BOUND * 3)),
        (Budget(tokens=TOKENS * 12), of_job(tokens=TOKENS * 3)),
        (Budget(requests=12), of_job(requests=3)),
        (Budget(), of_home(day=BOUND * 3)),
        (Budget(rub=BOUND * 12), of_home(month=BOUND * 3)),
        (Budget(), of_key(day=BOUND * 3)),
    ],
    ids=["roubles", "first cap", "tokens", "requests", "first cap of a day", "month", "key"],
)
def test_what_is_out_beyond_a_lowered_cap_comes_back_and_is_fed_within_it(
    house: House, had: Budget, lower: Lower
) -> None:
    job(house, 12, budget=had, origin={"batch": "batch_1", "key": KEY, "file": "file-1"})
    house.turn()
    assert house.out() == [1, 2, 3]
    house.post.take(JOB, 1)

    lower(house)
    house.turn(2)

    assert house.out() == [1], "what nobody took is taken back at once"
    assert house.post.held[JOB] == "recalled"
    assert house.row().state is JobState.IN_PROGRESS

    give_back(house, 1)
    house.turn(2)

    assert JOB not in house.post.held
    fed = [house.post.payloads[JOB, chunk].requests for chunk in house.out()]
    assert 1 <= sum(map(len, fed)) <= 3
    assert aside(house) <= BOUND * 3


def test_while_one_job_still_has_too_much_none_of_the_home_is_fed_nor_rests(house: House) -> None:
    job(house, 4)
    job(house, 4, job=OTHER)
    write_caps(house.home.folder, Caps(rub_per_day=BOUND * 8))
    house.turn(2)
    house.post.take(OTHER, 1)

    of_home(day=BOUND * 2)(house)
    house.turn(5)

    assert (house.out(), house.out(OTHER)) == ([], [1])
    assert {house.row(each).state for each in (JOB, OTHER)} == {JobState.IN_PROGRESS}

    give_back(house, 1, OTHER)
    house.turn(2)

    assert aside(house) + aside(house, OTHER) <= BOUND * 2
    assert house.out() or house.out(OTHER)


@pytest.mark.parametrize(
    "limits",
    [Limits(refusals=1), Limits(stop_after_rows=1), Limits(stop_after_s=1)],
    ids=["refusals", "rows", "seconds"],
)
def test_a_change_that_chunks_take_along_has_them_recalled_and_one_of_pace_does_not(
    house: House, limits: Limits
) -> None:
    job(house, 8)
    house.turn()
    store = house.change()
    spec = store.job().spec

    store.change_spec(spec.model_copy(update={"limits": Limits(rpm=5)}))
    house.turn(2)
    assert house.out() == [1, 2]

    store.change_spec(spec.model_copy(update={"limits": limits}))
    house.turn(2)

    assert house.row().wanted == ""
    fed = [house.post.payloads[JOB, chunk].terms for chunk in house.out()]
    assert [(terms.max_refusals, terms.stop_after_rows, terms.stop_after_s) for terms in fed] == [
        (limits.refusals, limits.stop_after_rows, limits.stop_after_s)
    ] * 2


def test_a_change_before_all_is_back_of_a_pause_counts_for_that_too(house: House) -> None:
    job(house, 8)
    house.turn()
    house.post.take(JOB, 1)
    house.turn()
    house.ask("pause")
    store = house.change()
    spec = store.job().spec

    store.change_spec(spec.model_copy(update={"limits": Limits(refusals=1)}))
    house.ask("resume")
    house.turn(2)
    assert house.post.held[JOB] == "recalled"

    give_back(house, 1)
    house.turn()
    fed = house.out()
    house.turn(2)
    assert (len(fed), house.out()) == (2, fed), "and what is fed anew is not recalled, too"
    assert {house.post.payloads[JOB, chunk].terms.max_refusals for chunk in house.out()} == {1}


def test_a_cap_that_is_raised_holds_nobody_up(house: House) -> None:
    job(house, 8, budget=Budget(rub=BOUND * 8))
    house.turn()

    of_job(rub=BOUND * 20)(house)
    house.turn(2)

    assert house.out() == [1, 2]
    assert house.post.held == {}
