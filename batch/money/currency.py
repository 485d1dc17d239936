"""In which currency an endpoint counts: said before anything is sent, and never taken for granted.

a gateway of the table                its own
--currency                            that one; dollars need --usd-rate
--usd-rate alone                      dollars
an unknown host on this machine       roubles, unless its prices are texts, as dollars are told
any other unknown host                not known: no price and no cost of it is read
"""

from __future__ import annotations

from urllib.parse import urlsplit

from jobs.address import LOOPBACK
from jobs.errors import UsageError
from jobs.gateways import RUB, UNKNOWN, USD
from jobs.job_options import Spec
from jobs.message import N_
from jobs.prices import PriceList


def settled(spec: Spec) -> Spec:
    """The spec with the currency that is known before the catalogue is read.

    None is left where the catalogue decides. `UsageError` for dollars without a rate, and for a cap
    in roubles where nobody says what the figures are.
    """
    known = spec.currency or (None if spec.seller.currency == UNKNOWN else spec.seller.currency)
    known = known or (None if spec.usd_rate is None else USD)
    if known == USD and spec.usd_rate is None:
        raise UsageError(
            N_("prices of {base_url} are in dollars", base_url=spec.base_url),
            hint=N_("set the rate: --usd-rate 90.5"),
        )
    if known is None and not _is_here(spec):
        known = UNKNOWN
    spec = spec.model_copy(update={"currency": known})
    if spec.budget.rub is not None:
        check_cap(spec)
    return spec


def decided(spec: Spec, told: PriceList | None) -> Spec:
    """The spec with the currency that the catalogue leaves."""
    if spec.currency is not None:
        return spec
    foreign = told is not None and told.in_texts
    return spec.model_copy(update={"currency": UNKNOWN if foreign else RUB})


def check_cap(spec: Spec) -> None:
    """`UsageError` where a cap in roubles is to hold for figures that may be anything."""
    if spec.currency == UNKNOWN and spec.price_file is None and spec.request_bound_rub is None:
        raise UsageError(
            N_(
                "the currency of {host} is unknown, so no cap in roubles can be kept",
                host=_host(spec),
            ),
            hint=N_(
                "set --currency RUB, or --usd-rate 90.5 for dollars; --budget-tokens and"
                " --budget-requests work in any case"
            ),
        )


def is_sure(spec: Spec) -> bool:
    """Whether the currency needs no word: a known gateway's roubles."""
    return spec.seller.currency == RUB and spec.money == RUB


def _is_here(spec: Spec) -> bool:
    return _host(spec) in LOOPBACK


def _host(spec: Spec) -> str:
    return urlsplit(spec.base_url).hostname or ""
