"""What is said of money that nobody knows for certain."""

from __future__ import annotations

from decimal import Decimal

from batch.language import _, money, ngettext, number


def uncertain(calls: int, unbounded: int, booked: Decimal) -> str:
    """Calls of unknown cost, and the most that they cost, as far as anything bounds it."""
    if not calls:
        return ""
    told = ngettext("{count} call of unknown cost", "{count} calls of unknown cost", calls)
    bounded = calls - unbounded
    if not unbounded:
        most = _("at most {rub}").format(rub=money(booked))
    elif not bounded:
        most = _("no upper bound")
    else:
        most = ngettext(
            "at most {rub} for {count} of them, no upper bound for the others",
            "at most {rub} for {count} of them, no upper bound for the others",
            bounded,
        ).format(rub=money(booked), count=number(bounded))
    return f"{told.format(count=number(calls))}, {most}"


def paid(rub: Decimal, unknown: int) -> str:
    """An amount in a table: of calls whose cost nobody knows it is a part, or nothing is known."""
    if not unknown:
        return money(rub)
    return _("at least {rub}").format(rub=money(rub)) if rub else _("unknown")
