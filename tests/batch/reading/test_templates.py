"""Whatever the templates let pass, the rules would have let pass, and in the same words."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.reading import reader
from batch.reading.line_rules import draft
from batch.reading.line_template import Templates
from batch.reading.reader import Defaults, read
from batch.reading.source import blocks
from jobs.request import Fault, Request

BOM = b"\xef\xbb\xbf"
DEFAULTS = [Defaults(), Defaults("dm"), Defaults("dm", 50), Defaults(None, 50)]

texts = st.text(max_size=12) | st.sampled_from(
    [
        '"',
        "\\",
        '"}], "max_tokens": 9',
        '\\", "role": "x',
        "😀",
        "{}",
        ":",
        "é",
        "\u202e",
        "a b",
        "",
        " \n",
        "\u00a0",
    ]
)
ids = st.sampled_from(
    [
        "a",
        "req-1",
        "req-2",
        "ж",
        "a b",
        'q"q',
        "b\\s",
        "\u200b",
        "\u202e",
        "a\u202eb",
        "",
        "x" * 600,
    ]
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
    {"messages": messages, "model": st.sampled_from(["m", "m:online", "n"])},
    optional={
        "max_tokens": st.sampled_from([None, 1, 200]),
        "user": texts,
        "metadata": st.dictionaries(texts, scalars, max_size=2),
        "temperature": st.sampled_from([0.2, 1]),
        "stream": st.just(False),
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
    found = [line, exchanged(draw, line)]
    for _ in range(draw(st.integers(1, 6))):
        found.append(exchanged(draw, line))
        found.append(draw(st.sampled_from([changed, spliced]))(draw, found[-1]))
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
    results = list[Request | Fault]()
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n"), 1):
        if not line.strip(b" \t\r"):
            continue
        judged = draft(line, number, defaults)
        results.append(judged if isinstance(judged, Fault) else judged.request)
    return results


@settings(max_examples=400)
@given(st.lists(variants(), min_size=1, max_size=3), st.sampled_from(DEFAULTS), st.booleans())
def test_the_fast_way_and_the_strict_way_agree_on_every_line(
    groups: list[list[bytes]], defaults: Defaults, crlf: bool
) -> None:
    data = (b"\r\n" if crlf else b"\n").join(line for group in groups for line in group)

    assert list(read(io.BytesIO(data), defaults)) == by_the_rules(data, defaults)


@settings(max_examples=300)
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

    fixed, varied = '{"role":"system","content":"S"}', '{"role":"user","content":"%d \\n"}'
    body = f'{{"model":"m","messages":[{fixed},{varied}]}}'
    forms = [
        '{"custom_id":"%d","body":' + body + "}",
        '{"body":' + body + ',"custom_id":"%d"}',
        body,
    ]
    data = "\n".join(form.replace("%d", str(n)) for n in range(1000) for form in forms)

    judge = reader._Reader(Defaults())
    judge._templates = Counting()
    results = [
        result for block in blocks(io.BytesIO(data.encode())) for result in judge.results(block)
    ]

    assert len(results) == 3000
    assert all(isinstance(result, Request) for result in results)
    assert len(asked) <= 12


MESSAGES = b'"messages":[{"role":"user","content":"%b"}]'
ID_LAST = b'{"body":{"model":"m",' + MESSAGES + b',"n":%b},"custom_id":"%b"}'
NULL_BETWEEN = b'{"model":"m",' + MESSAGES + b',"max_tokens":null,"user":"%b"}'
ID_FIRST = b'{"custom_id":"%b","body":{"model":"m",' + MESSAGES + b"}}"
ID_BETWEEN = b'{"model":"m","user":"%b","custom_id":"i%b",' + MESSAGES + b"}"


@pytest.mark.parametrize(
    "data",
    [
        [ID_FIRST % (custom_id, b"x") for custom_id in (b"123456789", b"987654321", b'x","k":"y')],
        [ID_LAST % (b"x", b"1", b"a"), ID_LAST % (b"y", b"1", b"b"), ID_LAST % (b"z", b"2", b"c")],
        [NULL_BETWEEN % (text, text) for text in (b"x", b"y", b"z")],
        [ID_BETWEEN % (text, text, text) for text in (b"x", b"y", b"z")],
    ],
    ids=[
        "keys within the room of an id",
        "a number behind the texts",
        "an edit between the texts",
        "an id between the texts",
    ],
)
def test_rare_forms_are_judged_as_the_rules_judge_them(data: list[bytes]) -> None:
    lines = b"\n".join([*data, b""])

    assert list(read(io.BytesIO(lines), DEFAULTS[2])) == by_the_rules(lines, DEFAULTS[2])


class Chunks(io.BytesIO):
    """A stream that hands over just these pieces, one per read."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._left = list(pieces)

    def read(self, _: int | None = -1) -> bytes:
        return self._left.pop(0) if self._left else b""


@pytest.mark.parametrize("known_id", [b"a", b"b}]}}_x"])
def test_a_line_cut_short_is_not_completed_by_the_next_one(known_id: bytes) -> None:
    line = b'{"custom_id":"%b","body":{"model":"m",' + MESSAGES % b"x" + b"}}"
    known = b"\n".join(line % known_id for _ in range(3))
    data = known + b'\n{"custom_id":"b}]}}\n\xff' + (line % b"")[14:]

    assert list(read(Chunks(data, b"\n"), Defaults())) == by_the_rules(data, Defaults())
