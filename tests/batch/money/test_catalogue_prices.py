"""Prices as endpoints tell them, and what happens when they do not."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import endpoint_queries
from batch.money.catalogue_prices import Form, model_price, read_catalogue, read_prices
from jobs.errors import ServiceUnavailable
from jobs.gateways import PER_MILLION
from jobs.money import parse_amount, plain
from jobs.prices import ModelPrice, Offer, Rates, Tier
from jobs.secret import KEY_SOURCES
from jobs.usage import Usage
from scripts.simulator import Simulator
from scripts.simulator.client import Client
from tests import loopback
from tests.conftest import CANARY
from tests.loopback import Quiet, dripping

MODEL = "minimax/minimax-m1"
PRICING = '"pricing":{"prompt":0.0000446513,"completion":0.0002455823}'
BASE = Rates(Decimal("0.0000446513"), Decimal("0.0002455823"))

ROUTERAI = b"""
 {"data":[{"id":"minimax/minimax-m1","name":"MiniMax: MiniMax M1","created":1750200414,
 "architecture":{"modality":"text->text"},"context_length":1000000,
 "pricing":{"prompt":0.0000446513,"completion":0.0002455823,"input_cache_read":0.0000089303},
 "top_provider":{"context_length":1000000,"max_completion_tokens":40000,"is_moderated":false}},
 {"id":"example/free","context_length":null,"pricing":{"prompt":0,"completion":2e-5,
 "request":0.0125},"top_provider":null}]}"""

ROUTERAI_ENDPOINTS = b"""
 {"data":{"id":"minimax/minimax-m1","endpoints":[
 {"name":"Novita | minimax/minimax-m1","provider_name":"Novita","status":0,
 "pricing":{"prompt":0.000109395685,"completion":0.000601676635},"max_completion_tokens":128000},
 {"name":"Minimax | minimax/minimax-m1","provider_name":"Minimax","status":0,
 "pricing":{"prompt":0.0000446513,"completion":0.0002455823,"input_cache_read":0.0000089303},
 "max_completion_tokens":40000,"variable_pricings":[
 {"type":"prompt-threshold","threshold":200000,"prompt":0.0001451168},
 {"type":"time-of-day","utc_start":"16:30","utc_end":"00:30","completion":0.0001}]}]},
 "error":null}"""

OPENROUTER = b"""{"data":[
 {"id":"openai/gpt-4.1","context_length":1047576,
 "pricing":{"prompt":"0.000002","completion":"0.000008","request":"0","image":"0",
 "web_search":"0","internal_reasoning":"0","input_cache_read":"0.0000005"},
 "top_provider":{"max_completion_tokens":32768}},
 {"id":"openrouter/auto","context_length":2000000,"pricing":{"prompt":"-1","completion":"-1"}}]}"""


def priced(entry: str, endpoints: str | None = None) -> ModelPrice | None:
    """The price of the one model `m/m`, of whose entry and endpoints the inside is given."""
    listed = read_catalogue(b'{"data":[{"id":"m/m",%s}]}' % entry.encode())
    assert listed is not None
    document = f'{{"data":{{"endpoints":[{endpoints}]}}}}'.encode() if endpoints else b""
    return model_price(listed["m/m"], document)


def tier(variable: str) -> Tier:
    """The one tier on top of `PRICING`."""
    price = priced(PRICING, f'{{"provider_name":"P",{PRICING},"variable_pricings":[{variable}]}}')
    assert price is not None
    return price.offers[0].tiers[0]


# ── Documents of recorded shape ──────────────────────────────────────────────────────────────────


def test_routerais_numbers_keep_every_digit_and_its_tiers_inherit() -> None:
    listed = read_catalogue(ROUTERAI)
    assert listed is not None

    price = model_price(listed[MODEL], ROUTERAI_ENDPOINTS)

    base = Rates(
        Decimal("0.0000446513"), Decimal("0.0002455823"), cache_read=Decimal("0.0000089303")
    )
    long = Rates(Decimal("0.0001451168"), base.completion, base.cache_read)
    night = Rates(base.prompt, Decimal("0.0001"), base.cache_read)
    tiers = (Tier(long, prompt_over=200_000), Tier(night, utc_start="16:30", utc_end="00:30"))
    novita = Rates(Decimal("0.000109395685"), Decimal("0.000601676635"))
    assert price == ModelPrice(
        MODEL,
        (Offer("Minimax", base, tiers, 40_000), Offer("Novita", novita, (), 128_000)),
        1_000_000,
    )
    assert price.max_completion_tokens == 128_000


def test_a_catalogue_without_endpoints_is_believed_alone() -> None:
    listed = read_catalogue(ROUTERAI)
    assert listed is not None

    price = model_price(listed[MODEL])

    assert price is not None
    assert [offer.provider for offer in price.offers] == [""]
    assert price.max_completion_tokens == 40_000


def test_prices_per_million_within_the_top_provider_are_read_as_polza_lists_them() -> None:
    document = b"""{"data":[{"id":"deepseek-r1","top_provider":{"pricing":{"currency":"RUB",
        "prompt_per_million":"15.50","completion_per_million":"62.00","per_request":{},
        "request_per_thousand":"10","input_cache_read_per_million":null}}}]}"""
    listed = read_catalogue(document)
    assert listed is not None

    price = model_price(listed["deepseek-r1"], form=Form(PER_MILLION))

    assert price is not None
    assert price.offers[0].rates == Rates(
        Decimal("0.0000155"), Decimal("0.000062"), request=Decimal("0.01")
    )
    assert model_price(listed["deepseek-r1"]) is None


def test_prices_in_dollars_are_counted_in_roubles() -> None:
    listed = read_catalogue(b'{"data":[{"id":"a/b","pricing":{"prompt":"2e-6","completion":3}}]}')
    assert listed is not None

    price = model_price(listed["a/b"], form=Form(rate=Decimal("90.5")))

    assert price is not None
    assert price.offers[0].rates == Rates(Decimal("0.000181"), Decimal("271.5"))


def test_openrouters_strings_are_read_like_numbers() -> None:
    listed = read_catalogue(OPENROUTER)
    assert listed is not None

    price = model_price(listed["openai/gpt-4.1"])

    assert price is not None
    assert price.offers[0].rates == Rates(
        Decimal("0.000002"), Decimal("0.000008"), cache_read=Decimal("0.0000005")
    )
    assert price.max_completion_tokens == 32_768


def test_a_price_that_depends_on_the_route_is_no_price() -> None:
    listed = read_catalogue(OPENROUTER)
    assert listed is not None

    assert model_price(listed["openrouter/auto"]) is None


def test_a_prompt_price_of_nothing_is_kept_and_a_request_price_beside_it() -> None:
    listed = read_catalogue(ROUTERAI)
    assert listed is not None

    price = model_price(listed["example/free"])

    assert price is not None
    assert price.offers[0].rates == Rates(Decimal(0), Decimal("0.00002"), request=Decimal("0.0125"))
    assert price.context_length is None
    assert price.max_completion_tokens is None


# ── The default provider ─────────────────────────────────────────────────────────────────────────


def test_the_catalogue_stays_an_offer_when_no_provider_asks_its_prices() -> None:
    price = priced(PRICING, '{"provider_name":"P","pricing":{"prompt":1,"completion":1}}')

    assert price is not None
    assert [offer.provider for offer in price.offers] == ["", "P"]
    assert price.offers[0].rates == BASE


def test_a_model_that_only_its_endpoints_price_has_their_prices() -> None:
    price = priced('"pricing":null', f'{{"name":"P | m/m",{PRICING}}}')

    assert price is not None
    assert [(offer.provider, offer.rates) for offer in price.offers] == [("P | m/m", BASE)]


@pytest.mark.parametrize(
    "document",
    [b"", b"<!DOCTYPE html>", b"null", b"[]", b'{"data":[]}', b'{"data":{"endpoints":[]}}'],
)
def test_endpoints_that_say_nothing_change_nothing(document: bytes) -> None:
    listed = read_catalogue(b'{"data":[{"id":"m/m",%s}]}' % PRICING.encode())
    assert listed is not None

    assert model_price(listed["m/m"], document) == model_price(listed["m/m"])


# ── Tiers ────────────────────────────────────────────────────────────────────────────────────────


def test_a_tiers_null_inherits_too() -> None:
    variable = '{"type":"prompt-threshold","threshold":10,"prompt":"1","completion":null}'

    assert tier(variable) == Tier(Rates(Decimal(1), BASE.completion), prompt_over=10)


@pytest.mark.parametrize(
    "condition",
    [
        '"type":"weekday"',
        '"type":"completion-threshold","threshold":10',
        '"type":"prompt-threshold"',
        '"type":"prompt-threshold","threshold":-1',
        '"type":"prompt-threshold","threshold":1.5',
        '"type":null',
        '"threshold":10',
    ],
)
def test_rates_of_an_unknown_condition_count_for_the_bound_alone(condition: str) -> None:
    found = tier(f'{{{condition},"prompt":1}}')

    assert found == Tier(Rates(Decimal(1), BASE.completion))
    price = ModelPrice("m/m", (Offer("P", BASE, (found,)),))
    assert price.estimate(Usage(100)) < 1
    assert price.bound(100, 0) == 120


def test_tiers_of_the_catalogue_itself_count_too() -> None:
    price = priced(
        f'{PRICING},"variable_pricings":[{{"type":"prompt-threshold","threshold":5,"prompt":1}}]'
    )

    assert price is not None
    assert price.offers[0].rates_for(6).prompt == 1


# ── What cannot be read ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        *("-1", '"-1"', '"NaN"', '"Infinity"', "1e999", "1e-999", '"1_0"', '"１２"', '"1,5"'),
        *("true", "[]", "{}", '""', '" 1"', '"\\u0031"', "null", "1e16", "0." + "1" * 31),
    ],
)
def test_a_model_with_an_odd_price_has_none(text: str) -> None:
    assert priced(f'"pricing":{{"prompt":{text},"completion":1}}') is None


def test_one_provider_that_cannot_be_read_leaves_the_model_without_a_bound() -> None:
    good = f'{{"provider_name":"P",{PRICING}}}'

    assert priced(PRICING, good) is not None
    assert priced(PRICING, good + ',{"provider_name":"Q","pricing":{"prompt":"ask us"}}') is None
    assert priced(PRICING, good + ',{"provider_name":"Q"}') is None
    assert priced(PRICING, good + ",7") is None


@pytest.mark.parametrize("key", ["input_cache_read", "input_cache_write", "request"])
def test_a_side_price_of_null_is_left_out_and_an_odd_one_spoils_the_model(key: str) -> None:
    without = priced('"pricing":{"prompt":1,"completion":1}')

    assert priced(f'"pricing":{{"prompt":1,"completion":1,"{key}":null}}') == without
    assert priced(f'"pricing":{{"prompt":1,"completion":1,"{key}":"-1"}}') is None


@pytest.mark.parametrize("length", ["null", "0", "-1", "1.5", '"many"', "true", "9" * 40])
def test_a_length_that_is_no_count_is_not_told(length: str) -> None:
    price = priced(
        f'{PRICING},"context_length":{length},"top_provider":{{"max_completion_tokens":{length}}}'
    )

    assert price is not None
    assert price.context_length is None
    assert price.max_completion_tokens is None


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"   ", b"<!DOCTYPE html><html></html>", b"null", b"[]", b'"models"', b"7"),
        *(b"{}", b'{"data":null}', b'{"data":{}}', b'{"data":7}', b'{"data":[]', b"\xff\xfe{"),
        *(b'{"data":[NaN]}', b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_catalogue_is_none(document: bytes) -> None:
    assert read_catalogue(document) is None


def test_one_odd_model_does_not_spoil_the_catalogue() -> None:
    entries = f'7,null,{{"name":"nameless"}},{{"id":7}},{{"id":"m/m",{PRICING}}}'

    assert list(read_catalogue(f'{{"data":[{entries}]}}'.encode()) or ()) == ["m/m"]


@pytest.mark.parametrize("error", ['{"code":429}', '"busy"', "1"])
def test_an_error_under_200_is_no_catalogue_without_models(error: str) -> None:
    with pytest.raises(ServiceUnavailable):
        read_catalogue(f' {{"error":{error}}}'.encode())


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.edatrornul\\ ').map(str.encode))
def test_any_bytes_are_a_catalogue_or_none(document: bytes) -> None:
    try:
        found = read_catalogue(document)
    except ServiceUnavailable:
        return

    assert found is None or isinstance(found, dict)


@given(st.decimals(0, 10**6, places=18), st.booleans())
def test_any_price_is_read_to_its_last_digit(amount: Decimal, as_text: bool) -> None:
    text = f'"{amount:f}"' if as_text else f"{amount:f}"

    price = priced(f'"pricing":{{"prompt":{text},"completion":0}}')

    assert price is not None
    assert price.offers[0].rates.prompt == amount


# ── Over a socket ────────────────────────────────────────────────────────────────────────────────

Pages = Mapping[str, tuple[int, bytes]]


@contextmanager
def serving(
    pages: Pages, more: Mapping[str, str] = {}
) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A server with these pages (status, body) by path; gives its address and what it was asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(Quiet):
        def answer(self) -> None:
            asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
            status, body = pages.get(self.path, (404, b"<html>not here</html>"))
            elsewhere = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
            self.reply(status, body, {**elsewhere, **more})

    with loopback.serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/v1", asked


def test_each_asked_model_is_fetched_once_and_the_bytes_read_are_hashed() -> None:
    path = "/v1/models/minimax/minimax-m1/endpoints"
    pages = {"/v1/models": (200, ROUTERAI), path: (200, ROUTERAI_ENDPOINTS)}
    with serving(pages) as (url, asked):
        prices = read_prices(f"{url}/", [MODEL, "no/such", MODEL], now=1_795_000_000.5)

    assert [each for each, _ in asked] == ["/v1/models", path]
    assert (prices.taken_at, prices.source) == (1_795_000_000.5, f"{url}/models")
    assert prices.sha256 == hashlib.sha256(ROUTERAI + ROUTERAI_ENDPOINTS).hexdigest()
    assert list(prices.models) == [MODEL]
    assert len(prices.models[MODEL].offers) == 2


def test_the_key_and_the_headers_go_with_it_as_some_endpoints_want_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("NIGHTSHIFT_HEADER", "X-Org=7\nAccept=application/*")
    with serving({"/v1/models": (200, ROUTERAI)}) as (url, asked):
        read_prices(url, [MODEL], now=0)

    for _, headers in asked:
        assert headers["authorization"] == "Bearer sk-canary"
        assert (headers["x-org"], headers["accept"]) == ("7", "application/*")
        # Portkey refuses even a GET without it.
        assert headers["content-type"] == "application/json"


def test_a_coordinators_own_key_goes_to_the_endpoint_that_it_is_for_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*KEY_SOURCES, "NIGHTSHIFT_HEADER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIGHTSHIFT_CATALOG_KEY", "sk-catalog")
    monkeypatch.setenv("NIGHTSHIFT_CATALOG_HEADER", "X-Org=7")
    page = {"/v1/models": (200, ROUTERAI)}
    with serving(page) as (url, asked), serving(page) as (other, others):
        monkeypatch.setenv("NIGHTSHIFT_BASE_URL", f"{url}/")
        read_prices(url, [], now=0)
        read_prices(other, [], now=0)

    ((_, mine),), ((_, theirs),) = asked, others
    assert (mine["authorization"], mine["x-org"]) == ("Bearer sk-catalog", "7")
    assert not {"authorization", "x-org"} & theirs.keys()


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving({"/v1/models": (200, ROUTERAI)}) as (url, _):
        assert read_prices(url, [MODEL], now=0).models


def test_without_endpoints_the_catalogue_must_do() -> None:
    with serving({"/v1/models": (200, ROUTERAI)}) as (url, asked):
        prices = read_prices(url, [MODEL, "example/free"], now=0)

    assert [offer.provider for offer in prices.models[MODEL].offers] == [""]
    assert list(prices.models) == [MODEL, "example/free"]
    assert len(asked) == 3


def test_a_model_name_goes_into_the_path_as_a_name_only() -> None:
    names = ("a/b:free", "a/b?x=1#y", "plain", "a/b/c", "/b", "a/")
    listed = ",".join(f'{{"id":"{name}",{PRICING}}}' for name in names)
    with serving({"/v1/models": (200, f'{{"data":[{listed}]}}'.encode())}) as (url, asked):
        prices = read_prices(url, list(names), now=0)

    assert [path for path, _ in asked[1:]] == [
        "/v1/models/a/b:free/endpoints",
        "/v1/models/a/b%3Fx%3D1%23y/endpoints",
    ]
    assert list(prices.models) == list(names)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 403, 404, 501])
def test_an_endpoint_without_a_catalogue_has_no_prices_and_says_so(status: int) -> None:
    pages = {"/v1/models": (status, ROUTERAI), "/elsewhere": (200, ROUTERAI)}
    with serving(pages) as (url, asked):
        prices = read_prices(url, [MODEL], now=0)

    assert prices.models == {}
    assert prices.source == f"{url}/models (no catalogue: HTTP {status})"
    assert [path for path, _ in asked] == ["/v1/models"]


def test_a_web_page_in_the_catalogues_place_has_no_prices() -> None:
    with serving({"/v1/models": (200, b"<!DOCTYPE html><p>Welcome")}) as (url, _):
        prices = read_prices(url, [MODEL], now=0)

    assert prices.models == {}
    assert prices.source == f"{url}/models (no catalogue: HTTP 200)"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}/endpoints"])
def test_a_passing_fault_is_not_taken_for_the_lack_of_prices(status: int, path: str) -> None:
    pages = {"/v1/models": (200, ROUTERAI), path: (status, b"{}")}
    with serving(pages) as (url, _), pytest.raises(ServiceUnavailable, match=str(status)) as fault:
        read_prices(url, [MODEL], now=0)

    assert fault.value.exit_code == 4
    assert "--base-url" in fault.value.hint


def test_an_error_under_200_for_a_models_endpoints_is_a_passing_fault() -> None:
    path = f"/v1/models/{MODEL}/endpoints"
    pages = {"/v1/models": (200, ROUTERAI), path: (200, b' {"error":"HTTP 429: busy"}')}
    with serving(pages) as (url, _), pytest.raises(ServiceUnavailable):
        read_prices(url, [MODEL], now=0)


def test_nobody_at_the_address_is_told_with_a_way_out() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(ServiceUnavailable, match="ConnectError") as fault:
            read_prices(url, [MODEL], now=0)

    assert url in fault.value.message
    assert "--base-url" in fault.value.hint


def test_a_server_that_speaks_no_tls_cannot_be_read() -> None:
    page = {"/v1/models": (200, ROUTERAI)}
    with serving(page) as (url, asked), pytest.raises(ServiceUnavailable):
        read_prices(url.replace("http:", "https:"), [MODEL], now=0)

    assert asked == []


def test_a_catalogue_that_outgrows_the_limit_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_queries, "LARGEST", len(ROUTERAI) - 1)
    page = {"/v1/models": (200, ROUTERAI)}
    with serving(page) as (url, _), pytest.raises(ServiceUnavailable, match="more than"):
        read_prices(url, [MODEL], now=0)


def test_a_catalogue_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_queries, "TOTAL_S", 0.0)
    page = {"/v1/models": (200, ROUTERAI)}
    with serving(page) as (url, _), pytest.raises(ServiceUnavailable, match="longer than"):
        read_prices(url, [MODEL], now=0)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: "], ids=["line", "header"])
def test_a_head_that_drips_is_left_as_soon(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(endpoint_queries, "TOTAL_S", 0.3)
    with dripping(head) as port, pytest.raises(ServiceUnavailable, match="longer than"):
        read_prices(f"http://127.0.0.1:{port}/v1", [MODEL], now=0)


def test_a_compressed_catalogue_is_refused_unread() -> None:
    page = {"/v1/models": (200, gzip.compress(ROUTERAI))}
    with (
        serving(page, {"Content-Encoding": "gzip"}) as (url, _),
        pytest.raises(ServiceUnavailable, match="compressed"),
    ):
        read_prices(url, [MODEL], now=0)


@pytest.mark.parametrize(
    "head",
    [
        "Bearer {} 200 OK",
        "HTTP/1.1 200 OK\r\nQuoted Authorization Bearer {}",
        "HTTP/1.1 200 OK\r\nContent-Encoding: {}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
    ids=["line", "header", "encoding", "chunk"],
)
def test_a_head_that_quotes_the_key_shows_it_to_nobody(
    monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    def quote(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(f"{head.format(CANARY)}\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=quote, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(ServiceUnavailable) as fault:
            read_prices(url, [MODEL], now=0)
        thread.join()

    assert CANARY[:12] not in fault.value.message
    assert "key redacted" in fault.value.message


def test_silence_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_queries, "IDLE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
            read_prices(url, [MODEL], now=0)


def test_certificates_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def remember() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", remember)
    with serving({}) as (url, _):
        read_prices(url, [], now=0)

    assert made[0].verify_mode == ssl.CERT_REQUIRED
    assert made[0].check_hostname


def test_importing_prices_loads_no_http_client() -> None:
    script = (
        "import sys, batch.money.catalogue_prices; print({'httpx2', 'openai'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    root = Path(__file__).parents[3]

    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "set()"


# ── Against the simulated endpoint ───────────────────────────────────────────────────────────────


def usage_of(answer: Any) -> Usage:
    """The counts of an answer's `usage`."""
    told = answer["usage"]
    details = told["prompt_tokens_details"]
    return Usage(
        told["prompt_tokens"],
        told["completion_tokens"],
        details["cached_tokens"],
        details["cache_write_tokens"],
        told["completion_tokens_details"]["reasoning_tokens"],
    )


@pytest.mark.parametrize("factor", ["1", "1.1236"])
def test_our_cost_of_a_call_is_the_endpoints_bill_to_the_last_digit(factor: str) -> None:
    short, long = "hello", "word " * 250_000
    wishes: list[tuple[str, str, dict[str, Any]]] = [
        (MODEL, short, {}),
        (MODEL, short, {"provider": {"only": ["novita"]}}),
        (MODEL, long, {"provider": {"only": ["minimax"]}}),
        ("minimax/minimax-m2", short, {}),
        ("openai/gpt-flex", short, {"provider": {"only": ["azure"]}}),
        ("example/per-call", short, {}),
    ]
    with Simulator() as server:
        server.control("prices", {"factor": factor})
        prices = read_prices(server.base_url, [model for model, _, _ in wishes], now=0)
        client = Client(server.port, key="sk-test")
        answers = [client.chat(text, model=model, **fields).json for model, text, fields in wishes]
        billed = [call.billed for call in server.book().billed()]

    ours = [
        prices.models[model].estimate(usage_of(answer), answer["provider"])
        for (model, _, _), answer in zip(wishes, answers, strict=True)
    ]
    assert usage_of(answers[2]).prompt > 200_000
    assert [plain(cost) for cost in ours] == [plain(cost) for cost in billed]
    assert [plain(parse_amount(str(answer["usage"]["cost"]))) for answer in answers] == [
        plain(cost) for cost in ours
    ]


def test_a_bound_covers_the_bill_whatever_the_hour() -> None:
    model = "deepseek/deepseek-chat"
    with Simulator() as server:
        price = read_prices(server.base_url, [model], now=0).models[model]
        client = Client(server.port)
        answers = [client.chat("word " * size, model=model).json for size in (1, 100_000)]

    for answer in answers:
        usage = usage_of(answer)
        assert answer["usage"]["cost"] <= price.bound(usage.prompt, usage.completion)


# ── Names that say more than a model ─────────────────────────────────────────────────────────────

ALIAS = "~minimax/m-latest"
ALIASED = ROUTERAI.replace(b'"data":[', b'"data":[{"id":"%s"},' % ALIAS.encode())
TAGGED = ROUTERAI_ENDPOINTS.replace(b'"Minimax","status"', b'"Minimax","tag":"mm/fp8","status"')
AT = "/v1/models/minimax/minimax-m1/endpoints"


@pytest.mark.parametrize(
    ("options", "providers"),
    [
        ("@provider=mm&allow_fallbacks=false", ["Minimax"]),
        ("@provider=mm/fp8&allow_fallbacks=false", ["Minimax"]),
        ("@provider=NOVITA&allow_fallbacks=false", ["Novita"]),
        ("@provider=mm", ["Minimax", "Novita"]),
        ("@provider=mm&allow_fallbacks=true", ["Minimax", "Novita"]),
        ("@provider=unknown&allow_fallbacks=false", ["Minimax", "Novita"]),
        (":nitro", ["Minimax", "Novita"]),
    ],
)
def test_a_name_with_options_is_priced_and_a_firm_provider_bounds_it_alone(
    options: str, providers: list[str]
) -> None:
    with serving({"/v1/models": (200, ROUTERAI), AT: (200, TAGGED)}) as (url, _):
        told = read_prices(url, [f"{MODEL}{options}"], now=0)

    (price,) = told.models.values()
    assert price.model == f"{MODEL}{options}"
    assert [offer.provider for offer in price.offers] == providers


def test_an_alias_is_priced_as_the_model_that_it_stands_for() -> None:
    pages = {
        "/v1/models": (200, ALIASED),
        AT: (200, ROUTERAI_ENDPOINTS),
        f"/v1/models/{ALIAS}/endpoints": (200, b'{"data":{"id":"%s"}}' % MODEL.encode()),
    }
    with serving(pages) as (url, _):
        told = read_prices(url, [ALIAS], now=0)

    assert told.aliases == {ALIAS: MODEL}
    assert told.models[ALIAS].offers == told.models[MODEL].offers
    assert set(told.listed) == {ALIAS, MODEL, "example/free"}


def test_an_alias_of_unknown_meaning_is_priced_by_its_own_entry() -> None:
    priced = ALIASED.replace(f'"{ALIAS}"'.encode(), f'"{ALIAS}",{PRICING}'.encode())
    with serving({"/v1/models": (200, priced)}) as (url, _):
        told = read_prices(url, [ALIAS], now=0)

    assert told.aliases == {}
    assert told.models[ALIAS].offers[0].rates == BASE
