"""What `--help` looks like: many options in sections, and readable in a narrow window."""

from __future__ import annotations

from typing import Any

import click

from batch.language import _
from jobs.option_declaration import (
    ESTIMATE,
    HOURS,
    JOB,
    MONEY,
    NOTIFICATIONS,
    PACE,
    TABLES,
    Section,
)

_MANY = 15
"""Options; so many are told in sections."""

_NARROW = 66
"""Columns; below, an option stands above its help and not beside it."""


def _titles() -> dict[Section, str]:
    """What the help calls its sections, the one first that is always there."""
    return {
        JOB: _("Options"),
        TABLES: _("Tables"),
        MONEY: _("Money"),
        ESTIMATE: _("Estimate"),
        PACE: _("Pace"),
        HOURS: _("Hours"),
        NOTIFICATIONS: _("Notifications"),
    }


LAST_PORT = 65535


class Option(click.Option):
    """An option whose help says no more than a person needs, in its section of a long help."""

    def __init__(self, *names: Any, section: Section = JOB, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section
        self.help = settings.get("help")  # a message; click makes a text of it

    def _has_a_range(self) -> bool:
        """Whether both ends of it are worth a word; that a port is one is known."""
        kind = self.type
        ends = (getattr(kind, "min", None), getattr(kind, "max", None))
        return None not in ends and ends != (0, LAST_PORT)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without ranges that go without saying, and with plain defaults."""
        extra = super().get_help_extra(ctx)
        if not self._has_a_range():
            extra.pop("range", None)
        if "default" in extra:
            extra["default"] = extra["default"].strip("()").removesuffix(".0")
        return extra


_ELSEWHERE = {
    **dict.fromkeys(("--concurrency", "--max-concurrency", "--parallel"), "--max-in-flight"),
    "--batch-size": "--pack",
    "--output": "--output-dir",
    "--out": "--output-dir",
    "--retries": "--max-attempts",
    "--max-retries": "--max-attempts",
}
"""What options are called in other tools that send many requests, and here."""


class Command(click.Command):
    """A command with such a help."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The same without the program around it: whoever asks first decides for all."""
        return ["-h", "--help"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Of an option that other tools have, tells what it is called here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = _ELSEWHERE.get(error.option_name, "")
            if error.possibilities is not None and any(meant in each.opts for each in self.params):
                error.possibilities[:] = [meant]
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options; many of them in sections."""
        records = [
            (getattr(each, "section", JOB), record)
            for each in self.get_params(ctx)
            if isinstance(each, click.Option) and (record := each.get_help_record(ctx))
        ]
        is_long = len(records) > _MANY
        beside = 30 if formatter.width >= _NARROW else 4
        for section, title in _titles().items():
            rows = [record for of, record in records if (of if is_long else JOB) == section]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=beside)
