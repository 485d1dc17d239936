"""Answers held against what their own request asks for: `response_format`, or `text.format`."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from batch.tables.answer_validation import Check, Verdict, schema_check, text_of
from jobs.errors import InvalidValue
from jobs.message import N_, Message

_NULL = msgspec.Raw(b"null")
_ANY_OBJECT = '{"type": "object"}'
_CALLS = ("function_call", "custom_tool_call")
"""Of tools that whoever asked is to call; what the endpoint calls itself has an answer behind."""


class _Asking(msgspec.Struct):
    messages: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL
    text: msgspec.Raw = _NULL


class _Text(msgspec.Struct):
    """Of a request for `/responses`."""

    format: msgspec.Raw = _NULL


class _Schema(msgspec.Struct):
    schema: msgspec.Raw = _NULL


class _Format(msgspec.Struct):
    type: str = ""
    json_schema: _Schema | None = None
    schema: msgspec.Raw = _NULL
    """Of a `text.format`."""


class _Message(msgspec.Struct):
    tool_calls: object = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)


class _Item(msgspec.Struct):
    type: str = ""


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    output: list[_Item] = []


_asking = msgspec.json.Decoder(_Asking).decode
_text = msgspec.json.Decoder(_Text).decode
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
    """Only who is asked in turns can be told what is wrong with an answer."""
    asking = _asking(body)
    if asking.messages != _NULL:
        return check_by(bytes(asking.response_format), "response_format")
    if asking.text == _NULL:
        return None
    try:
        told = _text(asking.text)
    except msgspec.ValidationError as error:
        raise InvalidValue(Message("text: {why}", why=str(error))) from None
    return check_by(bytes(told.format), "text.format")


@lru_cache(256)
def check_by(form: bytes, name: str) -> Check | None:
    """The check of a form, JSON, that is called `name`; None: any text will do.

    `InvalidValue` where it holds no schema that could be checked.
    """
    try:
        told = _format(form) if form != b"null" else _Format()
    except msgspec.ValidationError as error:
        raise InvalidValue(Message("{name}: {why}", name=name, why=str(error))) from None
    if told.type == "json_object":
        return schema_check(_ANY_OBJECT)
    if told.type != "json_schema":
        return None
    schema = bytes(told.schema if told.json_schema is None else told.json_schema.schema)
    if schema == b"null":
        raise InvalidValue(N_("{name} has no schema", name=name))
    try:
        return schema_check(schema.decode())
    except ValueError as error:
        why = str(error).splitlines()[0]
        told_by = N_("{name} holds no JSON Schema: {why}", name=name, why=why)
        raise InvalidValue(told_by) from None


def _calls_tools(answer: bytes) -> bool:
    try:
        found = _answer(answer)
    except (ValueError, RecursionError):
        return False
    of_chat = bool(found.choices and found.choices[0].message.tool_calls)
    return of_chat or any(item.type in _CALLS for item in found.output)


def is_russian(body: bytes) -> bool:
    """Whether the texts of a request are mostly Russian."""
    text = body.decode(errors="replace").lower()
    return 4 * sum("а" <= each <= "я" for each in text) > len(text)
