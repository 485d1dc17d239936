"""Figures as people write them, and plain words for what is none."""

from __future__ import annotations

from decimal import Decimal

import click
import pytest

from batch.cli.parameter_types import Roubles, Seconds, Whole, model_map


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500", "500"),
        ("0.35", "0.35"),
        ("0,35", "0.35"),
        ("500 ₽", "500"),
        ("500₽", "500"),
        ("500 руб.", "500"),
        ("500 р", "500"),
        ("500 RUB", "500"),
        ("1,000.50", "1000.50"),
        ("1 000,50", "1000.50"),
        ("1\u00a0000,50\u00a0₽", "1000.50"),
        ("1.000,50", "1000.50"),
        ("1,000,000", "1000000"),
        ("0,500", "0.500"),
    ],
)
def test_an_amount_is_read_as_it_is_written(text: str, amount: str) -> None:
    assert Roubles().convert(text, None, None) == Decimal(amount)


@pytest.mark.parametrize(
    "text", ["much", "10m", "-5", "1e400", "$5", "", "1,00,0.5", "nan", "5 5 x"]
)
def test_what_is_no_amount_is_told_in_plain_words(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an amount in roubles"):
        Roubles().convert(text, None, None)


def test_a_figure_that_may_mean_two_is_not_guessed() -> None:
    with pytest.raises(click.BadParameter, match=r"may mean 1000 or 1\.000"):
        Roubles().convert("1,000", None, None)


@pytest.mark.parametrize(("text", "count"), [("1000", 1000), ("1,000", 1000), ("1 000", 1000)])
def test_a_whole_number_may_have_its_thousands_apart(text: str, count: int) -> None:
    assert Whole(min=1).convert(text, None, None) == count


@pytest.mark.parametrize("text", ["10m", "1.5", "many", "1_000", "0x10"])
def test_what_is_no_whole_number_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a whole number such as 1000"):
        Whole(min=1).convert(text, None, None)


def test_a_range_is_kept() -> None:
    with pytest.raises(click.BadParameter, match="range"):
        Whole(min=1).convert("0", None, None)
    with pytest.raises(click.BadParameter, match="range"):
        Seconds(min=1).convert("0.5s", None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1.5 h", 5400), ("10 мин", 600), ("0,5h", 1800)],
)
def test_a_time_may_have_a_unit(text: str, seconds: float) -> None:
    assert Seconds(min=1).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["soon", "10x", "1h30"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time such as 90, 90s, 15m or 1h"):
        Seconds(min=1).convert(text, None, None)


def test_names_of_models_may_have_options_of_their_own() -> None:
    pinned = "a/b@provider=x&allow_fallbacks=false"
    param, context = click.Option(["--model-map"]), click.Context(click.Command("run"))

    found = model_map(context, param, ("gpt-4o=" + pinned, f"{pinned}=c/d"))

    assert found == {"gpt-4o": pinned, pinned: "c/d"}
