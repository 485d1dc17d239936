"""The table of what differs between endpoints in money."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from jobs.gateways import GATEWAYS, OTHER, Tariff, gateway_of
from jobs.job_options import Spec


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://routerai.ru/api/v1", "routerai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.aitunnel.ru/v1", "aitunnel"),
        ("https://api.polza.ai/v1", "polza"),
        ("https://polza.ai/api/v1", "polza"),
        ("https://api.proxyapi.ru/openai/v1", "proxyapi"),
        ("http://127.0.0.1:8080/v1", "other"),
        ("https://notopenrouter.ai/v1", "other"),
    ],
)
def test_a_gateway_is_known_by_its_host(url: str, name: str) -> None:
    assert gateway_of(url).name == name


def test_a_gateway_that_is_named_counts_whatever_the_host() -> None:
    assert gateway_of("https://routerai.ru/api/v1", "polza") is GATEWAYS["polza"]
    with pytest.raises(ValueError, match="openrouter"):
        gateway_of("", "nobody")
    assert gateway_of("") is OTHER


def spec(tmp_path: Path, **wish: object) -> Spec:
    facts = {"name": "n", "source": "s", "output_dir": str(tmp_path)}
    return Spec.model_validate({**facts, "base_url": "https://openrouter.ai/api/v1", **wish})


def test_a_worker_is_told_where_a_cost_stands_and_what_it_is_in_roubles(tmp_path: Path) -> None:
    dollars = spec(tmp_path, usd_rate="90.5").terms().tariff
    named = spec(tmp_path, usd_rate="90.5", gateway="aitunnel").terms().tariff

    assert dollars == Tariff(("cost",), Decimal("90.5"))
    assert named == Tariff(("cost_rub",), Decimal(1))


def test_a_name_that_no_gateway_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a known gateway"):
        spec(tmp_path, gateway="nobody")
