"""Requests beside chat: read by rules of their own, and bounded by what they can cost."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from batch.reading.reader import Defaults, read
from batch.reading.rewriting import in_line
from jobs.request import Fault, Request
from jobs.request_kinds import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Kind

TURN = {"role": "user", "content": "Хороший ли это отзыв?"}


def line(kind: Kind, **body: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": kind.url, "body": {"model": "m", **body}}


def only(row: dict[str, Any], **defaults: Any) -> Request | Fault:
    data = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    (found,) = read(io.BytesIO(data), Defaults(**defaults))
    return found


def request(row: dict[str, Any], **defaults: Any) -> Request:
    found = only(row, **defaults)
    assert isinstance(found, Request), found
    return found


@pytest.mark.parametrize(
    ("row", "kind", "bound", "unbounded"),
    [
        (line(EMBEDDINGS, input="x"), EMBEDDINGS, 0, ""),
        (line(EMBEDDINGS, input=["x", "y"]), EMBEDDINGS, 0, ""),
        (line(EMBEDDINGS, input=[[1, 2], [3]]), EMBEDDINGS, 0, ""),
        (line(EMBEDDINGS, input=[{"content": []}]), EMBEDDINGS, 0, "parts of the input"),
        (line(COMPLETIONS, prompt="x", max_tokens=7), COMPLETIONS, 7, ""),
        (line(COMPLETIONS, prompt=["x", "y"], max_tokens=7, n=3), COMPLETIONS, 42, ""),
        (line(COMPLETIONS, prompt="x", max_tokens=0, echo=True), COMPLETIONS, 0, ""),
        (line(COMPLETIONS, prompt="x", max_tokens=7, n=2, best_of=4), COMPLETIONS, 28, ""),
        (line(COMPLETIONS, prompt="x"), COMPLETIONS, None, ""),
        (line(COMPLETIONS, prompt="x", n=2), COMPLETIONS, None, "2 answers without max_tokens"),
        (line(RESPONSES, input="x", max_output_tokens=9), RESPONSES, 9, ""),
        (line(RESPONSES, input=[TURN], instructions="коротко"), RESPONSES, None, ""),
        (line(RESPONSES, input=[{"type": "reasoning", "id": "rs"}, TURN]), RESPONSES, None, ""),
        (line(RESPONSES, input="x", previous_response_id="r"), RESPONSES, None,
         "previous_response_id"),
        (line(RESPONSES, prompt={"id": "p"}), RESPONSES, None, "prompt"),
        (line(RESPONSES, input="x", tools=[{"type": "web_search"}]), RESPONSES, None, "web_search"),
        (line(RESPONSES, input="x", tools=[{"type": "function", "name": "f"}]), RESPONSES, None,
         ""),
        (
            line(RESPONSES, input=[{**TURN, "content": [{"type": "input_image"}]}]),
            *(RESPONSES, None, "input_image"),
        ),
        (line(RESPONSES, input=[{"type": "item_reference", "id": "x"}]), RESPONSES, None,
         "item_reference"),
        ({"model": "m", "prompt": "x", "max_tokens": 3}, COMPLETIONS, 3, ""),
        ({"model": "m", "input": ["x"]}, EMBEDDINGS, 0, ""),
        ({"custom_id": "a", "body": {"model": "m", "input": [TURN]}}, RESPONSES, None, ""),
        ({"model": "m", "messages": [TURN], "input": "x"}, CHAT, None, ""),
    ],
)  # fmt: skip
def test_a_request_of_each_kind_is_read_and_bounded(
    row: dict[str, Any], kind: Kind, bound: int | None, unbounded: str
) -> None:
    found = request(row)
    assert (found.kind, found.max_output, found.unbounded) == (kind.url, bound, unbounded)
    assert json.loads(found.body) == row.get("body", row)


@pytest.mark.parametrize(
    ("row", "code", "told"),
    [
        (line(EMBEDDINGS), "input.field", '"body.input" must be a string, a list'),
        (line(EMBEDDINGS, input=[]), "input.field", '"body.input"'),
        (line(EMBEDDINGS, input=["x", 1]), "input.field", '"body.input"'),
        (line(COMPLETIONS, messages=[TURN]), "input.field", '"body.prompt"'),
        (line(COMPLETIONS, prompt="x", n=0), "input.field", '"body.n"'),
        (line(COMPLETIONS, prompt="x", stream=True), "input.unsupported", '"body.stream"'),
        (line(RESPONSES, input=[]), "input.field", '"body.input" must be a string or a list'),
        (line(RESPONSES, input=["x"]), "input.field", '"body.input[0]" must be an object'),
        (line(RESPONSES, input=[{"role": "user"}]), "input.field", '"body.input[0].content"'),
        (line(RESPONSES, input="x", background=True), "input.unsupported", '"body.background"'),
        (line(RESPONSES, input="x", max_output_tokens=0), "input.field", "max_output_tokens"),
        (line(RESPONSES, input="x", tools={}), "input.field", '"body.tools" must be a list'),
        (line(CHAT, input="x"), "input.field", '"body.messages"'),
        ({**line(CHAT), "url": "/v1/audio/speech"}, "input.url", "/v1/audio/speech"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(
    row: dict[str, Any], code: str, told: str
) -> None:
    found = only(row)
    assert isinstance(found, Fault)
    assert (found.code, told in found.message) == (code, True), found.message


def test_one_kind_may_be_told_for_all_lines() -> None:
    bare = {"input": "x", "model": "m"}
    assert request(bare, endpoint=EMBEDDINGS.url).kind == EMBEDDINGS.url
    assert request(bare).kind == RESPONSES.url
    assert request({"custom_id": "a", "body": bare}, endpoint=EMBEDDINGS.url).kind == EMBEDDINGS.url
    other = only(line(CHAT, messages=[TURN]), endpoint=EMBEDDINGS.url)
    assert isinstance(other, Fault)
    assert (other.code, "/v1/embeddings" in other.message) == ("input.url", True)


def test_a_default_bound_stands_under_the_name_of_the_kind() -> None:
    every = {"max_tokens": 5, "max_tokens_field": "max_completion_tokens"}
    bodies = [
        json.loads(request(row, **every).body)
        for row in (
            line(CHAT, messages=[TURN]),
            line(RESPONSES, input="x"),
            line(COMPLETIONS, prompt="x", n=2),
            line(EMBEDDINGS, input="x"),
        )
    ]
    names = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    assert [{name: body[name] for name in names if name in body} for body in bodies] == [
        {"max_completion_tokens": 5},
        {"max_output_tokens": 5},
        {"max_tokens": 5},
        {},
    ]
    assert request(line(COMPLETIONS, prompt="x", n=2), **every).max_output == 10


@pytest.mark.parametrize(
    ("kind", "body", "most", "written"),
    [
        (RESPONSES, {"model": "a", "input": "x"}, 8, {"max_output_tokens": 8}),
        (COMPLETIONS, {"model": "a", "prompt": ["x", "y"], "max_tokens": 4}, 8, {"max_tokens": 4}),
        (COMPLETIONS, {"model": "a", "prompt": "x", "max_tokens": 0}, 0, {"max_tokens": 0}),
        (COMPLETIONS, {"model": "a", "prompt": ["x", "y"], "max_tokens": 4}, 20,
         {"max_tokens": 10}),
        (EMBEDDINGS, {"model": "a", "input": "x"}, 0, {}),
    ],
)  # fmt: skip
def test_a_stored_body_is_brought_in_line_by_the_names_of_its_kind(
    kind: Kind, body: dict[str, Any], most: int, written: dict[str, int]
) -> None:
    found = json.loads(in_line(json.dumps(body).encode(), "b", most, kind=kind.url))
    assert found == {**body, "model": "b", **written}


def test_lines_of_a_known_form_keep_their_kind() -> None:
    rows = [line(EMBEDDINGS, input=f"отзыв {n}") for n in range(5)]
    rows += [line(RESPONSES, input=f"отзыв {n}", max_output_tokens=9) for n in range(5)]
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    found = [each for each in read(io.BytesIO(data), Defaults()) if isinstance(each, Request)]
    assert [(each.kind, each.max_output) for each in found] == [(EMBEDDINGS.url, 0)] * 5 + [
        (RESPONSES.url, 9)
    ] * 5
    assert [json.loads(each.body)["input"] for each in found] == [
        row["body"]["input"] for row in rows
    ]


def test_a_blank_input_is_told_of() -> None:
    assert request(line(EMBEDDINGS, input=["x", " "])).odd
    assert not request(line(EMBEDDINGS, input=["x", "y"])).odd
