"""Requests for responses as chat requests, and the answers back; the SDK reads them."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from jobs.responses_as_chat import Untranslatable, to_chat, to_response

SCHEMA = {"type": "object", "properties": {"tone": {"type": "string"}}}
FORMAT = {"type": "json_schema", "name": "tone", "schema": SCHEMA, "strict": True}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}


def chat(**body: Any) -> dict[str, Any]:
    return to_chat({"model": "m", "input": "x", **body})


def test_a_whole_request_says_the_same_as_chat() -> None:
    found = chat(
        instructions="коротко",
        input=[
            {"role": "developer", "content": "s"},
            {"role": "user", "content": [{"type": "input_text", "text": "да?"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "да"}],
            },
        ],
        text={"format": FORMAT, "verbosity": "low"},
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        reasoning={"effort": "low", "summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content", "web_search_call.action.sources"],
        truncation="auto",
        previous_response_id=None,
    )
    assert found == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "коротко"},
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "да?"}]},
            {"role": "assistant", "content": "да"},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "tone", "schema": SCHEMA, "strict": True},
        },
        "verbosity": "low",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning_effort": "low",
    }


def test_one_answer_is_what_chat_gives_too() -> None:
    assert chat(n=1)["n"] == 1


def test_functions_and_their_calls_go_there() -> None:
    found = chat(
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "f"},
        input=[
            {"role": "user", "content": "x"},
            {"type": "reasoning", "id": "rs", "summary": []},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
        ],
    )
    function = {"name": "f", "parameters": SCHEMA, "strict": True}
    calls = [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for name in ("c1", "c2")
    ]
    assert found["tools"] == [{"type": "function", "function": function}]
    assert found["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert found["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        (
            {"include": ["message.output_text.logprobs"]},
            "include: message.output_text.logprobs",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools: web_search"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice: mcp"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input: item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input: input_file"),
        ({"input": None, "prompt": {"id": "p"}}, "prompt"),
        ({"unheard_of": 1}, "unheard_of"),
        # Of no shape that the API has.
        ({"reasoning": "high"}, "reasoning"),
        ({"text": "json"}, "text"),
        ({"text": {"format": "json_object"}}, "text"),
        ({"tools": ["a"]}, "tools"),
        ({"include": 5}, "include"),
        ({"tool_choice": 5}, "tool_choice"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "output_text"}]}]},
            "input",
        ),
    ],
)
def test_what_chat_has_no_counterpart_of_is_named(body: dict[str, Any], what: str) -> None:
    with pytest.raises(Untranslatable) as refused:
        chat(**body)
    assert refused.value.what == what


@pytest.mark.parametrize(
    ("message", "finish", "status", "text", "kinds"),
    [
        ({"content": "да"}, "stop", "completed", "да", ["message"]),
        ({"content": "да", "reasoning": "x"}, "stop", "completed", "да", ["reasoning", "message"]),
        ({"content": "д"}, "length", "incomplete", "д", ["message"]),
        ({"content": ""}, "content_filter", "incomplete", "", []),
        ({"refusal": "нет"}, "stop", "completed", "", ["message"]),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            *("tool_calls", "completed", "", ["function_call"]),
        ),
        ({"content": "д"}, "error", "failed", "д", ["message"]),
        ({"function_call": {"name": "f"}}, "stop", "completed", "", ["function_call"]),
        (
            {"content": None, "images": [{"image_url": {"url": "data:image/png;base64,AA"}}]},
            *("stop", "completed", "", ["image_generation_call"]),
        ),
    ],
)
def test_the_sdk_reads_a_chat_completion_as_a_response(
    message: dict[str, Any], finish: str, status: str, text: str, kinds: list[str]
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.5}
    choices = [{"finish_reason": finish, "message": message}]
    found = to_response(
        {"id": "gen-1", "model": "m", "created": 1, "choices": choices, "usage": usage}
    )
    read = Response.model_validate(found, strict=True)
    assert (read.status, read.output_text, [each.type for each in read.output]) == (
        *(status, text, kinds),
    )
    assert found["output_text"] == text
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.output_tokens) == (3, 2)
    assert found["usage"]["cost"] == 0.5


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": None},
        {"prompt_tokens_details": [1], "completion_tokens_details": "x"},
        {"total_tokens": None},
    ],
)
def test_the_sdk_reads_a_usage_with_gaps(told: dict[str, Any]) -> None:
    choices = [{"finish_reason": "stop", "text": "да"}]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, **told}
    read = Response.model_validate(to_response({"choices": choices, "usage": usage}), strict=True)
    assert read.output_text == "да"
    assert read.usage is not None
    assert (read.usage.total_tokens, read.usage.input_tokens_details.cached_tokens) == (5, 0)


def test_tokens_that_nobody_told_are_none() -> None:
    found = to_response({"choices": [], "usage": {"cost": 0.5}})["usage"]

    assert isinstance(found, dict)
    assert [found[f"{part}_tokens"] for part in ("input", "output", "total")] == [0, 0, 0]
    assert found["cost"] == 0.5
