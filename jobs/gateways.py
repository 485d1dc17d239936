"""What differs between endpoints in money: where a cost stands, in which currency, how prices are
listed. One table; a new gateway is a new line in it.

    RouterAI    usage.cost in ₽; prices per token in ₽
    OpenRouter  usage.cost in $; prices per token in $
    AITUNNEL    usage.cost_rub
    Polza       usage.cost_rub; prices per million tokens, as text, within `top_provider`
    ProxyAPI    tells no cost and lists no prices

Of an endpoint that is none of these nobody knows in which currency it counts; the user says it, or
its figures are left alone (`batch.money.currency`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from jobs.errors import InvalidValue
from jobs.message import N_

RUB, USD, UNKNOWN = "RUB", "USD", "unknown"
ONE = Decimal(1)


class Tariff(msgspec.Struct, frozen=True, array_like=True):
    """How to read what a call cost: the fields of `usage`, the first that is there counts, and how
    many roubles one unit of it is. Lookups (`total_cost`) are in the same unit.
    """

    fields: tuple[str, ...] = ("cost_rub", "cost")
    rate: Decimal = ONE


ROUBLES = Tariff()


class Listed(NamedTuple):
    """A key of a price list: the part of our `Rates`, and for how many tokens or requests it is."""

    part: str
    per: int = 1


PER_TOKEN: Mapping[str, Listed] = {
    "prompt": Listed("prompt"),
    "completion": Listed("completion"),
    "input_cache_read": Listed("cache_read"),
    "input_cache_write": Listed("cache_write"),
    "request": Listed("request"),
}
PER_MILLION: Mapping[str, Listed] = {
    "prompt_per_million": Listed("prompt", 10**6),
    "completion_per_million": Listed("completion", 10**6),
    "input_cache_read_per_million": Listed("cache_read", 10**6),
    "input_cache_write_per_million": Listed("cache_write", 10**6),
    "request_per_thousand": Listed("request", 10**3),
    "per_request": Listed("request"),
}


class Gateway(NamedTuple):
    """One line of the table. `fields` of `usage` hold the cost, `prices` are the keys of a list."""

    name: str
    hosts: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("cost_rub", "cost")
    currency: str = RUB
    prices: Mapping[str, Listed] = PER_TOKEN


ROUTERAI = Gateway("routerai", ("routerai.ru",))
OTHER = Gateway("other", currency=UNKNOWN)
GATEWAYS: dict[str, Gateway] = {
    each.name: each
    for each in (
        ROUTERAI,
        Gateway("openrouter", ("openrouter.ai",), ("cost",), USD),
        Gateway("aitunnel", ("aitunnel.ru",), ("cost_rub",)),
        Gateway("polza", ("polza.ai",), ("cost_rub",), RUB, PER_MILLION),
        Gateway("proxyapi", ("proxyapi.ru",), ()),
    )
}


def gateway_of(base_url: str, named: str | None = None) -> Gateway:
    """The gateway of this name, else the one whose host it is, else `OTHER`.

    `ValueError` for a name that is not in the table.
    """
    if named is not None:
        if named not in GATEWAYS:
            raise InvalidValue(
                N_(
                    "{named!r} is not a known gateway: {gateways}",
                    named=named,
                    gateways=", ".join(GATEWAYS),
                )
            )
        return GATEWAYS[named]
    host = urlsplit(base_url).hostname or ""
    for gateway in GATEWAYS.values():
        if any(host == one or host.endswith(f".{one}") for one in gateway.hosts):
            return gateway
    return OTHER
