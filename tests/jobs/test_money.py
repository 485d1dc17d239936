"""Roubles stay exact from the bytes to the page (FAULTS, Decimal rules 1 to 4)."""

from __future__ import annotations

import operator
from decimal import Decimal
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.money import ZERO, add, parse_amount, plain, round_up, show, subtract, times, total

RECORDED = "0.0000522948192"
"""A cost as RouterAI wrote it: thirteen decimals."""


def texts(highest: int = 16, places: int = 30) -> st.SearchStrategy[str]:
    """Amounts as an endpoint may write them, up to the limits of `parse_amount`."""
    whole = st.integers(0, 10**highest - 1).map(str)
    part = st.text("0123456789", min_size=1, max_size=places)
    return st.one_of(whole, st.tuples(whole, part).map(".".join))


AMOUNTS = texts().map(parse_amount)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (RECORDED, "0.0000522948192"),
        ("5.22948192E-5", "0.0000522948192"),
        ("5.22948192e-05", "0.0000522948192"),
        ("0", "0"),
        ("0.0", "0"),
        ("00.5", "0.5"),
        ("1e3", "1000"),
        ("1e-30", "0.000000000000000000000000000001"),
        ("9999999999999999", "9999999999999999"),
        ("2054.78", "2054.78"),
    ],
)
def test_an_amount_keeps_every_digit(text: str, amount: str) -> None:
    assert parse_amount(text) == Decimal(amount)
    assert plain(parse_amount(text)) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "sNaN", "nan", "Infinity", "inf", "-Infinity"),
        *("-1", "+1", "-0", "-0.0000522948192"),
        # Decimal would take these for 10, 12 and 1.
        *("1_0", "１２", "١"),
        *("1,5", "1 000", "0x10", ".5", "5.", ".", "1.2.3", "1e", "e5", "1e5.0", "null", "true"),
        *("", " ", " 1", "1 ", "1\n"),
        *("1e31", "1e99", "1e999", "1e-31", "1e-999", "9" * 31, "0." + "1" * 31),
        # Each of these parts fits, but a sum with others would need more than 60 digits.
        *("1e16", "9" * 30, "1.000000000000000000000000000001e-30", "1." + "0" * 29 + "1e-2"),
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        parse_amount(text)


def test_a_refusal_quotes_only_the_beginning() -> None:
    with pytest.raises(ValueError, match="not an amount") as refusal:
        parse_amount("x" * 10_000)

    assert len(str(refusal.value)) < 100


@given(st.text(max_size=20))
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    try:
        amount = parse_amount(text)
    except ValueError:
        return

    assert amount >= 0
    assert text.isascii()
    assert Fraction(amount) == Fraction(text)


# ── Reckoning ────────────────────────────────────────────────────────────────────────────────────


def test_a_million_recorded_costs_sum_to_the_last_digit() -> None:
    assert plain(total(parse_amount(RECORDED) for _ in range(1_000_000))) == "52.2948192"
    # From Python 3.12 on `sum` makes good what the sum of two loses.
    assert reduce(operator.add, [float(RECORDED)] * 1_000_000) != 52.2948192


@given(st.lists(AMOUNTS, max_size=30))
def test_a_sum_is_exact_in_any_order(amounts: list[Decimal]) -> None:
    assert Fraction(total(amounts)) == sum(map(Fraction, amounts))
    assert total(amounts) == total(reversed(amounts))


@given(AMOUNTS, AMOUNTS)
def test_what_was_added_can_be_taken_away_again(left: Decimal, right: Decimal) -> None:
    assert Fraction(add(left, right)) == Fraction(left) + Fraction(right)
    assert subtract(add(left, right), right) == left


@given(AMOUNTS, st.integers(0, 10**12))
def test_a_product_is_exact(amount: Decimal, count: int) -> None:
    assert Fraction(times(amount, count)) == Fraction(amount) * count


@given(AMOUNTS)
def test_rounding_up_never_takes_anything_away_and_adds_less_than_a_quantum(
    amount: Decimal,
) -> None:
    rounded = round_up(amount)

    assert 0 <= Fraction(rounded) - Fraction(amount) < Fraction(1, 10**12)
    assert round_up(rounded) == rounded


def test_a_bound_is_rounded_up_at_the_twelfth_decimal() -> None:
    assert plain(round_up(Decimal("0.0000000000010000001"))) == "0.000000000002"
    assert plain(round_up(Decimal("0.000000000001"))) == "0.000000000001"


def test_nothing_sums_to_nothing() -> None:
    assert total([]) == ZERO


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("5.22948192E-5", "0.0000522948192"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("100.00", "100"),
        ("0.10", "0.1"),
        ("0E-20", "0"),
        ("0E+9", "0"),
        ("-1.50", "-1.5"),
    ],
)
def test_plain_has_neither_exponent_nor_trailing_zeros(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@given(AMOUNTS)
def test_plain_is_read_back_as_the_same_amount(amount: Decimal) -> None:
    assert parse_amount(plain(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00 ₽"),
        ("1", "1.00 ₽"),
        ("1234.565", "1,234.56 ₽"),
        ("1234.575", "1,234.58 ₽"),
        ("999.995", "1,000.00 ₽"),
        ("1234567.8", "1,234,567.80 ₽"),
        ("-3", "-3.00 ₽"),
        (RECORDED, "0.00005229 ₽"),
        ("0.123456", "0.1235 ₽"),
        ("0.3", "0.30 ₽"),
        ("0.99996", "1.00 ₽"),
        ("-0.123456", "-0.1235 ₽"),
    ],
)
def test_a_person_sees_kopecks_half_even_and_small_change_in_four_digits(
    amount: str, text: str
) -> None:
    assert show(Decimal(amount)) == text


@given(AMOUNTS)
def test_showing_never_fails_and_is_at_most_half_a_kopeck_off(amount: Decimal) -> None:
    shown = Decimal(show(amount).removesuffix(" ₽").replace(",", ""))

    assert abs(Fraction(shown) - Fraction(amount)) <= Fraction(1, 200)
