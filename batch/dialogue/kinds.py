"""Kinds of values that options take: roubles, percentages, shares of the pace."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from jobs.money import parse_amount
from jobs.priority import parse_share


def _exact(text: str) -> Decimal | None:
    """An amount with a point or a comma; None for what is none."""
    try:
        return parse_amount(text.replace(",", "."))
    except (ValueError, InvalidOperation):
        return None


class Roubles(click.ParamType[Decimal]):
    """An amount in ₽, exact: `500`, `0.35`."""

    name = "roubles"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount as `Decimal`."""
        if isinstance(value, Decimal):
            return value
        found = _exact(str(value).replace(" ", ""))
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


class Share(click.ParamType[float]):
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
