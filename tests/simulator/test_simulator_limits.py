"""The limits are enforced, and can be changed while the server runs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from scripts.simulator import Simulator
from scripts.simulator.client import Answer, Client


def test_calls_above_the_rate_get_429_and_the_time_to_wait(
    server: Simulator, client: Client
) -> None:
    client = Client(client.port, key="rate")
    server.control("limits", {"rpm": 3})

    answers = [client.chat(f"{number}") for number in range(5)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert 58 <= int(answers[-1].headers["retry-after"]) <= 60
    assert Client(client.port, key="somebody else").chat().status == 200
    assert client.chat(model="minimax/minimax-m2").status == 200


def test_a_window_of_the_rate_passes(server: Simulator, client: Client) -> None:
    client = Client(client.port, key="window")
    server.control("limits", {"rpm": 1, "window": 0.2, "retry_after": False})

    first, second = client.chat(), client.chat()
    time.sleep(0.25)
    third = client.chat()

    assert [first.status, second.status, third.status] == [200, 429, 200]
    assert "retry-after" not in second.headers


def test_tokens_of_prompts_and_answers_count_towards_their_limit(
    server: Simulator, client: Client
) -> None:
    client = Client(client.port, key="tokens")
    usage = client.chat("x", max_tokens=10).json["usage"]
    server.control("limits", {"tpm": usage["total_tokens"] + usage["prompt_tokens"]})

    fits, too_much = client.chat("x", max_tokens=10), client.chat("x", max_tokens=10)

    assert (fits.status, too_much.status) == (200, 429)


def test_no_more_calls_than_allowed_are_in_flight(server: Simulator, client: Client) -> None:
    server.control("latency", {"latency": "constant:0.3"})
    server.control("limits", {"max_in_flight": 3})

    answers = list(_at_once(client, 8))

    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
    calls = server.book()[-8:]
    assert calls.max_in_flight() == 3
    assert calls.max_in_flight(only_admitted=False) > 3
    assert server.stats()["in_flight"] == 0


def test_the_in_flight_budget_gives_bursts_of_402_though_there_is_money(
    server: Simulator, client: Client
) -> None:
    server.control("latency", {"latency": "constant:0.3"})
    server.control("limits", {"in_flight_budget": "0.06"})

    answers = list(_at_once(client, 4, max_tokens=100))

    refused = [answer for answer in answers if answer.status == 402]
    assert sorted(answer.status for answer in answers) == [200, 402, 402, 402]
    assert "in_flight_budget_exhausted" in refused[0].body.decode()
    assert refused[0].headers["retry-after"] == "1"


def test_limits_can_fall_while_the_server_runs(server: Simulator, client: Client) -> None:
    server.control("latency", {"latency": "constant:0.2"})

    before = list(_at_once(client, 4))
    server.control("limits", {"max_in_flight": 1})
    after = list(_at_once(client, 4))

    assert [answer.status for answer in before] == [200] * 4
    assert sorted(answer.status for answer in after) == [200, 429, 429, 429]


def test_rate_headers_are_published_only_on_demand(server: Simulator, client: Client) -> None:
    client = Client(client.port, key="headers")
    silent = client.chat()
    server.control("limits", {"rpm": 10, "tpm": 100_000, "headers": True})
    told = client.chat()

    assert not any(name.startswith("x-ratelimit") for name in silent.headers)
    assert told.headers["x-ratelimit-limit-requests"] == "10"
    assert told.headers["x-ratelimit-remaining-requests"] == "8"
    assert "x-ratelimit-reset-tokens" in told.headers


def _at_once(client: Client, count: int, **fields: int) -> Iterator[Answer]:
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(lambda number: client.chat(f"row {number}", **fields), range(count))
