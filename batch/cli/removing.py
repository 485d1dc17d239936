"""Before jobs are removed: a yes; after it, what was removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from batch import language
from batch.cli.terminal import say
from batch.language import ngettext, number
from jobs.errors import UsageError
from jobs.message import N_


def agree(jobs: int, freed: int) -> None:
    """Goes on only after a yes."""
    if not sys.stdin.isatty():
        raise UsageError(
            N_("cannot ask for confirmation: stdin is not a terminal"),
            hint=N_("pass --yes to remove"),
        )
    question = ngettext(
        "Remove {count} job ({size})?", "Remove {count} jobs ({size})?", jobs
    ).format(count=number(jobs), size=language.size(freed))
    click.confirm(question, abort=True, err=True)


def say_removed(jobs: Sequence[str], freed: int) -> None:
    """How many are gone; their results are not."""
    told = ngettext(
        "{count} job removed, {size} freed; the results stay where they were written",
        "{count} jobs removed, {size} freed; the results stay where they were written",
        len(jobs),
    )
    say(told.format(count=number(len(jobs)), size=language.size(freed)))
