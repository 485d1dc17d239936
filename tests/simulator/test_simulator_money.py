"""The catalogue, the lookups, the balance and the keys."""

import json
import time
from decimal import Decimal

from scripts.simulator import Simulator
from scripts.simulator.client import CHAT_PATH, MODEL, Client, chat_body


def test_models_need_no_key_and_list_roubles_per_token_as_exact_numbers(client: Client) -> None:
    answer = Client(client.port, key="").ask("GET", "/api/v1/models", Authorization="")

    models = {model["id"]: model for model in answer.json["data"]}
    assert answer.status == 200
    assert models[MODEL]["pricing"]["prompt"] == Decimal("0.0000446513")
    assert b'"prompt":0.0000446513' in answer.body
    assert models["example/per-call"]["context_length"] is None
    assert models["example/per-call"]["pricing"]["prompt"] == 0
    assert models["example/per-call"]["pricing"]["request"] > 0
    assert len({model_id.partition("/")[0] for model_id in models}) > 2


def test_a_models_endpoints_tell_providers_and_variable_prices(client: Client) -> None:
    minimax = client.get("/models/minimax/minimax-m1/endpoints").json["data"]["endpoints"]
    hourly = client.get("/models/deepseek/deepseek-chat/endpoints").json["data"]["endpoints"]

    assert [each["provider_name"] for each in minimax] == ["Minimax", "Novita"]
    tier = minimax[0]["variable_pricings"][0]
    assert (tier["type"], tier["threshold"]) == ("prompt-threshold", 200_000)
    assert tier["prompt"] > minimax[0]["pricing"]["prompt"]
    hours = hourly[0]["variable_pricings"][0]
    assert (hours["type"], hours["utc_start"], hours["utc_end"]) == (
        "time-of-day",
        "16:30",
        "00:30",
    )
    assert client.get("/models/nobody/nothing/endpoints").status == 404


def test_prices_can_rise_in_mid_run(server: Simulator, client: Client) -> None:
    before = client.chat("x")
    server.control("prices", {"factor": "3"})
    after = client.chat("x")

    listed = client.get("/models").json["data"][0]["pricing"]["prompt"]
    assert after.cost == 3 * before.cost
    assert listed == 3 * Decimal("0.0000446513")


def test_a_generation_can_be_looked_up_by_its_owner_only(client: Client) -> None:
    answer = client.chat("x", max_tokens=5)

    found = client.get(f"/generation?id={answer.json['id']}")
    stranger = Client(client.port, key="another").get(f"/generation?id={answer.json['id']}")
    unknown = client.get("/generation?id=gen-1-2-3")
    nameless = client.get("/generation")

    assert found.json["data"]["total_cost"] > 0
    assert found.json["data"]["native_tokens_completion"] == 5
    assert [each.status for each in (stranger, unknown, nameless)] == [404, 404, 404]


def test_a_lookup_may_lag_behind_the_call() -> None:
    with Simulator("--lookup-lag", "0.3") as server:
        client = Client(server.port)
        path = f"/generation?id={client.chat().json['id']}"

        early = client.get(path)
        time.sleep(0.35)
        late = client.get(path)

    assert (early.status, late.status) == (404, 200)


def test_a_call_in_flight_is_in_the_book_and_not_yet_looked_up(
    server: Simulator, client: Client
) -> None:
    server.control("latency", {"latency": "constant:0.4"})

    with client.connect():
        time.sleep(0.1)
        entry = server.book()[-1]
        lookup = client.get(f"/generation?id={entry.generation_id}")
        in_flight = server.stats()["in_flight"]

    assert entry.in_flight
    assert entry.billed == 0
    assert lookup.status == 404
    assert in_flight == 1


def test_the_balance_goes_below_zero_and_then_calls_get_402(
    server: Simulator, client: Client
) -> None:
    server.control("balance", {"balance": "0.001"})

    paid, refused = client.chat("x"), client.chat("x")

    assert (paid.status, refused.status) == (200, 402)
    left = client.get("/credits").json["data"]["credits"]
    assert left < 0
    assert left == Decimal(repr(float(Decimal("0.001") - paid.cost)))


def test_credits_and_key_need_a_key(client: Client) -> None:
    nobody = Client(client.port, key="")

    for path in ("/credits", "/key", "/generation?id=x"):
        assert nobody.ask("GET", f"/api/v1{path}", Authorization="").status == 401


def test_a_key_that_is_not_known_gets_401(server: Simulator, client: Client) -> None:
    server.control("keys", {"allow": ["good"]})

    bad, good = client.chat(), Client(client.port, key="good").chat()

    assert (bad.status, good.status) == (401, 200)
    assert server.book()[-2].billed == 0


def test_a_key_over_its_monthly_limit_gets_429_in_words_of_money(
    server: Simulator, client: Client
) -> None:
    spender = Client(client.port, key="spender")
    server.control("keys", {"limits": {"spender": "0.01"}})

    paid, refused = spender.chat(), spender.chat()

    assert (paid.status, refused.status) == (200, 429)
    assert "spend limit" in refused.json["error"]["message"]
    info = spender.get("/key").json["data"]
    assert info["usage"] == paid.cost
    assert info["limit_remaining"] == Decimal("0.01") - paid.cost


def test_the_key_is_nowhere_in_book_or_log(server: Simulator, client: Client) -> None:
    Client(client.port, key="sk-canary-5c1").chat()

    assert "sk-canary" not in server.book_path.read_text() + server.log_path.read_text()


def test_control_refuses_nonsense(client: Client) -> None:
    for name, body in (
        ("limits", {"no_such": 1}),
        ("faults", ["no_such_kind"]),
        ("faults", ["429:share=much"]),
        ("faults", ["429:meaning=unheard_of"]),
        ("latency", {"latency": "sometimes"}),
        ("balance", {"balance": "a lot"}),
    ):
        answer = client.ask("POST", f"/_sim/{name}", json.dumps(body).encode())
        assert answer.status == 400, body
    assert client.ask("POST", "/_sim/nothing", b"{}").status == 404
    assert client.ask("POST", CHAT_PATH, chat_body()).status == 200
