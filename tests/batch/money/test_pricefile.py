"""Prices by hand: read exactly, and every mistake is told with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from batch.money import pricefile
from batch.money.pricefile import read_price_file
from jobs.errors import UsageError
from jobs.prices import ModelPrice, Offer, Rates, Tier

PRICES = ModelPrice(
    "my/model",
    (
        Offer(
            "",
            Rates(
                Decimal("0.000045"),
                Decimal("0.00018"),
                Decimal("0.0000225"),
                Decimal("0.00005625"),
                Decimal("0.01"),
            ),
            (Tier(Rates(Decimal("0.00009"), Decimal("0.00036")), prompt_over=200000),),
            16384,
        ),
    ),
    by_hand=True,
)


def read(folder: Path, text: str, name: str = "p.toml", rate: str | None = None) -> ModelPrice:
    path = folder / name
    path.write_text(text)
    found = read_price_file(path, None if rate is None else Decimal(rate), now=5.0)
    assert (found.taken_at, found.source, len(found.sha256)) == (5.0, str(path), 64)
    (price,) = found.models.values()
    return price


def test_the_form_that_the_manual_shows_is_read_to_the_last_digit(tmp_path: Path) -> None:
    shown = (pricefile.__doc__ or "").split("small TOML or JSON file.")[1]
    text = "\n".join(line.removeprefix("    ") for line in shown.splitlines())
    manual = (Path(__file__).parents[3] / "docs" / "money.md").read_text()

    assert read(tmp_path, text) == PRICES
    (block,) = [part for part in manual.split("```") if part.startswith("toml\n")]
    assert read(tmp_path, block.removeprefix("toml\n")) == PRICES


def test_json_is_as_good_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    text = '{"models": {"m": {"prompt": 0.1, "completion": 3e-7, "request": "1"}}}'

    (offer,) = read(tmp_path, text, "p.json").offers

    assert offer.rates == Rates(Decimal("1e-7"), Decimal("3e-13"), request=Decimal(1))


def test_dollars_are_counted_at_the_rate_that_is_given_and_refused_without(tmp_path: Path) -> None:
    text = 'currency = "USD"\n[models.m]\nprompt = "2.50"\ncompletion = "10"\nrequest = "0.5"\n'

    (offer,) = read(tmp_path, text, rate="90.5").offers
    assert offer.rates == Rates(
        Decimal("0.00022625"), Decimal("0.000905"), request=Decimal("45.25")
    )

    with pytest.raises(UsageError, match="dollars") as refusal:
        read(tmp_path, text)
    assert "--usd-rate" in refusal.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models = 3", "models"),
        ("", "models"),
        ("[models.m]\nprompt = '1'", "models.m.completion"),
        ("[models.m]\nprompt = '-1'\ncompletion = '1'", "models.m.prompt: not an amount"),
        ("[models.m]\nprompt = true\ncompletion = '1'", "models.m.prompt: is not a price"),
        ("[models.m]\nprompt = nan\ncompletion = '1'", "not an amount"),
        ("[models.m]\nprompt = '1'\ncompletion = '1'\nprise = '1'", "models.m.prise"),
        ("[models.m]\nprompt = '1'\ncompletion = '1'\nmax_completion_tokens = 0", "greater than"),
        (
            "[models.m]\nprompt = '1'\ncompletion = '1'\n[[models.m.over]]\nprompt = '1'",
            "models.m.over.0.completion",
        ),
        (f"[models.m]\nprompt = '0.{'1' * 30}'\ncompletion = '1'", "too many digits"),
        ("currency = 'EUR'\n[models.m]\nprompt = '1'\ncompletion = '1'", "RUB or USD"),
        ("[models.m", "is not TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=r"p\.toml") as refusal:
        read(tmp_path, text)

    assert told in str(refusal.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b'{"models": {"m": NaN}}'])
def test_what_is_no_json_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)

    with pytest.raises(UsageError, match="is not JSON"):
        read_price_file(path, None, now=0)


def test_a_file_that_is_not_there_or_is_huge_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_price_file(tmp_path / "none.toml", None, now=0)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 2**21)
    with pytest.raises(UsageError, match="larger than"):
        read_price_file(huge, None, now=0)
