"""What lookups say of money: costs of calls, the balance."""

from __future__ import annotations

from decimal import Decimal

import pytest

from jobs.usage import Usage
from tests.workers.fakes import COST
from tests.workers.fakes import cut as broken_off
from workers.calling.endpoint import Answer, Reply
from workers.calling.lookup import balance_in, found_in

DEEP = b"[" * 100_000


def told(body: bytes, status: int = 200) -> Reply:
    return Reply(status, {}, body, 0.1)


def test_a_lookup_tells_the_exact_cost() -> None:
    body = (
        b'{"data":{"total_cost":0.0000522948192,"tokens_prompt":480,"tokens_completion":20,'
        b'"native_tokens_cached":7,"native_tokens_reasoning":5,"provider_name":"Minimax"}}'
    )
    found = found_in(told(body), 7, "box-1")

    assert (found.ordinal, found.call, found.cost) == (7, "box-1", COST)
    assert found.usage == Usage(480, 20, 7, 0, 5)
    assert found.provider == "Minimax"


def test_a_lookup_in_dollars_is_told_in_roubles() -> None:
    assert found_in(told(b'{"data":{"total_cost":0.2}}'), 7, "c", Decimal("90.5")).cost == Decimal(
        "18.1"
    )
    assert found_in(told(b'{"data":{"total_cost":1e-30}}'), 7, "c", Decimal("90.5")).cost is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(broken_off(), id="no answer"),
        pytest.param(told(b'{"data":{"total_cost":1}}', 404), id="not known yet"),
        pytest.param(told(b""), id="empty"),
        pytest.param(told(b"null"), id="null"),
        pytest.param(told(b'{"data":null}'), id="no data"),
        pytest.param(told(b'{"data":{"total_cost":null}}'), id="no cost"),
        pytest.param(told(b'{"data":{"total_cost":-1}}'), id="negative"),
        pytest.param(told(b'{"data":{"total_cost":"NaN"}}'), id="NaN"),
        pytest.param(told(b'{"data":{"total_cost":1e999}}'), id="endless"),
        pytest.param(told(b'{"data":{"provider_name":"\xff"}}'), id="no UTF-8"),
        pytest.param(told(DEEP), id="deep"),
    ],
)
def test_a_lookup_without_a_price_tells_that_it_is_unknown(answer: Answer) -> None:
    assert found_in(answer, 0, "c").cost is None
    assert balance_in(answer) is None


@pytest.mark.parametrize("field", ["tokens_prompt", "tokens_completion", "native_tokens_cached"])
@pytest.mark.parametrize("count", ["-5", "1e30", str(2**60)])
def test_e26_counts_of_a_lookup_that_make_no_sense_are_not_trusted(field: str, count: str) -> None:
    fields = {"tokens_prompt": "1", "tokens_completion": "1", field: count}
    text = ",".join(f'"{name}":{value}' for name, value in fields.items())

    found = found_in(told(f'{{"data":{{"total_cost":1,{text}}}}}'.encode()), 0, "c")

    assert found.usage is None


@pytest.mark.parametrize(
    ("data", "balance"),
    [
        ('{"credits":170.42180052356514}', Decimal("170.42180052356514")),
        ('{"credits":-0.5}', Decimal("-0.5")),
        ('{"total_credits":10.5,"total_usage":10.4}', Decimal("0.1")),
        ('{"total_credits":10.5}', None),
        ('{"credits":"NaN"}', None),
        ('{"credits":"Infinity"}', None),
        ('{"credits":1e200000000}', None),
        ('{"credits":-1e17}', None),
        ('{"total_credits":1e200000000,"total_usage":1}', None),
        ('{"total_credits":1e70,"total_usage":1e-70}', None),
        ("{}", None),
    ],
)
def test_the_balance_is_read_as_either_gateway_tells_it(data: str, balance: Decimal | None) -> None:
    assert balance_in(told(f'{{"data":{data}}}'.encode())) == balance
