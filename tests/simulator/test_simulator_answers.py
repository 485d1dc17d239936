"""What a good answer looks like, and how it is told to the book."""

import json
import time
from decimal import Decimal

from scripts.simulator import Simulator, body_hash, canonical_hash
from scripts.simulator.client import CHAT_PATH, MODEL, Client, chat_body


def test_an_answer_has_the_shape_of_a_chat_completion(client: Client) -> None:
    answer = client.chat("hello")

    document = answer.json
    assert answer.status == 200
    assert document["object"] == "chat.completion"
    assert document["model"] == MODEL
    assert document["provider"] == "Minimax"
    assert document["choices"][0]["finish_reason"] == "stop"
    assert document["choices"][0]["message"]["content"]
    assert document["choices"][0]["message"]["reasoning"]
    assert document["id"] == answer.headers["x-generation-id"]


def test_the_same_request_gets_the_same_text_and_another_one_another(client: Client) -> None:
    first, again, other = client.chat("one"), client.chat("one"), client.chat("two")

    assert first.text == again.text
    assert first.text != other.text
    assert first.json["id"] != again.json["id"]


def test_the_body_begins_with_white_space_while_the_model_works(
    server: Simulator, client: Client
) -> None:
    server.control("latency", {"latency": "constant:0.22"})

    answer = client.chat()

    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.startswith(b"    {")
    assert answer.text


def test_the_headers_come_before_the_model_has_answered(server: Simulator, client: Client) -> None:
    server.control("latency", {"latency": "constant:0.5"})

    asked = time.monotonic()
    with client.connect() as connection:
        head = connection.recv(4096)
        waited = time.monotonic() - asked

    assert waited < 0.3
    assert b"X-Generation-Id: gen-" in head
    assert b"{" not in head


def test_usage_counts_hidden_prompt_tokens_and_details(client: Client) -> None:
    usage = client.chat("hi").json["usage"]

    assert usage["prompt_tokens"] > 447
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] // 4
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_cost_is_the_exact_product_of_tokens_and_prices(client: Client) -> None:
    answer = client.chat("what does it cost?")

    usage = answer.json["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    expected = (
        (usage["prompt_tokens"] - cached) * Decimal("0.0000446513")
        + cached * Decimal("0.0000089303")
        + usage["completion_tokens"] * Decimal("0.0002455823")
    )
    assert answer.cost == expected
    assert b'"cost":' + str(expected).encode() in answer.body


def test_the_dollar_figure_is_there_and_is_not_the_cost(client: Client) -> None:
    answer = client.chat()

    dollars = answer.json["usage"]["cost_details"]["upstream_inference_cost"]
    assert 0 < dollars < answer.cost / 50


def test_max_tokens_ends_an_answer_and_may_leave_its_cost_out(
    server: Simulator, client: Client
) -> None:
    answers = [client.chat(f"row {number}", max_tokens=10) for number in range(20)]

    assert {a.json["choices"][0]["finish_reason"] for a in answers} == {"length"}
    assert {a.json["usage"]["completion_tokens"] for a in answers} == {10}
    costs = [a.json["usage"]["cost"] for a in answers]
    assert 0 < costs.count(None) < 20
    entries = {entry.generation_id: entry for entry in server.book()}
    assert all(entries[a.json["id"]].billed > 0 for a in answers)


def test_a_success_sometimes_says_that_its_error_is_null(client: Client) -> None:
    documents = [client.chat(f"row {number}").json for number in range(30)]

    with_null = [document for document in documents if "error" in document]
    assert 0 < len(with_null) < 30
    assert all(document["error"] is None for document in with_null)


def test_a_request_for_json_gets_json(client: Client) -> None:
    answer = client.chat("x", response_format={"type": "json_object"})

    assert "answer" in json.loads(answer.text)


def test_a_tool_that_must_be_called_is_called(client: Client) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]

    choice = client.chat("x", tools=tools, tool_choice="required").json["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "look_up"
    cut = client.chat("x", tools=tools, tool_choice="required", max_tokens=5).json
    assert cut["usage"]["completion_tokens"] == 5
    assert cut["choices"][0]["finish_reason"] == "length"


def test_the_provider_asked_for_serves_at_its_own_price(client: Client) -> None:
    usual = client.chat("x")
    dearer = client.chat("x", provider={"only": ["novita"]})
    nobody = client.chat("x", provider={"only": ["somebody"], "allow_fallbacks": False})

    assert dearer.json["provider"] == "Novita"
    assert dearer.cost > 2 * usual.cost
    assert nobody.status == 404


def test_the_flexible_tier_costs_half(client: Client) -> None:
    usual = client.chat("x", model="openai/gpt-flex", max_tokens=50)
    flex = client.chat("x", model="openai/gpt-flex", max_tokens=50, service_tier="flex")

    usage, flex_usage = usual.json["usage"], flex.json["usage"]
    assert usage["completion_tokens"] == flex_usage["completion_tokens"] == 50
    assert flex.status == 200


def test_a_label_is_found_in_the_prompt() -> None:
    with Simulator("--answers", "label") as server:
        answer = Client(server.port).chat("Sort this. label: spam/ham-2 please")
        silent = Client(server.port).chat("Sort this.")

    assert answer.text == "spam/ham-2"
    assert silent.text == "unknown"


def test_an_unknown_model_and_a_bad_body_are_refused_with_400(client: Client) -> None:
    bad: list[bytes] = [
        chat_body(model="nobody/nothing"),
        b"{not json",
        b"[]",
        b'{"model": "minimax/minimax-m1"}',
        b'{"model": "minimax/minimax-m1", "messages": []}',
        chat_body(max_tokens=-1),
        chat_body(stream=True),
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"model": "minimax/minimax-m1", "messages": [{}]}'.encode("utf-16"),
    ]

    answers = [client.ask("POST", CHAT_PATH, body) for body in bad]

    assert [answer.status for answer in answers] == [400] * len(bad)
    assert all(answer.json["error"]["code"] == 400 for answer in answers)


def test_a_prompt_longer_than_the_context_is_refused(client: Client) -> None:
    answer = client.chat("x " * 200_000, model="minimax/minimax-m2")

    assert answer.status == 400
    assert "context length" in answer.json["error"]["message"]


def test_a_body_above_the_size_limit_gets_413() -> None:
    with Simulator("--max-body", "1000") as server:
        assert Client(server.port).chat("x" * 2000).status == 413


def test_a_wrong_base_url_gets_a_web_page(client: Client) -> None:
    outside = client.ask("POST", "/v1/chat/completions", chat_body())
    inside = client.get("/nothing/here")

    assert (outside.status, inside.status) == (200, 404)
    assert outside.body.startswith(b"<!DOCTYPE html>")
    assert "text/html" in inside.headers["content-type"]


def test_the_book_knows_the_request_and_what_was_sent(server: Simulator, client: Client) -> None:
    body = chat_body("for the book")
    answer = client.ask("POST", CHAT_PATH, body)

    entry = server.book()[-1]
    assert entry.body_hash == body_hash(body)
    assert entry.messages_hash == canonical_hash([{"content": "for the book", "role": "user"}])
    assert entry.sent_hash == body_hash(answer.body.lstrip())
    assert (entry.status, entry.delivery, entry.model) == (200, "full", MODEL)
    assert entry.billed == answer.cost
    assert entry.prompt_tokens == answer.json["usage"]["prompt_tokens"]
    assert client.key not in server.book_path.read_text()
    assert "for the book" not in server.book_path.read_text()
