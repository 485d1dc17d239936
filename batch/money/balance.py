"""What is on the account, asked with the key before anything is spent."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

from batch.endpoint_queries import asking
from jobs.address import join
from jobs.credits import balance_of
from jobs.errors import ServiceUnavailable

_OK = 200


def read_balance(base_url: str) -> Decimal | None:
    """The balance in the endpoint's money; None where the endpoint doesn't tell it to this key."""
    with suppress(ServiceUnavailable):
        page = asking(base_url, lambda ask: ask(join(base_url, "credits"), b""))
        return balance_of(page.body) if page.status == _OK else None
    return None
