"""Kinds of requests: told apart, and their answers read, by one table."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.request_kinds import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    KINDS,
    RESPONSES,
    Kind,
    Said,
    answers_in,
    kind_by_shape,
    kind_of,
    prompt_texts,
    text_of,
)

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "да"}]}


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("/v1/chat/completions", CHAT),
        ("https://example.test/api/v1/completions/", COMPLETIONS),
        ("/openai/deployments/x/embeddings?api-version=1", EMBEDDINGS),
        ("/responses", RESPONSES),
        ("/v1/images/generations", None),
        ("/v1/xembeddings", None),
        ("", None),
    ],
)
def test_an_address_says_what_is_asked(url: str, kind: Kind | None) -> None:
    assert kind_of(url) is kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"messages": []}, CHAT),
        ({"model": "m", "prompt": "x"}, COMPLETIONS),
        ({"model": "m", "input": "x"}, RESPONSES),
        ({"model": "m", "input": [{"role": "user", "content": "x"}]}, RESPONSES),
        ({"model": "m", "input": ["x", "y"]}, EMBEDDINGS),
        ({"model": "m", "input": [1, 2]}, EMBEDDINGS),
        ({"model": "m", "input": "x", "dimensions": 256}, EMBEDDINGS),
        ({"model": "text-embedding-3-small", "input": "x"}, EMBEDDINGS),
        ({"model": "baai/bge-m3", "input": "x"}, EMBEDDINGS),
        ({"prompt": "x"}, None),
        ({"input": "x", "output": "y"}, None),
        ("x", None),
    ],
)
def test_a_body_that_names_no_address_is_known_by_its_shape(body: Any, kind: Kind | None) -> None:
    assert kind_by_shape(body) is kind


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        (RESPONSES, {"status": "completed", "output": [MESSAGE]}, Said("stop", True)),
        (
            RESPONSES,
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "reasoning"}],
            },
            Said("max_output_tokens", reasoning=True),
        ),
        (
            RESPONSES,
            {"status": "failed", "output": [], "error": {"code": "x"}},
            Said("error", error={"code": "x"}),
        ),
        (RESPONSES, {"status": "queued", "output": []}, Said("error")),
        (
            RESPONSES,
            {"status": "completed", "output": [{"type": "function_call"}]},
            Said("stop", True),
        ),
        (
            RESPONSES,
            {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "нет"}]}]},
            Said("stop", True, refusal=True),
        ),
        (EMBEDDINGS, {"data": [{"embedding": [0.5]}]}, Said("stop", True)),
        (EMBEDDINGS, {"data": [{"embedding": [0.5]}, {"embedding": []}]}, Said("stop")),
        (EMBEDDINGS, {"data": []}, Said("stop")),
        (
            COMPLETIONS,
            {
                "choices": [
                    {"finish_reason": "stop", "text": "a"},
                    {"finish_reason": "length", "text": ""},
                ]
            },
            Said("length", True),
        ),
        (
            COMPLETIONS,
            {
                "choices": [
                    {"finish_reason": "stop", "text": "a"},
                    {"finish_reason": "MODEL_LENGTH", "text": "b"},
                    {"finish_reason": 5, "text": "c"},
                ]
            },
            Said("length", True),
        ),
        (COMPLETIONS, {"choices": []}, Said("")),
        (
            CHAT,
            {"choices": [{"finish_reason": "stop", "message": {"reasoning": "x"}}]},
            Said("stop", reasoning=True),
        ),
        (CHAT, {"choices": ["x"]}, Said("")),
    ],
)
def test_an_answer_is_read_by_its_kind(kind: Kind, answer: dict[str, Any], said: Said) -> None:
    assert kind.read(answer) == said


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"choices": [{"message": {"content": "да"}}]}, "да"),
        ({"choices": [{"message": {"tool_calls": [1]}}]}, {"tool_calls": [1]}),
        ({"choices": [{"text": "a"}, {"text": "b"}]}, ["a", "b"]),
        ({"choices": [{"text": "a"}]}, "a"),
        ({"output": [{"type": "reasoning"}, MESSAGE]}, "да"),
        (
            {"output": [{"type": "reasoning"}, {"type": "function_call", "name": "f"}]},
            [{"type": "function_call", "name": "f"}],
        ),
        ({"data": [{"embedding": [1, 2, 3, 4, 5]}]}, "[1, 2, 3, 4, …] (5)"),
        ({"data": [{"embedding": "AAAA"}]}, "AAAA… (4)"),
        ({"data": 1}, {"data": 1}),
        ({"error": "x"}, {"error": "x"}),
        (None, None),
    ],
)
def test_an_answer_of_any_kind_is_shown_as_what_it_says(answer: Any, text: Any) -> None:
    assert text_of(answer) == text


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 3}, 3),
        ({"prompt": ["x", "y"], "n": 2, "best_of": 5}, 10),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2]], "n": None}, 2),
    ],
)
def test_completions_are_counted_by_what_is_paid_for(body: dict[str, Any], answers: int) -> None:
    assert answers_in(body) == answers


def test_all_that_is_asked_is_told_of_any_kind() -> None:
    turn = {"role": "user", "content": "x"}
    assert list(prompt_texts({"messages": [turn]})) == [("user", turn)]
    assert list(prompt_texts({"instructions": "i", "input": "x"})) == [
        ("instructions", "i"),
        ("input", "x"),
    ]
    assert list(prompt_texts({"input": [turn, {"type": "reasoning"}]})) == [
        ("user", turn),
        ("reasoning", {"type": "reasoning"}),
    ]
    assert list(prompt_texts({"prompt": ["x", "y"]})) == [("prompt", ["x", "y"])]
    assert list(prompt_texts({})) == []


def test_each_kind_has_an_address_of_its_own() -> None:
    assert [kind.url for kind in KINDS.values()] == list(KINDS)
    assert all(kind_of(kind.url) is kind for kind in KINDS.values())
