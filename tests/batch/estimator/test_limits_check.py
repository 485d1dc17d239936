"""Before the night: what cannot begin is refused, what will not be enough is told with a figure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch.estimator.estimate import Size, estimate
from batch.estimator.limits_check import Bounds, outlook, up
from batch.money.caps import Caps
from batch.store.stored_estimate import Guess
from jobs.errors import UsageError
from jobs.job_options import Budget
from jobs.prices import ModelPrice, Offer, PriceList, Rates
from tests.batch.making import MODEL, spec

RATES = Rates(Decimal("0.0001"), Decimal("0.001"))
PRICES = PriceList(
    1.0, "", "", {MODEL: ModelPrice(MODEL, (Offer("", RATES, max_completion_tokens=100_000),))}
)
OPEN = [Size(50, MODEL, 1000, None)]
BOUNDED = [Size(50, MODEL, 1000, 100)]
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
NONE = Caps()


def look(
    tmp_path: Path,
    sizes: Iterable[Size] = BOUNDED,
    caps: Caps = NONE,
    *,
    likely: str = "5",
    hours: float = 1.0,
    balance: str | None = None,
    **wish: Any,
) -> list[str]:
    asked, every = spec(tmp_path, **wish), list(sizes)
    found = estimate(every, PRICES)
    found.guess = Guess(likely=Decimal(likely), high=Decimal(likely) * 2, hours=hours)
    held = None if balance is None else Decimal(balance)
    return outlook(asked, found, lambda: iter(every), PRICES, caps, NOON, held)


def test_a_budget_that_prompts_alone_exceed_is_told_of_max_tokens_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        look(tmp_path, OPEN, budget=Budget(rub=Decimal(1)))

    assert str(refusal.value.hint).startswith("set --max-tokens, for example 1000; or --budget-rub")


def test_a_budget_below_one_unbounded_request_tells_the_bound_that_fits(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        look(tmp_path, OPEN, budget=Budget(rub=Decimal(20)))

    assert "none of 50 requests fits, since max_tokens is not set (up to" in str(refusal.value)
    most = int(refusal.value.hint.split()[1])
    fits = Bounds(spec(tmp_path), estimate(OPEN, PRICES), lambda: OPEN, PRICES).with_answers(most)
    assert fits.highest is not None
    assert Decimal(16) < fits.highest <= 20
    look(tmp_path, [Size(50, MODEL, 1000, most)], budget=Budget(rub=Decimal(20)))


def test_a_budget_below_one_bounded_request_tells_the_budget_that_is_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        look(tmp_path, budget=Budget(rub=Decimal("0.1")))

    words = refusal.value.hint.split()
    enough, first = Decimal(words[1]), Decimal(words[words.index("--budget-rub", 2) + 1])
    look(tmp_path, budget=Budget(rub=first), likely="0.01")
    highest = estimate(BOUNDED, PRICES).highest
    assert highest is not None
    assert highest <= enough <= highest * Decimal("1.2")


def test_a_budget_of_nothing_holds_a_job_and_is_no_mistake(tmp_path: Path) -> None:
    assert look(tmp_path, budget=Budget(rub=Decimal(0))) == []


@pytest.mark.parametrize(
    ("caps", "option"),
    [
        (Caps(rub_per_day=Decimal("0.1")), "--budget-rub-per-day 0.24"),
        (Caps(rub_per_month=Decimal("0.1")), "--budget-rub-per-month 0.24"),
    ],
)
def test_caps_of_the_home_and_of_tokens_refuse_too(caps: Caps, option: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        look(tmp_path, caps=caps)
    assert option in refusal.value.hint
    with pytest.raises(UsageError, match="none of 50 requests fits"):
        look(tmp_path, budget=Budget(tokens=1000))


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"budget": Budget(rub=Decimal(2))}, "about 20 of 50 requests will be answered"),
        ({"budget": Budget(requests=20)}, "leaves 30 for resume"),
        ({"caps": Caps(rub_per_day=Decimal(2))}, "it takes about 3 days"),
        ({"deadline": datetime(2026, 11, 29, 12, 30, tzinfo=UTC)}, "about 2026-11-29 13:00"),
        (
            {"deadline": datetime(2026, 11, 29, 23, tzinfo=UTC), "window": "22:30-23:30@UTC"},
            "about 2026-11-29 23:30",
        ),
        (
            {"sizes": OPEN, "budget": Budget(rub=Decimal(300))},
            "allows few concurrent calls",
        ),
    ],
)
def test_what_will_not_be_enough_is_told(wish: dict[str, Any], told: str, tmp_path: Path) -> None:
    (note,) = look(tmp_path, **wish)

    assert told in note


def test_hours_that_begin_after_the_deadline_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of 50 requests can be sent"):
        look(tmp_path, deadline=datetime(2026, 11, 29, 20, tzinfo=UTC), window="22:00-23:00@UTC")


def test_what_is_enough_says_nothing(tmp_path: Path) -> None:
    wish: dict[str, Any] = {
        "budget": Budget(rub=Decimal(100)),
        "deadline": datetime(2026, 11, 30, tzinfo=UTC),
    }

    assert look(tmp_path, caps=Caps(rub_per_day=Decimal(100)), **wish) == []


@pytest.mark.parametrize(
    ("rub", "told"),
    [("0.4687", "0.47"), ("23.43", "24"), ("1234.5", "1300"), ("0.0001", "0.01"), ("5", "5")],
)
def test_a_figure_for_an_option_is_rounded_up(rub: str, told: str) -> None:
    assert up(Decimal(rub)) == told


@pytest.mark.parametrize(
    ("balance", "budget", "told"),
    [
        ("4.99", None, "the account holds 4.99 ₽, less than the 5.00 ₽"),
        ("-3", None, "the account holds 0.00 ₽, less than the 5.00 ₽"),
        ("1", "2", "the account holds 1.00 ₽, less than the 2.00 ₽"),
        ("5", None, ""),
        ("2", "2", ""),
        (None, None, ""),
    ],
)
def test_an_account_that_does_not_bear_the_job_is_told(
    tmp_path: Path, balance: str | None, budget: str | None, told: str
) -> None:
    capped = Budget(rub=None if budget is None else Decimal(budget))
    notes = look(tmp_path, balance=balance, budget=capped)

    found = [note for note in notes if "account" in note]
    assert len(found) == bool(told)
    assert all(told in note for note in found)
