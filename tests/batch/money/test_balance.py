"""What is on the account: told to a key that may know, and to no other."""

from __future__ import annotations

from decimal import Decimal

import pytest

from batch.money.balance import read_balance
from tests.batch.money.test_catalogue_prices import serving

CREDITS = b'{"data":{"total_credits":10.5,"total_usage":3}}'


@pytest.mark.parametrize(
    ("status", "page", "balance"),
    [
        (200, CREDITS, Decimal("7.5")),
        (200, b"<html>", None),
        (403, CREDITS, None),
        (404, b"{}", None),
        (500, b"{}", None),
    ],
)
def test_a_balance_is_known_where_the_endpoint_tells_it(
    status: int, page: bytes, balance: Decimal | None
) -> None:
    with serving({"/v1/credits": (status, page)}) as (url, _):
        assert read_balance(url) == balance
