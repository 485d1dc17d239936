"""Whatever the templates let pass, the rules would have let pass, and in the same words."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batch.reader import Defaults, read
from batch.reading.rules import draft
from batch.reading.template import Templates
from jobs.request import Fault, Request

BOM = b"\xef\xbb\xbf"
DEFAULTS = [Defaults(), Defaults("dm"), Defaults("dm", 50), Defaults(None, 50)]

texts = st.text(max_size=12) | st.sampled_from(
    [
        '"',
        "\\",
        '"}], "max_tokens": 9',
        '\\", "role": "x',
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "{}",
        ":",
        "é",
        "\u202e",
        "a b",
    ]
)
ids = (
    st.sampled_from(["a", "req-1", "req-2", "ж", "a b", 'q"q', "b\\s", "\u200b", "", "x" * 600])
    | texts
)
scalars = st.none() | st.booleans() | st.integers(-3, 2**65) | st.floats(allow_nan=False) | texts
contents = (
    texts
    | st.lists(
        st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]), "text": texts}),
        max_size=2,
    )
    | st.none()
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user"]), "content": contents}, optional={"name": texts}
    ),
    min_size=1,
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {"messages": messages},
    optional={
        "model": st.sampled_from(["m", "m:online", "n"]),
        "max_tokens": st.sampled_from([None, 1, 200, 0]),
        "user": texts,
        "metadata": st.dictionaries(texts, scalars, max_size=2),
        "temperature": st.sampled_from([0.2, 1]),
        "stream": st.booleans(),
    },
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line in one of the two forms, its members in any order, compact or spaced."""
    body: dict[str, Any] = draw(bodies)
    if draw(st.booleans()):
        body = {
            "custom_id": draw(ids),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
    elif draw(st.booleans()):
        body = {"custom_id": draw(ids), **body}
    members = list(body.items())
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    spaced = draw(st.booleans())
    text = json.dumps(
        dict(members),
        ensure_ascii=draw(st.booleans()),
        separators=(", ", ": ") if spaced else (",", ":"),
    )
    return text.encode("utf-8", "surrogatepass")


@st.composite
def variants(draw: st.DrawFn) -> list[bytes]:
    """A line again and again: with other ids and texts, and with bytes changed at random."""
    line = draw(lines())
    found = [line, line]
    for _ in range(draw(st.integers(1, 5))):
        found.append(draw(st.sampled_from([changed, exchanged, spliced]))(draw, line))
    return found


INSERTED = [
    b'"',
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xd0\xb6",
    b"\xe2\x80\xa8",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"1e999",
    b"NaN",
    b'","',
    b'":"',
    b'"}',
    b'"x":1,',
    b'"model":"z",',
    b'"content":"y",',
    b'"n":2,',
    BOM,
]


def changed(draw: st.DrawFn, line: bytes) -> bytes:
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(st.sampled_from(INSERTED)) + line[at + draw(st.integers(0, 2)) :]


def exchanged(draw: st.DrawFn, line: bytes) -> bytes:
    """Other contents for every string that is likely to be a text or an id."""
    value = json.loads(line)
    body = value.get("body", value)
    for message in body["messages"]:
        if isinstance(message["content"], str):
            message["content"] = draw(texts)
    if "custom_id" in value:
        value["custom_id"] = draw(ids)
    separators = (", ", ": ") if b'": ' in line else (",", ":")
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
    return text.encode("utf-8", "surrogatepass")


def spliced(draw: st.DrawFn, line: bytes) -> bytes:
    """A stretch of the line a second time, elsewhere."""
    first, last, at = sorted(draw(st.tuples(*[st.integers(0, len(line))] * 3)))
    return line[:at] + line[first:last] + line[at:]


def by_the_rules(data: bytes, defaults: Defaults) -> list[Request | Fault]:
    results = []
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n"), 1):
        if line.strip(b" \t\r"):
            judged = draft(line, number, defaults)
            results.append(judged if isinstance(judged, Fault) else judged.request)
    return results


@settings(max_examples=400, deadline=None)
@given(st.lists(variants(), min_size=1, max_size=3), st.sampled_from(DEFAULTS), st.booleans())
def test_the_fast_way_and_the_strict_way_agree_on_every_line(
    groups: list[list[bytes]], defaults: Defaults, crlf: bool
) -> None:
    data = (b"\r\n" if crlf else b"\n").join(line for group in groups for line in group)

    assert list(read(io.BytesIO(data), defaults)) == by_the_rules(data, defaults)


@settings(max_examples=300, deadline=None)
@given(lines(), st.sampled_from(DEFAULTS))
def test_a_body_means_what_the_line_said(line: bytes, defaults: Defaults) -> None:
    (result,) = by_the_rules(line, defaults)

    if isinstance(result, Request):
        said = json.loads(line)
        said = said.get("body", said)
        said.pop("custom_id", None)
        said.setdefault("model", defaults.model)
        if said.get("max_tokens") is None and defaults.max_tokens:
            said["max_tokens"] = defaults.max_tokens
        assert json.loads(result.body) == said


def test_most_lines_of_a_usual_file_take_the_fast_way() -> None:
    asked: list[int] = []

    class Counting(Templates):
        def learn(self, line: bytes, draft: Any) -> None:
            asked.append(draft.request.line)
            super().learn(line, draft)

    body = '{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"%d \\n"}]}'
    forms = [
        '{"custom_id":"%d","body":' + body + "}",
        '{"body":' + body + ',"custom_id":"%d"}',
        body,
    ]
    data = "\n".join(form.replace("%d", str(n)) for n in range(1000) for form in forms)

    from batch import reader

    judge = reader._Reader(Defaults())
    judge._templates = Counting()
    results = [
        result
        for block in reader.blocks(io.BytesIO(data.encode()))
        for result in judge.results(block)
    ]

    assert len(results) == 3000
    assert all(isinstance(result, Request) for result in results)
    assert len(asked) <= 12
