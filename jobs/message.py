"""What people are told: a form with named blanks, and what fills them.

A message *is* its English text: logs, programs and JSON read it as any string. What it was made of
stays beside it, on disk and in Redis too, so that it is put into the reader's language where it is
shown (`batch.language.say`). A new sentence is written in one place, from where Babel gathers it:
`N_("no such job: {name}", name=name)`.

Blanks are `{name}`, `{name!r}`, and of numbers `{name:,}`, `{name:.1f}`, `{name:.0%}`; other braces
stand for themselves. A `Decimal` is an amount in ₽ rounded for the eye; with `{name:exact}` it is a
figure to its last digit. A `datetime` is told to the minute, with its zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Self

from jobs.money import plain, show

Parameter = str | int | float | Decimal | datetime
"""What fills a blank; a message is a string too, and is said in the reader's language."""

Given = Parameter | BaseException | PurePath
"""What is given for it: of an exception what it says is kept, of a path its text."""

_BLANK = re.compile(r"\{(\w+)(![ra])?(?::(,?(?:(?:\.\d)?[fg%])?|exact))?\}")
_DEEPEST = 8


def filled(
    form: str, parameters: Mapping[str, Parameter], put: Callable[[Parameter, str], str]
) -> str:
    """The form with its blanks filled by `put`, which gets a value and how it is to be written."""

    def one(blank: re.Match[str]) -> str:
        name, conversion, spec = blank.groups()
        if name not in parameters:
            return blank[0]
        value = parameters[name]
        match conversion:
            case "!r":
                return repr(str(value))
            case "!a":
                return ascii(str(value))
        return put(value, spec or "")

    return _BLANK.sub(one, form) if parameters else form


def english(value: Parameter, spec: str) -> str:
    """A parameter in an English text."""
    if isinstance(value, Decimal) and spec in ("", "exact"):
        return plain(value) if spec else show(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M %Z}".rstrip()
    return str(value) if isinstance(value, str) else format(value, spec.removeprefix("exact"))


class Message(str):
    """A sentence or a part of one: its English text, with the form and what fills it.

    A text of others, such as an endpoint's, is a message without parameters that no catalogue has.
    """

    __slots__ = ("form", "parameters")

    form: str
    parameters: Mapping[str, Parameter]

    def __new__(cls, form: str, /, **parameters: Given) -> Self:
        """The form with its blanks filled."""
        kept = {name: _kept(value) for name, value in parameters.items()}
        self = super().__new__(cls, filled(form, kept, english))
        self.form, self.parameters = form, kept
        return self

    @property
    def data(self) -> str:
        """What it was made of, as JSON; "" where that is the text itself."""
        import json  # only where something is stored

        return json.dumps(_packed(self), ensure_ascii=False) if self.parameters else ""

    @classmethod
    def read(cls, text: str, data: str | None = "") -> Message:
        """The message with this `text`, made of its `data` if they can be read."""
        import json

        try:
            found = _unpacked(json.loads(data)) if data else None
        except (ValueError, TypeError, AttributeError, KeyError, ArithmeticError, RecursionError):
            found = None
        return found if isinstance(found, Message) else cls(text)


N_ = Message
"""How a message is written in code: the keyword by which Babel finds it."""

NOTHING = Message("")


def data_of(text: str) -> str:
    """What a text was made of, if it is a message: to be kept beside it."""
    return text.data if isinstance(text, Message) else ""


def message_of(error: BaseException) -> Message:
    """What an error says; its own words where it is none of ours."""
    found = getattr(error, "message", None)
    if not isinstance(found, Message) and error.args:
        found = error.args[0]
    if isinstance(found, Message):
        return found
    return Message((error.strerror if isinstance(error, OSError) else "") or str(error))


def joined(parts: Iterable[str], between: str = "; ") -> Message:
    """Several messages as one."""
    given = {f"part{number}": part for number, part in enumerate(parts)}
    return Message(between.join(f"{{{name}}}" for name in given), **given)


def _kept(value: Given) -> Parameter:
    match value:
        case BaseException():
            return message_of(value)
        case PurePath():
            return str(value)
    return value


def _packed(value: Parameter) -> Any:
    match value:
        case Message():
            return {
                "form": value.form,
                "blanks": {k: _packed(v) for k, v in value.parameters.items()},
            }
        case Decimal():
            return {"rub": plain(value)}
        case datetime():
            return {"at": value.isoformat(), "zone": value.tzname()}
    return value


def _unpacked(value: Any, deepest: int = _DEEPEST) -> Parameter:
    match value:
        case {"form": str(form), "blanks": {**blanks}} if deepest:
            return Message(form, **{str(k): _unpacked(v, deepest - 1) for k, v in blanks.items()})
        case {"rub": str(amount)}:
            return Decimal(amount)
        case {"at": str(at), "zone": str(zone)}:
            when = datetime.fromisoformat(at)
            return when.replace(tzinfo=timezone(when.utcoffset() or timedelta(), zone))
        case str() | int() | float():
            return value
    raise ValueError(value)
