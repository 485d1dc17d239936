"""Whether a call is made again, and when."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.chunk import Terms
from jobs.outcome import MAYBE_BILLED, NOT_BILLED, Charge, Retry, RetryKind
from tests.workers.fakes import cut, refusal
from workers.calling.endpoint import Answer, Broken, BrokenKind
from workers.pacing.retry import (
    BACKOFF,
    BACKOFF_IN_DOUBT,
    OUTAGE_IS_OVER_S,
    QUICK_S,
    Health,
    RetryDecision,
    decide,
)
from workers.pending import Tried

WELL = Health()
DOWN = Health(down=True, near=True, down_s=60.0)
NEAR = Health(near=True)
LONG_DOWN = Health(down=True, near=True, down_s=OUTAGE_IS_OVER_S)
ONCE_PAID = Terms(never_pay_twice=True)
SLOW_CUT = Broken(BrokenKind.CUT, "cut", QUICK_S)
PASSING, UNCERTAIN, ONCE = RetryKind.PASSING, RetryKind.UNCERTAIN, RetryKind.ONCE
THROTTLED, UNREACHABLE, DOUBTED = RetryKind.THROTTLED, RetryKind.UNREACHABLE, RetryKind.DOUBTED


def decided(
    kind: RetryKind,
    *,
    tried: Tried = Tried(),  # noqa: B008  immutable
    answer: Answer | None = None,
    charge: Charge = NOT_BILLED,
    terms: Terms = Terms(),  # noqa: B008  immutable
    health: Health = WELL,
    **more: Any,
) -> RetryDecision:
    """With dice that always show the most."""
    retry = Retry(kind, "code", "text", charge, **more)
    return decide(retry, answer or refusal(500), tried, terms, health, lambda _, most: most)


@pytest.mark.parametrize(
    ("kind", "tried", "given", "after", "again"),
    [
        (PASSING, Tried(), {}, Tried(faults=1), True),
        (PASSING, Tried(faults=3), {}, Tried(faults=4), True),
        (PASSING, Tried(faults=4), {}, Tried(faults=5), False),
        (PASSING, Tried(faults=1), {"terms": Terms(max_attempts=2)}, Tried(faults=2), False),
        (PASSING, Tried(faults=4), {"health": DOWN}, Tried(faults=4), True),
        (PASSING, Tried(faults=4), {"health": LONG_DOWN}, Tried(faults=5), False),
        (PASSING, Tried(), {"charge": MAYBE_BILLED}, Tried(faults=1, uncertain=1), True),
        (PASSING, Tried(), {"charge": MAYBE_BILLED, "terms": ONCE_PAID}, Tried(), False),
        (PASSING, Tried(), {"terms": ONCE_PAID}, Tried(faults=1), True),
        (UNCERTAIN, Tried(), {}, Tried(uncertain=1), True),
        (UNCERTAIN, Tried(uncertain=1), {}, Tried(uncertain=2), False),
        (UNCERTAIN, Tried(uncertain=1), {"answer": cut()}, Tried(uncertain=2), False),
        (UNCERTAIN, Tried(uncertain=1), {"answer": cut(), "health": DOWN}, None, True),
        (
            UNCERTAIN,
            Tried(uncertain=1),
            {"answer": SLOW_CUT, "health": DOWN},
            Tried(faults=1, uncertain=1),
            True,
        ),
        (UNCERTAIN, Tried(), {"answer": cut(), "health": NEAR}, Tried(faults=1), True),
        (UNCERTAIN, Tried(faults=4), {"answer": cut(), "health": NEAR}, Tried(faults=5), False),
        (
            UNCERTAIN,
            Tried(),
            {"answer": cut(), "health": DOWN, "charge": MAYBE_BILLED, "terms": ONCE_PAID},
            None,
            False,
        ),
        (ONCE, Tried(), {}, Tried(odd=1), True),
        (ONCE, Tried(odd=1), {}, Tried(odd=2), False),
        (THROTTLED, Tried(9, 1, 1), {}, None, True),
        (UNREACHABLE, Tried(9, 1, 1), {}, None, True),
        (DOUBTED, Tried(9, 1, 1), {}, None, True),
    ],
)
def test_each_kind_has_a_limit_of_its_own(
    kind: RetryKind, tried: Tried, given: dict[str, Any], after: Tried | None, *, again: bool
) -> None:
    decision = decided(kind, tried=tried, **given)
    assert (decision.wait_s is not None) is again
    assert decision.tried._replace(backoffs=0) == (tried if after is None else after)
    assert decision.tried.backoffs == again


@pytest.mark.parametrize(
    ("kind", "backoffs", "given", "wait_s"),
    [
        (PASSING, 0, {}, BACKOFF.base),
        (PASSING, 3, {}, BACKOFF.base * 8),
        (PASSING, 99, {"health": DOWN}, BACKOFF.cap),
        (DOUBTED, 99, {}, BACKOFF_IN_DOUBT.cap),
        # The server's word counts as far as the limiter rests for it; a second spreads those told.
        (THROTTLED, 3, {"after": 20.0, "health": Health(pause_s=20.0)}, 21.0),
        (THROTTLED, 3, {"after": 86400.0, "health": Health(pause_s=60.0)}, 61.0),
        (THROTTLED, 3, {"after": 20.0}, 1.0),
    ],
)
def test_waits_grow_but_for_the_servers_own_word(
    kind: RetryKind, backoffs: int, given: dict[str, Any], wait_s: float
) -> None:
    assert decided(kind, tried=Tried(backoffs=backoffs), **given).wait_s == wait_s


@pytest.mark.parametrize("kind", list(RetryKind))
@pytest.mark.parametrize("health", [WELL, DOWN])
def test_what_the_endpoint_worked_for_in_vain_is_repeated_within_a_budget_unless_it_is_down(
    kind: RetryKind, health: Health
) -> None:
    is_fault = kind in {PASSING, UNCERTAIN}
    assert decided(kind, health=health).budgeted is (is_fault and health is WELL)
