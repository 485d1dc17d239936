"""What a call costs, and that its bound is one."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.money import ZERO, parse_amount, plain
from jobs.prices import (
    MARGIN,
    ModelPrice,
    Offer,
    PriceList,
    Rates,
    Rise,
    Tier,
    find_rise,
    margin,
)
from jobs.usage import Usage

BASE = Rates(Decimal("0.0000446513"), Decimal("0.0002455823"), Decimal("0.0000089303"))
LONG = Rates(Decimal("0.0001451168"), Decimal("0.0002455823"), Decimal("0.0000290234"))
DEAR = Rates(Decimal("0.000109395685"), Decimal("0.000601676635"))
MINIMAX = Offer("Minimax", BASE, (Tier(LONG, prompt_over=200_000),), 40_000)
NOVITA = Offer("Novita", DEAR, (), 128_000)
M1 = ModelPrice("minimax/minimax-m1", (MINIMAX, NOVITA), 1_000_000)

# Shapes of prices: up to 1000 ₽ a token, twenty decimals.
PRICES = st.tuples(st.integers(0, 999), st.integers(0, 10**20 - 1)).map(
    lambda parts: parse_amount(f"{parts[0]}.{parts[1]:020}")
)
RATES = st.builds(Rates, PRICES, PRICES, st.none() | PRICES, st.none() | PRICES, PRICES)
TIERS = st.builds(Tier, RATES, st.none() | st.integers(0, 10_000))
OFFERS = st.builds(Offer, st.sampled_from("ABCD"), RATES, st.lists(TIERS, max_size=3).map(tuple))
MODELS = st.lists(OFFERS, min_size=1, max_size=4, unique_by=lambda offer: offer.provider).map(
    lambda offers: ModelPrice("author/model", tuple(offers))
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage of a call whose cached and written tokens are part of its prompt."""
    prompt = draw(st.integers(0, 20_000))
    cached = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - cached))
    return Usage(prompt, draw(st.integers(0, 10**6)), cached, written)


# ── The cost of a call ───────────────────────────────────────────────────────────────────────────


def test_a_call_costs_its_fresh_cached_written_and_answered_tokens_and_the_request() -> None:
    rates = Rates(Decimal("0.1"), Decimal(2), Decimal("0.01"), Decimal("0.5"), Decimal(7))

    assert rates.cost(Usage(prompt=100, completion=3, cached=20, written=10)) == Decimal("25.2")


def test_cache_rates_left_out_cost_as_the_prompt_does() -> None:
    rates = Rates(Decimal("0.1"), ZERO)

    assert rates.cost(Usage(100, 0, cached=20, written=10)) == 10


def test_a_cache_rate_of_nothing_is_not_one_left_out() -> None:
    assert Rates(Decimal(1), ZERO, cache_read=ZERO).cost(Usage(10, 0, cached=4)) == 6


def test_more_cached_than_prompt_tokens_make_no_negative_part() -> None:
    assert Rates(Decimal(1), Decimal(1)).cost(Usage(prompt=0, completion=18, cached=5)) == 23


@given(RATES, usages())
def test_a_cost_is_exact(rates: Rates, usage: Usage) -> None:
    prompt = Fraction(rates.prompt)
    read = prompt if rates.cache_read is None else Fraction(rates.cache_read)
    write = prompt if rates.cache_write is None else Fraction(rates.cache_write)
    fresh = usage.prompt - usage.cached - usage.written

    assert Fraction(rates.cost(usage)) == (
        fresh * prompt
        + usage.cached * read
        + usage.written * write
        + usage.completion * Fraction(rates.completion)
        + Fraction(rates.request)
    )


@given(RATES, st.lists(usages(), min_size=1, max_size=10))
def test_calls_are_priced_one_by_one_and_then_added(rates: Rates, calls: list[Usage]) -> None:
    together = calls[0]
    for usage in calls[1:]:
        together += usage

    alone = sum(Fraction(rates.cost(usage)) for usage in calls)

    assert alone == Fraction(rates.cost(together)) + (len(calls) - 1) * Fraction(rates.request)


# ── Tiers and providers ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("prompt", "rates"), [(0, BASE), (199_999, BASE), (200_000, BASE), (200_001, LONG)]
)
def test_a_tier_applies_to_strictly_longer_prompts_only(prompt: int, rates: Rates) -> None:
    assert MINIMAX.rates_for(prompt) == rates


def test_a_tier_applies_to_the_whole_request() -> None:
    cost = M1.estimate(Usage(200_001, 10), "Minimax")

    assert plain(cost) == "29.0259609398"


def test_the_highest_tier_that_is_passed_counts_in_whatever_order_they_stand() -> None:
    ten, twenty = Rates(Decimal(10)), Rates(Decimal(20))
    offer = Offer("A", Rates(Decimal(1)), (Tier(twenty, prompt_over=20), Tier(ten, prompt_over=10)))

    assert [offer.rates_for(size).prompt for size in (10, 11, 20, 21)] == [1, 10, 10, 20]


def test_a_tier_over_zero_tokens_applies_to_any_prompt() -> None:
    offer = Offer("A", Rates(Decimal(1)), (Tier(Rates(Decimal(2)), prompt_over=0),))

    assert [offer.rates_for(size).prompt for size in (0, 1)] == [1, 2]


def test_hours_do_not_change_an_estimate() -> None:
    night = Tier(Rates(Decimal(9)), utc_start="16:30", utc_end="00:30")

    assert Offer("A", Rates(Decimal(1)), (night,)).rates_for(10**6).prompt == 1


def test_an_estimate_is_by_the_provider_that_served() -> None:
    usage = Usage(1_000, 100, cached=500)

    assert plain(M1.estimate(usage, "Minimax")) == "0.05134903"
    assert plain(M1.estimate(usage, "Novita")) == "0.1695633485"


def test_an_estimate_for_an_unknown_provider_is_by_the_first_offer() -> None:
    usage = Usage(1_000, 100)

    assert M1.estimate(usage) == M1.estimate(usage, "Nobody") == M1.estimate(usage, "Minimax")


# ── The bound ────────────────────────────────────────────────────────────────────────────────────


def test_what_a_cache_saved_is_by_the_provider_that_served_else_by_the_first() -> None:
    half, tenth = (
        Offer(name, Rates(Decimal(1), Decimal(1), cache_read=Decimal(rate)))
        for name, rate in (("half", "0.5"), ("tenth", "0.1"))
    )
    price = ModelPrice("a/b", (half, tenth))

    saved = [price.saved(Usage(100, 1, cached=10), name) for name in ("half", "tenth", "else", "")]

    assert saved == [Decimal(5), Decimal(9), Decimal(5), Decimal(5)]


def test_a_bound_is_of_the_dearest_provider_with_the_margin() -> None:
    cheap = ModelPrice("a/b", (Offer("Cheap", Rates(Decimal(1), Decimal(1))),))
    both = ModelPrice("a/b", (*cheap.offers, Offer("Dear", Rates(Decimal(2), Decimal(3)))))

    assert cheap.bound(10, 100) == Decimal(110) * MARGIN
    assert both.bound(10, 100) == Decimal(320) * MARGIN


def test_a_bound_knows_that_writing_the_cache_may_be_dearer_than_the_prompt() -> None:
    offer = Offer("A", Rates(Decimal(1), ZERO, Decimal("0.1"), Decimal("1.25")))

    assert ModelPrice("a/b", (offer,)).bound(100, 0) == Decimal(125) * MARGIN


def test_a_bound_covers_a_size_and_an_hour_that_apply_together() -> None:
    size = Tier(Rates(Decimal(1), Decimal(5)), prompt_over=10)
    hour = Tier(Rates(Decimal(4), Decimal(1)), utc_start="16:30", utc_end="00:30")
    price = ModelPrice("a/b", (Offer("A", Rates(Decimal(1), Decimal(1)), (size, hour)),))

    assert price.bound(100, 100) == Decimal(900) * MARGIN


def test_a_bound_is_rounded_up_at_the_twelfth_decimal() -> None:
    price = ModelPrice("a/b", (Offer("A", Rates(Decimal("1e-13"))),))

    assert plain(price.bound(1, 0)) == "0.000000000001"


@given(MODELS, usages(), st.integers(0, 1000), st.integers(0, 1000))
def test_no_call_within_its_tokens_costs_more_than_its_bound(
    price: ModelPrice, usage: Usage, more_prompt: int, more_completion: int
) -> None:
    bound = price.bound(usage.prompt + more_prompt, usage.completion + more_completion)

    for offer in price.offers:
        assert price.estimate(usage, offer.provider) <= bound
        for tier in offer.tiers:
            if tier.prompt_over is None or usage.prompt > tier.prompt_over:
                assert tier.rates.cost(usage) <= bound


@given(OFFERS, usages())
def test_no_mixture_of_tiers_costs_more_than_the_bound(offer: Offer, usage: Usage) -> None:
    bound = ModelPrice("a/b", (offer,)).bound(usage.prompt, usage.completion)

    apply = [
        tier.rates
        for tier in offer.tiers
        if tier.prompt_over is None or usage.prompt > tier.prompt_over
    ]
    every = (offer.rates, *apply)
    for prompt, completion, request in product(every, repeat=3):
        mixture = Rates(
            prompt.prompt,
            completion.completion,
            prompt.cache_read,
            prompt.cache_write,
            request.request,
        )
        assert mixture.cost(usage) <= bound


PERCENTS = st.integers(0, 10_000_000).map(lambda parts: Decimal(parts) / 10_000)


@given(MODELS, usages(), PERCENTS, st.fractions(0, 1))
def test_a_rise_that_is_allowed_stays_within_the_bound(
    price: ModelPrice, usage: Usage, percent: Decimal, part: Fraction
) -> None:
    """FAULTS E28: the bound's margin covers all that may happen before the job is paused."""
    bound = Fraction(price.bound(usage.prompt, usage.completion, margin(percent)))

    for offer in price.offers:
        rise = 1 + Fraction(percent) / 100 * part
        assert Fraction(price.estimate(usage, offer.provider)) * rise <= bound


@given(MODELS, MODELS, usages())
def test_no_offer_of_two_lists_costs_more_than_the_bound_of_both(
    old: ModelPrice, new: ModelPrice, usage: Usage
) -> None:
    both = listed(new).joined(listed(old)).models[old.model]

    bound = both.bound(usage.prompt, usage.completion)

    for price in (old, new):
        for offer in price.offers:
            assert price.estimate(usage, offer.provider) <= bound


def test_a_tier_that_a_prompt_cannot_reach_is_not_in_its_bound() -> None:
    assert MINIMAX.reachable(200_000) == (BASE,)
    assert MINIMAX.reachable(200_001) == MINIMAX.reachable() == (BASE, LONG)
    alone = ModelPrice("a/b", (MINIMAX,))
    assert alone.bound(1000, 0, Decimal(1)) == Decimal("0.0446513")


def test_parts_of_several_offers_make_the_dearest() -> None:
    price = ModelPrice(
        "a/b",
        (
            Offer("A", Rates(Decimal(1), Decimal(10))),
            Offer("B", Rates(Decimal(9), Decimal(2), request=Decimal(3))),
        ),
    )

    assert price.dearest() == Rates(Decimal(9), Decimal(10), request=Decimal(3))


# ── A rise ───────────────────────────────────────────────────────────────────────────────────────


def listed(*prices: ModelPrice) -> PriceList:
    return PriceList(1.0, "url", "0" * 64, {price.model: price for price in prices})


def at(factor: str) -> PriceList:
    rates = Rates(BASE.prompt * Decimal(factor), BASE.completion * Decimal(factor))
    return listed(ModelPrice("a/b", (Offer("A", rates),)))


@pytest.mark.parametrize("factor", ["0.5", "1", "1.2"])
def test_a_rise_up_to_what_is_allowed_is_none(factor: str) -> None:
    assert find_rise(at("1"), at(factor), Decimal(20)) is None


def test_a_rise_beyond_is_told_with_the_model_and_both_prices() -> None:
    rise = find_rise(at("1"), at("3"), Decimal(20))

    assert rise == Rise("a/b", "prompt", BASE.prompt, BASE.prompt * 3)
    assert rise.message == (
        "a/b asks 133.9539 ₽ per million tokens (prompt) and asked 44.6513 ₽ (+200 %)"
    )


def test_what_was_free_and_is_not_any_more_has_risen() -> None:
    free = listed(ModelPrice("a/b", (Offer("A", Rates(ZERO, ZERO)),)))
    asks = listed(ModelPrice("a/b", (Offer("A", Rates(ZERO, ZERO, request=Decimal("0.5"))),)))

    rise = find_rise(free, asks, Decimal(1000))

    assert rise
    assert rise.message == "a/b asks 0.5 ₽ a request (request) and asked 0 ₽"


def test_a_dearer_provider_that_joins_is_a_rise_and_one_that_leaves_is_none() -> None:
    alone = listed(ModelPrice("a/b", (Offer("A", BASE),)))
    both = listed(ModelPrice("a/b", (Offer("A", BASE), Offer("B", DEAR))))

    assert find_rise(alone, both, Decimal(20)) is not None
    assert find_rise(both, alone, Decimal(0)) is None


def test_a_model_without_a_price_before_cannot_rise() -> None:
    assert find_rise(listed(), at("3"), Decimal(0)) is None


def test_a_newer_list_keeps_what_it_prices_no_more_and_what_was_given_by_hand() -> None:
    gone = ModelPrice("gone/x", (Offer("A", BASE),))
    given = ModelPrice("a/b", (Offer("", DEAR),), by_hand=True)

    kept = listed(gone, given).kept_up(at("2"))

    assert kept.models == {"gone/x": gone, "a/b": given}
    assert listed(gone).kept_up(at("2")).models == {"gone/x": gone, **at("2").models}


@given(MODELS, usages())
def test_a_bound_has_no_more_decimals_than_twelve(price: ModelPrice, usage: Usage) -> None:
    assert (Fraction(price.bound(usage.prompt, usage.completion)) * 10**12).denominator == 1


# ── The longest answer ───────────────────────────────────────────────────────────────────────────


def test_the_longest_answer_is_that_of_the_most_patient_provider() -> None:
    assert M1.max_completion_tokens == 128_000


def test_one_provider_that_does_not_tell_its_longest_answer_may_fill_the_context() -> None:
    silent = Offer("Silent", BASE)

    assert ModelPrice("a/b", (MINIMAX, silent), 1_000_000).max_completion_tokens == 1_000_000
    assert ModelPrice("a/b", (MINIMAX, silent)).max_completion_tokens is None


def test_a_price_list_comes_back_from_the_disk_to_the_last_digit() -> None:
    prices = PriceList(1.5, "https://routerai.ru/api/v1/models", "ab", {M1.model: M1})

    stored = msgspec.msgpack.encode(prices)

    assert msgspec.msgpack.decode(stored, type=PriceList) == prices


def test_a_lane_has_its_own_offers_before_those_that_may_serve_it_too() -> None:
    lanes = ("", "flex", "priority")
    offers = [Offer(lane or "usual", BASE, tag=f"p/{lane}" if lane else "p") for lane in lanes]
    price = ModelPrice("author/model", tuple(offers))

    found = {lane: [one.provider for one in price.in_lane(lane).offers] for lane in lanes}
    assert found == {
        "": ["usual", "flex"],
        "flex": ["flex", "usual"],
        "priority": ["priority", "usual", "flex"],
    }
    assert [price.sells(lane) for lane in (*lanes, "batch")] == [True, True, True, False]


def test_a_model_takes_schemas_where_its_parameters_say_so() -> None:
    assert not M1.takes_schemas
    assert msgspec.structs.replace(M1, parameters=("structured_outputs",)).takes_schemas


def test_lists_of_different_models_join() -> None:
    other = msgspec.structs.replace(M1, model="other/model")

    assert listed(M1).joined(listed(other)).models == {M1.model: M1, other.model: other}


@pytest.mark.parametrize(
    ("prompt", "completion", "is_one"),
    [("0.5", "1", True), ("1", "0.5", True), ("1", "1", False), ("0.1", "1.1", False)],
)
def test_hours_are_off_peak_where_nothing_is_dearer_and_something_cheaper(
    prompt: str, completion: str, *, is_one: bool
) -> None:
    usual = Rates(Decimal(1), Decimal(1))
    then = Tier(Rates(Decimal(prompt), Decimal(completion)), utc_start="20:00", utc_end="06:00")
    price = ModelPrice("author/model", (Offer("A", usual, (then,)),))

    assert (price.off_peak() == then) is is_one
    assert (price.at_off_peak() is price) is not is_one
