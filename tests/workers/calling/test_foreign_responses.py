"""Answers in another form are made into a chat completion, digit for digit."""

from __future__ import annotations

import json

import pytest

from workers.calling.endpoint import Reply
from workers.calling.foreign_responses import read

USAGE = '{"prompt_tokens":3,"cost":0.0000522948192000000000001}'


def made(body: str | bytes, **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else body.encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return read(Reply(200, names, content, 0.1))[1]


def stream(*events: object, end: str = "[DONE]", line: str = "\n") -> str:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in (*events, end)]
    return "".join(f"data: {text}{line}{line}" for text in texts if text)


def piece(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"id": "gen-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_what_is_a_completion_stays_as_it_is() -> None:
    assert made('{"choices":[{"message":{"content":"x"}}]}') == b""
    assert made('{"choices":[]}') == b""
    assert made("no JSON at all") == b""
    assert made("") == b""


@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["[DONE]", ""])
def test_a_stream_is_put_together_with_its_usage(line: str, end: str) -> None:
    body = stream(
        piece(role="assistant", content="да"),
        piece(content=", ", reasoning="а"),
        piece("stop", content="нет"),
        '{"choices":[],"usage":' + USAGE + "}",
        end=end,
        line=line,
    )
    whole = made(": comment\n\n" + body)

    assert USAGE.encode() in whole
    assert json.loads(whole)["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "да, нет", "reasoning": "а"},
        }
    ]


def test_tool_calls_of_a_stream_are_joined_by_their_place() -> None:
    whole = made(
        stream(
            piece(
                tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]
            ),
            piece(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
            piece("tool_calls", tool_calls=[{"index": 1, "id": "b", "function": {"name": "g"}}]),
        )
    )

    assert json.loads(whole)["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "function": {"name": "g"}},
    ]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(stream(piece(content="x"), end=""), id="cut off"),
        pytest.param(stream(), id="nothing"),
        pytest.param("data: {not json}\n\n", id="no JSON"),
        pytest.param("event: ping\n\n", id="no data"),
    ],
)
def test_a_stream_that_is_no_answer_is_left_as_it_is(body: str) -> None:
    assert made(body) == b""


def test_an_error_within_a_stream_is_what_it_says() -> None:
    document, _ = read(Reply(200, {}, stream(piece(content="x"), {"error": "no"}).encode(), 0.1))

    assert document["error"] == "no"


def test_an_envelope_and_a_delta_are_unwrapped() -> None:
    inner = '{"choices":[{"delta":{"content":"x"}}],"usage":' + USAGE + "}"
    whole = made('{"code":0,"data":' + inner + "}")

    assert USAGE.encode() in whole
    assert json.loads(whole)["choices"][0]["message"] == {"content": "x"}
    assert json.loads(made(inner))["choices"][0]["message"] == {"content": "x"}


@pytest.mark.parametrize(
    ("charset", "kind"),
    [
        ("latin-1", {"content_type": "application/json; charset=ISO-8859-1"}),
        ("latin-1", {}),
        ("cp1251", {"content_type": 'application/json; charset="windows-1251"'}),
    ],
)
def test_another_charset_is_read(charset: str, kind: dict[str, str]) -> None:
    text = "é" if charset == "latin-1" else "да"
    body = ('{"choices":[{"message":{"content":"' + text + '"}}]}').encode(charset)

    assert json.loads(made(body, **kind))["choices"][0]["message"]["content"] == text


def test_a_charset_that_nobody_knows_is_left() -> None:
    assert made(b'{"a":"\xff"}', content_type="text/plain; charset=klingon") == b""


WHOLE = '{"choices":[{"message":{"content":"да"}}],"usage":' + USAGE + "}"
CHOICE = '{"message":{"content":"да"}}'


@pytest.mark.parametrize(
    "body",
    [
        '{"result":' + WHOLE + ',"success":true}',
        '{"code":0,"response":{"output":' + WHOLE + "}}",
        "[" + WHOLE + "]",
        json.dumps(WHOLE),
        '{"statusCode":200,"body":' + json.dumps(WHOLE) + "}",
        WHOLE + "\n{}",
        WHOLE + "\r\n0\r\n",
        "\ufeff" + WHOLE + "[DONE]",
        '{"choices":' + CHOICE + ',"usage":' + USAGE + "}",
        '{"choices":{"0":' + CHOICE + '},"usage":' + USAGE + "}",
        '{"choices":[{"message":"да"}],"usage":' + USAGE + "}",
    ],
)
def test_a_completion_is_found_in_any_envelope_digit_for_digit(body: str) -> None:
    whole = made(body)

    assert USAGE.encode() in whole
    assert json.loads(whole)["choices"][0]["message"]["content"] == "да"


def test_what_stands_in_an_error_is_no_answer() -> None:
    assert made('{"error":{"message":"no"},"data":' + WHOLE + "}") == b""
    assert made(WHOLE + WHOLE) == b""
