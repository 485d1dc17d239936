"""Before jobs are removed: a yes; after it, what was removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from batch.dialogue.terminal import say
from batch.language import _, decimal, ngettext, number
from jobs.errors import UsageError

_STEP = 1024


def agree(jobs: int, freed: int) -> None:
    """Goes on only after a yes."""
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for confirmation: stdin is not a terminal", hint="pass --yes to remove"
        )
    question = ngettext(
        "Remove {count} job ({size})?", "Remove {count} jobs ({size})?", jobs
    ).format(count=number(jobs), size=human(freed))
    click.confirm(question, abort=True, err=True)


def say_removed(jobs: Sequence[str], freed: int) -> None:
    """How many are gone; their results are not."""
    told = ngettext(
        "{count} job removed, {size} freed; the results stay where they were written",
        "{count} jobs removed, {size} freed; the results stay where they were written",
        len(jobs),
    )
    say(told.format(count=number(len(jobs)), size=human(freed)))


def human(size: int) -> str:
    """Bytes in a unit that people read: `12 kB`, `3.4 MB`."""
    if size < _STEP**2:
        return _("{size} kB").format(size=number(-(-size // _STEP)))
    if size < _STEP**3:
        return _("{size} MB").format(size=decimal(size / _STEP**2, 1))
    return _("{size} GB").format(size=decimal(size / _STEP**3, 1))
