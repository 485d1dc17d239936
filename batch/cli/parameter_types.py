"""Kinds of values that options take: roubles, percentages, shares of the pace."""

from __future__ import annotations

import os
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from batch.language import _
from jobs import headers
from jobs.money import parse_amount
from jobs.priority import parse_share
from jobs.secret import extra_headers
from jobs.table_task import MOST_PACKED

_BLANKS = re.compile(r"[ \u00a0\u2009\u202f']")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_GROUPED_BY_POINTS = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_UNCLEAR = re.compile(r"[1-9]\d{0,2},\d{3}")
_ROUBLES = re.compile(r"(?i)(?:₽|руб(?:\.|лей|ля|ль)?|р\.?|rub|rur)$")


def _plain(text: str) -> str:
    """A figure as programs write it: without spaces and thousands apart, with a point."""
    text = _BLANKS.sub("", text)
    if _GROUPED.fullmatch(text):
        return text.replace(",", "")
    if _GROUPED_BY_POINTS.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    return text.replace(",", ".")


def _exact(text: str) -> Decimal | None:
    """An amount as people write it; None for what is none."""
    try:
        return parse_amount(_plain(text))
    except (ValueError, InvalidOperation):
        return None


class Roubles(click.ParamType[Decimal]):
    """An amount in ₽, exact: `500`, `0.35`, `1 000,50`, `1,000.50 ₽`."""

    name = "roubles"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount as `Decimal`."""
        if isinstance(value, Decimal):
            return value
        text = _ROUBLES.sub("", str(value).strip()).strip()
        if _UNCLEAR.fullmatch(text):
            whole, _, part = text.partition(",")
            self.fail(f"{value!r} may mean {whole}{part} or {whole}.{part}: write one of these")
        found = _exact(text)
        if found is None:
            self.fail(f"{value!r} is not an amount in roubles such as 500 or 0.35", param, ctx)
        return found


class Percent(click.ParamType[Decimal]):
    """Per cent, exact: `20`, `12.5%`."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The figure as `Decimal`."""
        if isinstance(value, Decimal):
            return value
        found = _exact(str(value).replace("%", "").strip())
        if found is None or found > _MOST_PERCENT or found != round(found, 4):
            self.fail(f"{value!r} is no percentage from 0 to {_MOST_PERCENT}", param, ctx)
        return found


_MOST_PERCENT = 1000


def more_than_nothing(
    _: click.Context, param: click.Parameter, value: Decimal | None
) -> Decimal | None:
    """For an amount that nothing could be done with if it were zero."""
    if value is not None and value <= 0:
        raise click.BadParameter("must be more than 0", param=param)
    return value


def _in_words(least: float | None, most: float | None) -> str:
    """A range as people say it, in helps and errors; click writes `0<=x<=10`."""
    if most is None:
        return _("{least} or more").format(least=least)
    if least is None:
        return _("{most} or less").format(most=most)
    return _("{least} to {most}").format(least=least, most=most)


class Figure(click.FloatRange):
    """A number within a range."""

    def _describe_range(self) -> str:
        return _in_words(self.min, self.max)


class Whole(click.IntRange):
    """A whole number: `1000`, `1,000`, `1 000`."""

    name = "whole number"

    def _describe_range(self) -> str:
        return _in_words(self.min, self.max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, if it is within the range."""
        text = _plain(str(value))
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            self.fail(f"{value!r} is not a whole number such as 1000", param, ctx)
        return int(super().convert(int(text), param, ctx))


class Seconds(Figure):
    """A time: `90`, `90s`, `15m`, `1h`, `30d`."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """So many seconds."""
        match = _TIME.fullmatch(_plain(str(value)).lower())
        if match is None:
            self.fail(f"{value!r} is not a time such as 90, 90s, 15m or 1h", param, ctx)
        seconds = float(match[1]) * _UNITS[(match[2] or "s")[0]]
        return float(super().convert(seconds, param, ctx))


_TIME = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)"
    r"(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|с|сек|м|мин|ч|д|дн)?"
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "с": 1, "м": 60, "ч": 3600, "д": 86_400}

_RENAMED = re.compile(r"([^=@]+(?:@[^=]*=[^=&]*(?:&[^=&]*=[^=&]*)*)?)=(.+)")
"""A name may have options of its own: `author/slug@provider=tag&allow_fallbacks=false`."""


def model_map(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Each `OLD=NEW` taken apart."""
    found = [(text, _RENAMED.fullmatch(text)) for text in value]
    for text, match in found:
        if match is None:
            raise click.BadParameter(f"{text!r} is not of the form OLD=NEW", param=param)
    return {match[1].strip(): match[2].strip() for _text, match in found if match}


class PriorityShare(click.ParamType[float]):
    """A job's share of the pace: `high`, `normal`, `low` or a number."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The share as a number."""
        try:
            return parse_share(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Packing(click.ParamType[int]):
    """Rows in a call: a number, or `auto`, which is 0."""

    name = "rows"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of rows."""
        if value in ("auto", 0):
            return 0
        if not str(value).isdecimal() or not 1 <= int(value) <= MOST_PACKED:
            self.fail(f"{value!r} is not a number from 1 to {MOST_PACKED}, or auto", param, ctx)
        return int(value)


class Header(click.ParamType[str]):
    """A header for the endpoint, as `jobs.headers` describes; in the environment one a line."""

    name = "header"

    def split_envvar_value(self, rv: str) -> list[str]:
        """The headers that a variable holds."""
        return headers.lines(rv)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The words as they were given."""
        try:
            headers.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def take_headers(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Puts them where this process, and those that it starts, look for them.

    Refuses a secret on the command line, which everybody on the machine can read.
    """
    typed = ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
    for text in value if typed else ():
        if headers.is_open_secret(text):
            name = headers.parse(text)[0]
            raise click.BadParameter(
                f"the value of {name} looks like a secret, which would show in process lists; give"
                f" it by a file or a variable: {name}=@FILE, {name}=env:VARIABLE",
                ctx,
                param,
            )
    if value:
        os.environ[headers.VARIABLE] = "\n".join(value)
        extra_headers(os.environ)
    return value
