"""JSON as endpoints send it, read without losing a digit, a text or the program."""

from __future__ import annotations

import json
from typing import Any

import msgspec

Json = Any
"""Whatever an endpoint may send."""

_MOST_TOKENS = 2**40


class Number(str):
    """A number with a point or exponent as it stands in the JSON: money must not become a float."""

    __slots__ = ()


class _NoJson:
    """Not JSON; nothing else looks like it."""


NO_JSON = _NoJson()
_decoder = msgspec.json.Decoder(float_hook=Number)
_lenient = json.JSONDecoder(parse_float=Number, parse_constant=Number)


def parse(body: bytes | str) -> Json:
    """The JSON in `body`, or `NO_JSON`.

    msgspec reads it in a third of the time; Python's own reader takes over for what an answer may
    hold although JSON forbids it, or msgspec refuses: lone surrogates, NaN, a byte order mark.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_leniently(body)
    except (ValueError, RecursionError):
        return NO_JSON


def _parse_leniently(body: bytes | str) -> Json:
    try:
        text = body if isinstance(body, str) else body.decode()
        return _lenient.decode(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return NO_JSON


def first_of(text: str) -> Json:
    """The JSON object that a text begins with, whatever but a second one stands behind it, or
    `NO_JSON`.
    """
    bare = text.removeprefix("\ufeff").lstrip()
    if not bare.startswith("{"):
        return NO_JSON
    try:
        found, end = _lenient.raw_decode(bare)
        return NO_JSON if '"choices"' in bare[end:] else found
    except (ValueError, RecursionError):
        return NO_JSON


def write(value: Json) -> str:
    """JSON again, with each number as it stood. `RecursionError` for what is nested too deep."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{write(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


def text_of(value: object, most: int = 200) -> str:
    """A string that can be stored and sent anywhere, of so many bytes at most; else empty."""
    if not isinstance(value, str):
        return ""
    if len(value) <= most and value.isascii():
        return value.strip()
    return value[:most].encode(errors="replace")[:most].decode(errors="ignore").strip()


def count_in(fields: Json, *names: str) -> int:
    """The first of these that is a whole number of tokens, `10.0` too; else 0."""
    if not isinstance(fields, dict):
        return 0
    for name in names:
        if count := _count(fields.get(name)):
            return count
    return 0


def _count(value: Json) -> int:
    if value is None:
        return 0
    if isinstance(value, Number):
        whole, _, rest = value.partition(".")
        value = int(whole) if whole.isdecimal() and len(whole) < 16 and not rest.strip("0") else 0
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
