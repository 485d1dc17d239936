"""Answers to requests beside chat: what they mean, and what they cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from jobs.outcome import Answered, Billing, Outcome, Refused, Retry, Stop
from jobs.request_kinds import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Kind
from jobs.usage import Usage
from workers.calling.classifier import classify
from workers.calling.endpoint import Reply

TEXT = {"type": "message", "content": [{"type": "output_text", "text": "да"}]}
USAGE = {"input_tokens": 7, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}


def outcome(kind: Kind, body: Any, status: int = 200) -> Outcome:
    reply = Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode(), 1.0)
    return classify(reply, asked_model="m", now=1.0, kind=kind.url)


def answered(kind: Kind, body: Any) -> Answered:
    found = outcome(kind, body)
    assert isinstance(found, Answered), found
    return found


def test_tokens_and_money_of_each_kind_are_read() -> None:
    cost = {"cost": 0.25}
    of_response = answered(RESPONSES, {"output": [TEXT], "usage": {**USAGE, **cost}}).charge
    assert (of_response.usage, of_response.cost) == (Usage(7, 5, 0, 0, 2), Decimal("0.25"))
    usage = {"prompt_tokens": 9, "total_tokens": 9, **cost}
    of_vectors = answered(EMBEDDINGS, {"data": [{"embedding": [0.5]}], "usage": usage}).charge
    assert (of_vectors.usage, of_vectors.cost) == (Usage(9), Decimal("0.25"))
    total = {"data": [{"embedding": [0.5]}], "usage": {"total_tokens": 9}}
    assert answered(EMBEDDINGS, total).charge.usage == Usage(9)
    assert answered(EMBEDDINGS, total).charge.billing is Billing.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "body", "flags"),
    [
        (RESPONSES, {"status": "completed", "output": [TEXT]}, ()),
        (
            RESPONSES,
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "reasoning"}],
            },
            ("truncated", "only_reasoning"),
        ),
        (
            RESPONSES,
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "content_filter"},
                "output": [],
            },
            ("filtered",),
        ),
        (RESPONSES, {"model": "other", "output": [TEXT]}, ("model_mismatch",)),
        (RESPONSES, {"error": None, "output": [TEXT]}, ()),
        (EMBEDDINGS, {"data": [{"embedding": "AAAA"}]}, ()),
        (COMPLETIONS, {"choices": [{"finish_reason": "stop", "text": "x"}]}, ()),
        (COMPLETIONS, {"choices": [{"finish_reason": "length", "text": "x"}]}, ("truncated",)),
    ],
)
def test_an_answer_of_each_kind_is_flagged(
    kind: Kind, body: dict[str, Any], flags: tuple[str, ...]
) -> None:
    assert answered(kind, body).flags == flags


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (RESPONSES, {"status": "completed", "output": []}, "endpoint.empty"),
        (RESPONSES, {"status": "failed", "output": [TEXT]}, "endpoint.failed_midway"),
        (RESPONSES, {"status": "failed", "output": [],
                     "error": {"code": "rate_limit_exceeded", "message": "x"}},
         "endpoint.rate_limited"),
        (EMBEDDINGS, {"data": []}, "endpoint.empty"),
        (EMBEDDINGS, {"data": [{"embedding": None}]}, "endpoint.empty"),
        (COMPLETIONS, {"choices": []}, "endpoint.empty"),
        (COMPLETIONS, {"choices": [{"finish_reason": "stop", "text": ""}]}, "endpoint.empty"),
        (EMBEDDINGS, {"object": "list"}, "endpoint.bad_body"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_the_kind_is_asked_again(
    kind: Kind, body: dict[str, Any], code: str
) -> None:
    found = outcome(kind, body)
    assert isinstance(found, Retry)
    assert found.code == code


def test_a_paid_answer_of_another_kind_is_not_bought_again() -> None:
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 3, "cost": 1}}
    found = outcome(EMBEDDINGS, body)
    assert isinstance(found, Refused)
    assert (found.code, found.charge.cost) == ("endpoint.bad_body", Decimal(1))


def test_an_endpoint_that_lacks_a_kind_is_told_by_its_path() -> None:
    lacking = outcome(EMBEDDINGS, {"detail": "Not Found"}, 404)
    assert isinstance(lacking, Stop)
    assert "/embeddings" in lacking.message
    chat = outcome(CHAT, {"detail": "Not Found"}, 404)
    assert isinstance(chat, Stop)
    assert chat.message == "HTTP 404: Not Found"
