"""In which currency an endpoint counts: never taken for granted, and said."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from batch.cli.submission_summary import money_line
from batch.money.currency import check_cap, decided, settled
from batch.money.pricewatch import form_of
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.prices import PriceList

HERE = "http://127.0.0.1:9/v1"
AWAY = "https://llm.example/v1"


def spec(url: str, **wish: Any) -> Spec:
    return Spec(name="n", source="s", output_dir="/out", base_url=url, **wish)


def told(*, in_texts: bool = False) -> PriceList:
    return PriceList(0.0, "", "", {}, in_texts=in_texts)


@pytest.mark.parametrize(
    ("url", "wish", "money", "rate"),
    [
        ("https://routerai.ru/api/v1", {}, "RUB", 1),
        (AWAY, {}, "unknown", 1),
        (AWAY, {"currency": "RUB"}, "RUB", 1),
        (AWAY, {"usd_rate": "90"}, "USD", 90),
        (AWAY, {"usd_rate": "90", "currency": "RUB"}, "RUB", 1),
        (AWAY, {"gateway": "aitunnel"}, "RUB", 1),
        ("https://openrouter.ai/api/v1", {"usd_rate": "90"}, "USD", 90),
        ("https://openrouter.ai/api/v1", {"currency": "RUB"}, "RUB", 1),
        (HERE, {"usd_rate": "90"}, "USD", 90),
        (HERE, {}, "RUB", 1),
    ],
)
def test_the_currency_is_the_gateways_or_what_the_user_says(
    url: str, wish: dict[str, Any], money: str, rate: int
) -> None:
    one = decided(settled(spec(url, **wish)), told())

    assert (one.money, one.rate) == (money, Decimal(rate))
    assert bool(one.terms().tariff.fields) is (money != "unknown")
    assert bool(form_of(one).keys) is (money != "unknown")


@pytest.mark.parametrize(
    "wish", [{"url": "https://openrouter.ai/api/v1"}, {"url": AWAY, "currency": "USD"}]
)
def test_dollars_need_a_rate(wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="are in dollars"):
        settled(spec(**wish))


def test_a_cap_in_roubles_needs_a_known_currency() -> None:
    with pytest.raises(UsageError, match=r"llm\.example is unknown") as refusal:
        settled(spec(AWAY, budget={"rub": Decimal(5)}))

    assert "--currency RUB" in refusal.value.hint
    settled(spec(AWAY, budget={"tokens": 5, "requests": 5}))
    settled(spec(AWAY, budget={"rub": 5}, currency="RUB"))
    settled(spec(AWAY, budget={"rub": 5}, price_file="/prices.toml"))


def test_prices_in_texts_of_an_unknown_host_are_not_taken_for_roubles() -> None:
    one = decided(settled(spec(HERE, budget={"rub": 5})), told(in_texts=True))

    assert one.money == "unknown"
    with pytest.raises(UsageError, match="no cap in roubles"):
        check_cap(one)


@pytest.mark.parametrize(
    ("url", "wish", "words"),
    [
        ("https://routerai.ru/api/v1", {}, ""),
        (HERE, {}, "prices and costs of 127.0.0.1 are read as roubles"),
        (AWAY, {"usd_rate": "90.5"}, "in dollars, at 90.50 ₽ per dollar"),
        (AWAY, {}, "the currency of llm.example is unknown, so its prices and costs are ignored"),
    ],
)
def test_it_is_said_in_which_money(url: str, wish: dict[str, Any], words: str) -> None:
    line = money_line(decided(settled(spec(url, **wish)), told()))

    assert words in line
    assert bool(words) is bool(line)
