"""Takes secrets out of what an endpoint says, for an endpoint may quote the request's head.

Wherever the key travels, or another secret in a header, this stands at the door: what comes back is
cleaned before anybody keeps it. Found is the key as it is, a part of it, and the spellings that
programs make of it: base64 (of `Bearer KEY` too), hex, reversed, and the escapes of JSON, HTML and
addresses.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

REDACTED = b"[key redacted]"

_LEAST, _SURE = 8, 16
_PART = 12
"""Characters in a row that are a quotation; prefixes that all keys have are shorter."""
_ENCODED_PART = 16
_SIGN = 16
_NESTED = 3
_HEAD = 1024
_MOST_UNESCAPED = 64 * 1024
_ESCAPES = re.compile(
    rb"\\u00(?P<json>[0-7][0-9a-fA-F])|\\(?P<bare>[/\\\"])|%(?P<address>[0-7][0-9a-fA-F])"
    rb"|&#x0*(?P<hex>[0-7]?[0-9a-fA-F]);|&#0*(?P<decimal>[0-9]{2,3});"
)
_ESCAPED = re.compile(rb"[\\%&]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class _Spelling:
    """One way to write the key; `part` characters of it in a row are a quotation."""

    def __init__(self, text: str, part: int) -> None:
        self._text = text.encode()
        self._part = min(part, len(text))
        # Whatever stretch is that long holds one of these as a whole.
        size = (self._part + 1) // 2
        self._blocks = [
            (at, self._text[at : at + size]) for at in range(0, len(text) - size + 1, size)
        ]

    def signs(self) -> list[bytes]:
        """The key in full has them all."""
        stop = max(len(self._text) - _SIGN, 0) + 1
        return [self._text[at : at + _SIGN] for at in range(0, stop, _SIGN)]

    def blocks(self) -> set[bytes]:
        """Whatever quotes it has one of them as a whole."""
        return {block for _, block in self._blocks}

    def spans(self, body: bytes) -> Iterator[tuple[int, int]]:
        """Where it, or a part of it, stands in the body."""
        for offset, block in self._blocks:
            at = body.find(block)
            while at >= 0:
                start, end = self._grown(body, at, offset)
                if end - start >= self._part:
                    yield start, end
                at = body.find(block, max(end, at + 1))

    def _grown(self, body: bytes, at: int, offset: int) -> tuple[int, int]:
        text, start, place = self._text, at, offset
        while start and place and body[start - 1] == text[place - 1]:
            start, place = start - 1, place - 1
        while at < len(body) and offset < len(text) and body[at] == text[offset]:
            at, offset = at + 1, offset + 1
        return start, at


class Redactor:
    """Takes the key, and other values of headers that are secrets, out of bytes.

    Words that stand in for a key where none is needed (`EMPTY`, `not-needed`) are no secrets:
    shorter than 8 characters, than 12 without a digit, or than 16 of letters alone. They may occur
    in any answer.
    """

    def __init__(self, *values: str) -> None:
        secrets = dict.fromkeys(
            each for value in values for each in _credentials(value) if _is_secret(each)
        )
        self._spellings = [each for secret in secrets for each in _spellings(secret)]
        signs = (sign for secret in secrets for some in _in_answers(secret) for sign in some)
        self._signs = list(dict.fromkeys(signs))
        blocks = {block for each in self._spellings for block in each.blocks()}
        self._size = min(map(len, blocks), default=0)
        self._beginnings = {block[: self._size] for block in blocks}
        self._remembered = lru_cache(64)(self._clean)

    def body(self, body: bytes, *, answered: bool) -> bytes:
        """The body without the key.

        Of an error every part is looked at. An answer is seen through so only where it has a sign
        of the key in full: all pass here, and next to none is a quotation.
        """
        if answered and b'"error"' not in body[:_HEAD] and not self._shows(body):
            return body
        return self._remembered(body) if len(body) < _MOST_UNESCAPED else self._clean(body)

    def _shows(self, body: bytes) -> bool:
        for sign in self._signs:  # noqa: SIM110  any() would take twice as long, at every answer
            if sign in body:
                return True
        return False

    def text(self, text: str) -> str:
        """Words without the key, such as those of an error."""
        return self.body(text.encode(errors="replace"), answered=False).decode(errors="replace")

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        """The values without the key."""
        return {name: self._short(value) for name, value in headers.items()}

    def _short(self, value: str) -> str:
        text = value.encode()
        return self._remembered(text).decode() if self._may_quote(text) else value

    def _may_quote(self, text: bytes) -> bool:
        """Whether a look is worth it: at every answer an id passes here that nobody saw before."""
        size = self._size
        stretches = [text[at : at + size] for at in range(len(text) - size + 1)]
        return not self._beginnings.isdisjoint(stretches) or bool(_ESCAPED.search(text))

    def _clean(self, body: bytes) -> bytes:
        if not self._spellings:
            return body
        body = self._without(body)
        return self._seen_through(body[:_MOST_UNESCAPED]) + body[_MOST_UNESCAPED:]

    def _seen_through(self, body: bytes, depth: int = 0) -> bytes:
        """Without what escapes hide: within the strings of JSON, so that it stays JSON, or else in
        the whole.
        """
        if not self._hides_in(body):
            return body
        if depth < _NESTED:
            body = _STRING.sub(lambda match: self._literal(match[0], depth + 1), body)
        return self._without(_unescaped(body)) if self._hides_in(body) else body

    def _literal(self, literal: bytes, depth: int) -> bytes:
        try:
            text = json.loads(literal).encode(errors="replace")
        except ValueError:
            return literal
        clean = self._seen_through(self._without(text), depth)
        told = json.dumps(clean.decode(errors="replace"), ensure_ascii=False).encode()
        return literal if clean == text else told

    def _hides_in(self, body: bytes) -> bool:
        plain = _unescaped(body)
        return plain != body and self._without(plain) != plain

    def _without(self, body: bytes) -> bytes:
        kept, at = [], 0
        for start, end in sorted(span for each in self._spellings for span in each.spans(body)):
            if start >= at:
                # Not without what it stood before: a backslash alone would break the JSON.
                kept += [body[at:start].rstrip(b"\\"), REDACTED]
            at = max(at, end)
        return b"".join([*kept, body[at:]])


def _credentials(value: str) -> Iterator[str]:
    """The value, and without its scheme; of `Basic` the name and the password within it too."""
    yield value
    scheme, _, rest = value.partition(" ")
    if not rest:
        return
    yield rest
    if scheme.lower() == "basic":
        with suppress(ValueError):
            login = base64.b64decode(rest, validate=True).decode()
            yield from (login, login.partition(":")[2])


def _is_secret(text: str) -> bool:
    """Words of a language, and what stands in for a key, are none."""
    has_digit = any(map(str.isdigit, text))
    least = _LEAST if has_digit else _SURE if text.isalpha() else _PART
    return len(text) >= least


def _in_answers(key: str) -> Iterator[list[bytes]]:
    raw = key.encode()
    yield _Spelling(key, _PART).signs()
    for text in (raw.hex(), *(_base64(raw, before) for before in range(3))):
        # The first of a long one is what many begin with.
        yield _Spelling(text, _ENCODED_PART).signs()[:2][-1:]


def _spellings(key: str) -> Iterator[_Spelling]:
    raw = key.encode()
    for text in {key, key.lower(), key.upper(), key[::-1]}:
        yield _Spelling(text, _PART)
    encoded = [_base64(raw, before) for before in range(3)]
    for text in {raw.hex(), raw.hex().upper(), *encoded, *map(_for_addresses, encoded)}:
        yield _Spelling(text, _ENCODED_PART)


def _base64(raw: bytes, before: int) -> str:
    """With so many bytes before it, without the characters that its neighbours change."""
    text = base64.b64encode(bytes(before) + raw).decode()
    return text[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]


def _for_addresses(encoded: str) -> str:
    return encoded.replace("+", "-").replace("/", "_")


def _unescaped(body: bytes) -> bytes:
    for _ in range(_NESTED):
        plain = _ESCAPES.sub(_sign, body)
        if plain == body:
            break
        body = plain
    return body


def _sign(match: re.Match[bytes]) -> bytes:
    kind, text = match.lastgroup, match[match.lastgroup or 0]
    if kind == "bare":
        return text
    code = int(text, 10 if kind == "decimal" else 16)
    return bytes([code]) if code < 128 else match[0]
