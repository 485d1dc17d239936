"""What `--help` looks like: many options in sections, and readable in a narrow window."""

from __future__ import annotations

from typing import Any

import click

from batch.language import _

_MANY = 15
"""Options; so many are told in sections."""

_NARROW = 66
"""Columns; below, an option stands above its help and not beside it."""


def _sections() -> dict[str, tuple[str, ...]]:
    """Titles, and the options of each; all others come before."""
    return {
        _("Tables"): (
            *("prompt", "prompt_file", "system", "system_file", "choices", "schema"),
            *("instructions_in", "repairs", "escalate", "pack", "temperature", "id_column"),
            *("encoding", "delimiter", "no_header", "sheet", "to"),
        ),
        _("Money"): (
            *("budget_rub", "budget_tokens", "budget_requests"),
            *("budget_rub_per_day", "budget_rub_per_month", "budget_zone"),
            *("request_bound_rub", "max_price_rise", "price_file", "usd_rate", "gateway"),
            *("never_pay_twice", "dedupe", "dedupe_all", "reuse", "reuse_all"),
        ),
        _("Estimate"): ("sample", "tokenizer"),
        _("Pace"): (
            *("workers", "rpm", "tpm", "max_in_flight", "rub_per_hour", "priority"),
            *("max_attempts", "max_refusals", "stop_after_s", "stop_after_rows", "total_timeout_s"),
        ),
        _("Hours"): ("window", "off_peak", "deadline"),
        _("Notifications"): ("notify_url", "notify_telegram", "notify_mail"),
    }


class Option(click.Option):
    """An option whose help says no more than a person needs."""

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without ranges that go without saying, and with plain defaults."""
        extra = super().get_help_extra(ctx)
        if "<=" not in extra.get("range", ""):
            extra.pop("range", None)
        if "default" in extra:
            extra["default"] = extra["default"].strip("()").removesuffix(".0")
        return extra


class Command(click.Command):
    """A command with such a help."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The same without the program around it: whoever asks first decides for all."""
        return ["-h", "--help"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options; many of them in sections."""
        records = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record and isinstance(each, click.Option):
                records[str(each.name)] = record
        parts = []
        for title, names in _sections().items() if len(records) > _MANY else ():
            parts.append((title, [records.pop(name) for name in names if name in records]))
        beside = 30 if formatter.width >= _NARROW else 4
        for title, rows in [(_("Options"), list(records.values())), *parts]:
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=beside)
