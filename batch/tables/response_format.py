"""Answers held against what their own request asks for: its `response_format`."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from batch.tables.answer_validation import Check, Verdict, schema_check, text_of
from jobs.errors import InvalidValue
from jobs.message import N_

_NULL = msgspec.Raw(b"null")
_ANY_OBJECT = '{"type": "object"}'


class _Asking(msgspec.Struct):
    messages: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL


class _Schema(msgspec.Struct):
    schema: msgspec.Raw = _NULL


class _Format(msgspec.Struct):
    type: str = ""
    json_schema: _Schema | None = None


class _Message(msgspec.Struct):
    tool_calls: object = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_asking = msgspec.json.Decoder(_Asking).decode
_format = msgspec.json.Decoder(_Format).decode
_answer = msgspec.json.Decoder(_Answer).decode


def judged(body: bytes, answer: bytes) -> Verdict:
    """What an answer says, by the body of its request; calls of tools are no texts to check."""
    check = _check_for(body)
    if check is None or _calls_tools(answer):
        return Verdict()
    return check(text_of(answer))


def is_checkable(body: bytes) -> bool:
    """Whether a request tells what its answer must be; `InvalidValue` where nobody can check it."""
    return _check_for(body) is not None


def _check_for(body: bytes) -> Check | None:
    """Only a chat can be told what is wrong with its answer."""
    asking = _asking(body)
    return None if asking.messages == _NULL else check_by(bytes(asking.response_format))


@lru_cache(256)
def check_by(response_format: bytes) -> Check | None:
    """The check of a `response_format`, JSON; None: any text will do.

    `InvalidValue` where it holds no schema that could be checked.
    """
    try:
        told = _format(response_format) if response_format != b"null" else _Format()
    except msgspec.ValidationError as error:
        raise InvalidValue(N_("response_format: {why}", why=str(error))) from None
    if told.type == "json_object":
        return schema_check(_ANY_OBJECT)
    if told.type != "json_schema":
        return None
    schema = b"null" if told.json_schema is None else bytes(told.json_schema.schema)
    if schema == b"null":
        raise InvalidValue(N_("response_format has no schema"))
    try:
        return schema_check(schema.decode())
    except ValueError as error:
        why = str(error).splitlines()[0]
        raise InvalidValue(N_("response_format holds no JSON Schema: {why}", why=why)) from None


def _calls_tools(answer: bytes) -> bool:
    try:
        found = _answer(answer).choices
    except (ValueError, RecursionError):
        return False
    return bool(found and found[0].message.tool_calls)


def is_russian(body: bytes) -> bool:
    """Whether the texts of a request are mostly Russian."""
    text = body.decode(errors="replace").lower()
    return 4 * sum("а" <= each <= "я" for each in text) > len(text)
