"""The shape of a request: its characters by script, counted at the speed of memory.

A tokenizer spends about as many tokens on each letter of a script, and quite another number in the
next script; so these few counts and a rate for each tell the size of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from jobs.request_kinds import prompt_texts

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """Messages, and characters of their text by script; white space but line feeds left out.

    `counted` is what a tokenizer of the user's says of the text, if there is one.
    """

    messages: int = 0
    latin: int = 0
    cyrillic: int = 0
    signs: int = 0
    cjk: int = 0
    other: int = 0
    counted: int | None = None


def _kinds() -> bytes:
    """For each byte of UTF-8 the script of the character that it begins."""
    table = bytearray(b"." * 256)

    def put(kind: bytes, first: int, last: int) -> None:
        table[first : last + 1] = kind * (last + 1 - first)

    put(b"s", 0x21, 0x7E)
    put(b"s", 0x0A, 0x0A)
    put(b"l", 0x41, 0x5A)
    put(b"l", 0x61, 0x7A)
    put(b"s", 0xC2, 0xC2)
    put(b"l", 0xC3, 0xC9)
    put(b"o", 0xCA, 0xCF)
    put(b"c", 0xD0, 0xD3)
    put(b"o", 0xD4, 0xE2)
    put(b"k", 0xE3, 0xED)
    put(b"o", 0xEE, 0xF4)
    return bytes(table)


_KINDS = _kinds()


def shape_of(body: bytes) -> Shape:
    """The shape of a request's body, which is one that the rules accepted."""
    document: dict[str, Any] = _decode(body)
    return shape_of_text("\n".join(texts_of(document)), len(list(prompt_texts(document))))


def shape_of_text(text: str, messages: int = 1) -> Shape:
    """The shape of so many messages with this text in all."""
    kinds = text.encode(errors="replace").translate(_KINDS)
    latin, cyrillic, signs, cjk, other = map(kinds.count, (b"l", b"c", b"s", b"k", b"o"))
    return Shape(messages, latin, cyrillic, signs, cjk, other)


def texts_of(document: dict[str, Any]) -> Iterator[str]:
    """All texts of a body that become tokens of the prompt."""
    for _, said in prompt_texts(document):
        yield from _texts(said)
    for key in ("tools", "response_format", "text"):
        if document.get(key):
            yield _encode(document[key]).decode()


def _texts(said: object) -> Iterator[str]:
    """Of a message or an item, of its parts, of a list of texts; tokens count as they are."""
    if isinstance(said, str):
        yield said
    elif isinstance(said, list):
        for part in said:
            yield from _texts(part)
    elif isinstance(said, dict):
        for key in ("content", "text", "arguments", "output"):
            yield from _texts(said.get(key))
        if said.get("tool_calls"):
            yield _encode(said["tool_calls"]).decode()
    elif isinstance(said, int):
        yield "a"
