"""JSON read strictly: what parsers let pass in silence is a flaw here, with its byte.

Duplicate keys, lone surrogates, NaN, numbers that no double can hold, and nesting without end all
pass one common parser or another, and mean something else to the next one on the way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from enum import Enum

import msgspec

from jobs.message import N_, Message

DEEPEST = 64
"""Levels of objects and arrays in a line."""

MOST_VALUES = 100_000
"""Values in a line."""


class Kind(Enum):
    """What JSON knows."""

    OBJECT = N_("an object")
    ARRAY = N_("a list")
    STRING = N_("a string")
    NUMBER = N_("a number")
    TRUE = "true"
    FALSE = "false"
    NULL = "null"


_SPACE = re.compile(rb"[ \t\r\n]*+")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_SPACES = frozenset({b" ", b"\t", b"\r", b"\n"})
_WORDS = {
    b"t": (b"true", Kind.TRUE),
    b"f": (b"false", Kind.FALSE),
    b"n": (b"null", Kind.NULL),
}
_NOT_FINITE = re.compile(rb"[+-]?(?:NaN|Infinity|nan|inf)")
# In pieces: possessive repetition of a group, which needs no bound, is wrong before Python 3.11.5
# (python/cpython#106052), and without it every repetition is remembered.
_STRING = re.compile(
    rb"""(?: [^"\\\x00-\x1f]++
           | \\ (?: ["\\/bfnrt]
                  | u (?: [0-9a-cA-CefEF] [0-9a-fA-F]{3}
                        | [dD] [0-7] [0-9a-fA-F]{2}
                        | [dD] [89abAB] [0-9a-fA-F]{2} \\u [dD] [c-fC-F] [0-9a-fA-F]{2}
                      ) ) ){0,512}""",
    re.VERBOSE,
)
_BLANK = re.compile(rb'"(?: |\\[nrt]|\xc2\xa0|\\u00[aA]0){0,64}"')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class Flaw(Exception):
    """Why a line is refused: a code, a sentence, and the byte of the line where it shows."""

    def __init__(self, code: str, message: Message, offset: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.offset = offset


class Node(msgspec.Struct):
    """A value, and the bytes `start` up to `stop` of the line that it stands in."""

    kind: Kind
    start: int
    stop: int
    members: dict[str, Member] = {}
    items: list[Node] = []


class Member(msgspec.Struct):
    """One of an object's members; `start` is the byte of its key's quote."""

    start: int
    value: Node


def scan(line: bytes) -> Node:
    """The line's one value; `Flaw` when it is not strict JSON. The line must be valid UTF-8."""
    return _Scanner(line).document()


def is_blank(line: bytes, start: int) -> bool:
    """Whether the string whose opening quote stands at `start` has nothing in it to read."""
    return _BLANK.match(line, start) is not None


def text_of(line: bytes, node: Node) -> str:
    """The string that a node of kind `STRING` stands for."""
    return _decoded(line[node.start : node.stop])


class _Scanner:
    def __init__(self, line: bytes) -> None:
        self._line = line
        self._at = 0
        self._values = 0

    def document(self) -> Node:
        node = self._value(1)
        if self._peek():
            raise self._flaw(N_("text follows the JSON value; put each request on its own line"))
        return node

    def _value(self, depth: int) -> Node:
        first = self._peek()
        self._values += 1
        if self._values > MOST_VALUES:
            told = N_("the line has more than {most:,} values; split it", most=MOST_VALUES)
            raise Flaw("input.too_long", told, self._at)
        if first in (b"{", b"["):
            return self._container(first, depth)
        if first == b'"':
            return Node(Kind.STRING, self._at, self._string_end())
        return self._scalar(first)

    def _container(self, first: bytes, depth: int) -> Node:
        if depth > DEEPEST:
            told = N_("the line is nested more than {most} levels deep; flatten it", most=DEEPEST)
            raise Flaw("input.depth", told, self._at)
        return self._object(depth) if first == b"{" else self._array(depth)

    def _object(self, depth: int) -> Node:
        start, members = self._at, dict[str, Member]()
        for _ in self._elements(b"}"):
            key_start, key = self._at, self._key(members)
            if self._peek() != b":":
                raise self._flaw(N_("a colon is missing after a key"))
            self._at += 1
            members[key] = Member(key_start, self._value(depth + 1))
        return Node(Kind.OBJECT, start, self._at, members=members)

    def _array(self, depth: int) -> Node:
        start = self._at
        items = [self._value(depth + 1) for _ in self._elements(b"]")]
        return Node(Kind.ARRAY, start, self._at, items=items)

    def _elements(self, end: bytes) -> Iterator[None]:
        """Stops before each element of the container that begins here, then behind its end."""
        self._at += 1
        if self._peek() != end:
            yield
            while self._peek() == b",":
                self._at += 1
                self._peek()
                yield
        if self._peek() != end:
            raise self._flaw(N_("a comma or {end} is missing", end=end.decode()))
        self._at += 1

    def _key(self, seen: dict[str, Member]) -> str:
        start = self._at
        first = self._peek()
        if first == b"}":
            raise self._trailing(first)
        if first != b'"':
            raise self._flaw(N_("a key in double quotes is missing"))
        key = _decoded(self._line[start : self._string_end()])
        if key in seen:
            told = N_("duplicate key {key!a} in one object; keep one of the two", key=key[:40])
            raise Flaw("input.duplicate_key", told, start)
        return key

    def _string_end(self) -> int:
        """Goes behind the string that begins here."""
        stop = _end_of_string(self._line, self._at + 1)
        if self._line[stop : stop + 1] != b'"':
            raise self._bad_string(stop)
        self._at = stop + 1
        return self._at

    def _bad_string(self, stop: int) -> Flaw:
        if _SURROGATE.match(self._line, stop):
            told = N_(
                "a string has half a surrogate pair (\\ud800 to \\udfff); remove or complete it"
            )
            return Flaw("input.surrogate", told, stop)
        self._at = stop
        if stop == len(self._line):
            return self._flaw(N_("a string is not closed"))
        if self._line[stop : stop + 1] == b"\\":
            return self._flaw(N_("invalid escape in a string; double the backslash"))
        return self._flaw(N_("unescaped control character in a string; escape it"))

    def _scalar(self, first: bytes) -> Node:
        start = self._at
        word, kind = _WORDS.get(first, (b"?", Kind.NULL))
        if self._line.startswith(word, start):
            self._at += len(word)
            return Node(kind, start, self._at)
        number = _NUMBER.match(self._line, start)
        if number is None:
            raise self._no_value(first)
        if math.isinf(float(number[0])):
            told = N_("a number is too large (over 1.8e308); write a smaller one")
            raise Flaw("input.number", told, start)
        self._at = number.end()
        return Node(Kind.NUMBER, start, self._at)

    def _no_value(self, first: bytes) -> Flaw:
        if _NOT_FINITE.match(self._line, self._at):
            told = N_("NaN and Infinity are not JSON; write a number or null")
            return Flaw("input.number", told, self._at)
        if first in (b"#", b"/"):
            return self._flaw(N_("comments are not JSON; remove them"))
        if first in (b"]", b"}") and self._line[: self._at].rstrip().endswith(b","):
            return self._trailing(first)
        return self._flaw(N_("a value is missing") if first else N_("the line is cut off"))

    def _trailing(self, end: bytes) -> Flaw:
        return self._flaw(N_("there is a comma before {end}; remove it", end=end.decode()))

    def _peek(self) -> bytes:
        """Goes over white space; the byte that stands there, empty at the end."""
        here = self._line[self._at : self._at + 1]
        if here not in _SPACES:
            return here
        self._at = _end(_SPACE, self._line, self._at)
        return self._line[self._at : self._at + 1]

    def _flaw(self, what: Message) -> Flaw:
        return Flaw("input.json", N_("the line is not valid JSON: {what}", what=what), self._at)


def _end(pattern: re.Pattern[bytes], line: bytes, at: int) -> int:
    match = pattern.match(line, at)
    return match.end() if match else at


def _end_of_string(line: bytes, at: int) -> int:
    """The first byte from `at` on that does not belong to a string's inside."""
    while (stop := _end(_STRING, line, at)) > at:
        at = stop
    return at


def _decoded(quoted: bytes) -> str:
    return str(json.loads(quoted)) if b"\\" in quoted else quoted[1:-1].decode()
