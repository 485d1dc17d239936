"""Requests for responses: natively where the endpoint knows how, else by chat."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from jobs.outcome import Answered, Refused
from jobs.request_kinds import CHAT, RESPONSES
from workers.calling.classifier import classify, lacks_path
from workers.calling.endpoint import Answer, Broken, BrokenKind, Reply
from workers.calling.responses import Responses

BODY = json.dumps({"model": "m", "input": "x", "max_output_tokens": 5}).encode()
COMPLETION = {
    "id": "gen-1",
    "model": "m",
    "choices": [{"finish_reason": "stop", "message": {"content": "да"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5},
}
CHATTED = Reply(200, {}, json.dumps(COMPLETION).encode(), 0.1)
MISSING = Reply(404, {}, b'{"detail":"Not Found"}', 0.1)


class Chatting:
    """An endpoint that has but chat; `asked` are the calls in order."""

    def __init__(self, missing: Reply = MISSING, chat: Reply = CHATTED) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.missing, self._chat = missing, chat

    async def call(self, body: bytes, *, kind: str) -> Answer:
        self.asked.append((kind, json.loads(body)))
        if kind == RESPONSES.url:
            return self.missing
        return self._chat


def test_the_first_call_settles_how_all_others_are_made() -> None:
    endpoint = Chatting()
    responses = Responses(endpoint.call)
    answers = [asyncio.run(responses.call(BODY, "auto")) for _ in range(2)]
    assert [kind for kind, _ in endpoint.asked] == [RESPONSES.url, CHAT.url, CHAT.url]
    assert endpoint.asked[1][1] == {
        "messages": [{"role": "user", "content": "x"}],
        "model": "m",
        "max_tokens": 5,
    }
    outcome = classify(answers[0], asked_model="m", now=1.0, kind=RESPONSES.url)
    assert isinstance(outcome, Answered)
    form = json.loads(outcome.form)
    assert (form["object"], form["output"][0]["content"][0]["text"]) == ("response", "да")
    assert (form["usage"]["input_tokens"], form["usage"]["cost"]) == (3, 0.5)
    assert str(outcome.charge.cost) == "0.5"


def test_a_path_that_is_away_for_a_moment_is_asked_again() -> None:
    endpoint = Chatting(Reply(200, {}, b'{"output":[]}', 0.1))
    responses = Responses(endpoint.call)
    asyncio.run(responses.call(BODY, "auto"))
    endpoint.missing = MISSING
    assert asyncio.run(responses.call(BODY, "auto")) is MISSING
    assert [kind for kind, _ in endpoint.asked] == [RESPONSES.url, RESPONSES.url]


def test_only_an_answer_of_chat_settles_that_there_is_nothing_else() -> None:
    endpoint = Chatting(chat=MISSING)
    responses = Responses(endpoint.call)
    for _ in range(2):
        asyncio.run(responses.call(BODY, "auto"))
    assert [kind for kind, _ in endpoint.asked] == [RESPONSES.url, CHAT.url] * 2


@pytest.mark.parametrize(
    ("message", "cost", "code"),
    [
        ({"content": "да"}, "0.5", ""),
        ({"images": [{"image_url": {"url": "https://example.test/1"}}]}, "0.5", ""),
        ({"audio": {"data": "AA"}}, "0.5", "endpoint.bad_body"),
        ({"tool_calls": 5, "content": "да"}, "0.5", ""),
    ],
)
def test_a_paid_answer_by_chat_is_bought_once(
    message: dict[str, Any], cost: str, code: str
) -> None:
    choices = [{"finish_reason": "stop", "message": message}]
    body = json.dumps({"choices": choices, "usage": COMPLETION["usage"]}).encode()
    outcome = classify(Reply(200, {}, body, 0.1), asked_model="m", now=1.0, kind=RESPONSES.url)
    assert isinstance(outcome, Refused if code else Answered)
    assert str(outcome.charge.cost) == cost
    if isinstance(outcome, Answered):
        assert outcome.flags == ()
    else:
        assert outcome.code == code


def test_what_is_set_is_kept_to() -> None:
    endpoint = Chatting()
    responses = Responses(endpoint.call)
    assert asyncio.run(responses.call(BODY, "native")) is MISSING
    asyncio.run(responses.call(BODY, "chat"))
    assert [kind for kind, _ in endpoint.asked] == [RESPONSES.url, CHAT.url]


def test_what_chat_cannot_say_is_refused_and_not_sent() -> None:
    endpoint = Chatting()
    body = json.dumps({"model": "m", "input": "x", "previous_response_id": "r"}).encode()
    answer = asyncio.run(Responses(endpoint.call).call(body, "chat"))
    outcome = classify(answer, asked_model="m", now=1.0, kind=RESPONSES.url)
    assert isinstance(outcome, Refused)
    assert "previous_response_id" in outcome.message
    assert outcome.charge.cost is None
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("answer", "lacks"),
    [
        (MISSING, True),
        (Reply(404, {}, b"<html>404</html>", 0.1), True),
        (Reply(405, {}, b"", 0.1), True),
        (Reply(501, {}, b'{"error":"x"}', 0.1), True),
        (
            Reply(
                404,
                {},
                b'{"error":{"message":"Unknown request URL: POST /v1/responses. Please check."}}',
                0.1,
            ),
            True,
        ),
        (Reply(404, {}, b'{"error":{"message":"The model m does not exist"}}', 0.1), False),
        (Reply(400, {}, b'{"error":{"message":"Not Found"}}', 0.1), False),
        (Reply(200, {}, b"{}", 0.1), False),
        (Broken(BrokenKind.TIMEOUT, "x", 0.1), False),
    ],
)
def test_a_path_that_is_not_there_is_told_from_a_refusal(answer: Answer, lacks: bool) -> None:
    assert lacks_path(answer) is lacks
