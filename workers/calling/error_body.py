"""An error without its wrappings: JSON in text in JSON, as deep as gateways nest it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from workers.calling import retry_after
from workers.calling.reading import NO_JSON, Json, parse, text_of

LONGEST_MESSAGE = 2048
"""Bytes of the server's text that are kept."""

_DEEPEST_WRAPPING = 8
_SAID = re.compile(
    r"\s*(?:HTTP|Error code:?|status(?: code)?:?)\s*([1-5][0-9]{2})\b", re.IGNORECASE
)
_INNER = (
    *("error", "errors", "message", "detail", "msg", "error_msg", "errmsg", "base_resp"),
    *("status_msg", "description", "title"),
)
_CODES = ("code", "type", "status", "reason", "error_code", "__type")
_STATUSES = ("code", "status", "httpCode", "statusCode", "status_code")
_MOST_TEXTS = 100


class Trouble(msgspec.Struct, frozen=True):
    """What an error says.

    `code` is the innermost one that could be an HTTP status, `said` one that a text begins with.
    `codes` are all words for programs (`insufficient_quota`, `1113`), `words` all texts, both in
    lower case; `message` is the innermost text. `after` is the error's own wish in seconds.
    """

    code: int | None = None
    said: int | None = None
    message: str = ""
    words: str = ""
    codes: str = ""
    after: float | None = None


def unwrap(value: Json, now: float) -> Trouble:
    """Goes through JSON in strings in objects, deeper than endpoints were seen to nest them.

    `now` is Unix time in seconds: what some tell is the moment to come back.
    """
    trouble, whole = Trouble(), value
    for _ in range(_DEEPEST_WRAPPING):
        if isinstance(value, str):
            trouble, value = _peel_text(value, trouble)
        elif isinstance(value, dict):
            trouble, value = _peel_fields(value, trouble, now)
        elif isinstance(value, list) and value:
            value = value[0]
        else:
            break
    if trouble.message:
        return trouble
    # In no field that is known: the longest text is most likely for people.
    message = max(_texts(whole), key=len, default="")
    words = f"{trouble.words} {message.lower()}"
    return msgspec.structs.replace(trouble, message=message, words=words)


def _texts(value: Json, depth: int = _DEEPEST_WRAPPING) -> Iterator[str]:
    """Texts of a few words that stand anywhere in it."""
    if isinstance(value, str) and " " in value.strip():
        yield text_of(value, LONGEST_MESSAGE)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in islice(inner, _MOST_TEXTS if depth else 0):
        yield from _texts(each, depth - 1)


def _peel_text(text: str, seen: Trouble) -> tuple[Trouble, Json]:
    short = text_of(text, LONGEST_MESSAGE)
    said = _SAID.match(short)
    after = retry_after.from_text(short)
    trouble = msgspec.structs.replace(
        seen,
        said=int(said[1]) if said else seen.said,
        message=short or seen.message,
        words=f"{seen.words} {short.lower()}",
        after=seen.after if after is None else after,
    )
    return trouble, _json_within(text)


def _json_within(text: str) -> Json:
    """The string that a text is, or the object that it ends with; None if there is neither."""
    bare = text.strip()
    start = 0 if bare.startswith('"') else bare.find("{")
    if start < 0 or not bare.endswith(('"', "}")):
        return None
    found = parse(bare[start:])
    return None if found is NO_JSON else found


def _peel_fields(fields: dict[str, Json], seen: Trouble, now: float) -> tuple[Trouble, Json]:
    after = retry_after.from_fields(fields, now)
    raw = _raw(fields)
    message = _placed(fields) or (text_of(fields.get("message"), LONGEST_MESSAGE) if raw else "")
    trouble = msgspec.structs.replace(
        seen,
        code=next(filter(None, (_status(fields.get(name)) for name in _STATUSES)), seen.code),
        message=message or seen.message,
        words=f"{seen.words} {message.lower()}",
        codes=" ".join([seen.codes, *_codes(fields)]).strip(),
        after=seen.after if after is None else after,
    )
    if message and not raw:
        return trouble, None
    return trouble, raw or next((fields[name] for name in _INNER if fields.get(name)), None)


def _raw(fields: dict[str, Json]) -> Json:
    """What a provider behind the gateway said itself."""
    metadata = fields.get("metadata")
    return metadata.get("raw") if isinstance(metadata, dict) else None


def _placed(fields: dict[str, Json]) -> str:
    """A fault with its place, as FastAPI tells it: `body.messages: Field required`."""
    where, what = fields.get("loc"), fields.get("msg")
    if not isinstance(where, list) or not isinstance(what, str):
        return ""
    return text_of(f"{'.'.join(map(str, where))}: {what}", LONGEST_MESSAGE)


def _codes(fields: dict[str, Json]) -> Iterator[str]:
    for name in _CODES:
        value = fields.get(name)
        if isinstance(value, str) or type(value) is int:
            yield text_of(str(value)).lower()
    details = fields.get("details")
    for each in details if isinstance(details, list) else ():
        if isinstance(each, dict):
            yield text_of(each.get("reason")).lower()
    inner = fields.get("innererror")
    if isinstance(inner, dict):
        yield text_of(inner.get("code")).lower()


def _status(value: object) -> int | None:
    """An HTTP status of an error, given as number or text."""
    if type(value) is str and len(value) == 3 and value.isdecimal() and value.isascii():
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None
