"""Progress while a job runs: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from batch.dialogue.progress_text import (
    STOPPING,
    bound_line,
    last_trouble,
    lines,
    note,
    sentence,
    shown_state,
)
from batch.dialogue.terminal import PLAIN_EVERY_S, Manners, Say, cells, folded, is_lively, safe, say
from batch.language import _, number
from batch.store.trouble import Trouble
from batch.watching.progress import Progress
from jobs.bound import Bound
from jobs.message import Message

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR, _NARROW_BAR = 24, 10
_MARGIN = 2
_WIDE = 80
"""Columns from which there is room for the long bar."""


class Display:
    """Progress: a bar on a terminal, a line now and then otherwise."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._told = ("", "")
        self._trouble: Trouble | None = None
        self._bound_by: Bound | None = None
        self._stopping = ""
        self._warned = False
        self._bar = _Bar() if is_lively() else None

    def show(self, progress: Progress) -> None:
        """Shows a moment."""
        if self._stopping:
            progress = replace(progress, state=self._stopping)
        elif progress.mostly_truncated and not self._warned:
            self._warned = True
            self.say(_truncated(progress))
        if not Manners.progress:
            return
        if self._bar:
            with suppress(OSError):
                self._bar.show(progress)
            return
        news = progress.attention.text if progress.attention else note(progress)
        now, told = time.monotonic(), (progress.state, news)
        if now - self._last >= PLAIN_EVERY_S or told != self._told:
            self._last, self._told = now, told
            bound = progress.bound.cause if progress.bound else None
            if bound != self._bound_by and bound:
                say(f"  {_bound(progress)}")
            self._bound_by = bound
            say(f"{shown_state(progress)}: {sentence(progress)}")
            if progress.trouble != self._trouble:
                say(f"  {_trouble(progress)}")
            self._trouble = progress.trouble

    def stopping(self, why: str) -> None:
        """From now on the job is shown as being stopped."""
        self._stopping = STOPPING
        self.say(why)

    def say(self, text: str) -> None:
        """A line that does not tear the bar."""
        if self._bar:
            with suppress(OSError):
                self._bar.say(text)
        else:
            say(text)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            with suppress(OSError):
                self._bar.close()


def _truncated(progress: Progress) -> str:
    told = _(
        "most answers so far are truncated at max_tokens ({count} of {done}); to stop and retry"
        " them with a higher limit: Ctrl-C, then nightshift resume {job} --retry truncated"
        " --max-tokens N"
    )
    count, done = number(progress.truncated), number(progress.completed)
    return told.format(count=count, done=done, job=progress.job)


def _bound(progress: Progress) -> str:
    return bound_line(progress)


def _trouble(progress: Progress) -> str:
    told = last_trouble(progress)
    return _("last problem: {what}").format(what=told) if told else ""


class LogLines(logging.Handler):
    """Hands what is logged to `tell`, one line each."""

    def __init__(self, tell: Say) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tells a record."""
        told = record.msg if isinstance(record.msg, Message) else record.getMessage()
        self._tell(f"  {safe(_(told))}")


class _Bar:
    """rich's bar, what does not fit beside it, and the last trouble; loaded only where there is a
    terminal.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Rich
        from rich.table import Column

        self._console = Console(stderr=True, highlight=False)
        self._column = BarColumn(bar_width=_BAR)
        line = Column(no_wrap=True, overflow="ellipsis")
        self._rich = Rich(
            TextColumn("{task.fields[state]}", markup=False),
            self._column,
            TextColumn("{task.fields[text]}", markup=False, table_column=line),
            console=self._console,
        )
        self._task = self._rich.add_task("", total=1, state=_("starting"), text="")
        self._below: list[str] = []
        self._live = Live(self, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def __rich__(self) -> RenderableType:
        """All lines."""
        from rich.console import Group
        from rich.text import Text

        below = (Text(line, style="dim", no_wrap=True, overflow="crop") for line in self._below)
        return Group(self._rich, *below)

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        columns = self._console.width
        self._column.bar_width = _BAR if columns >= _WIDE else _NARROW_BAR
        state = shown_state(progress)
        room = columns - cells(state) - self._column.bar_width - 2
        first, *more = lines(progress, columns - _MARGIN, room)
        below = [*more, *filter(None, [_bound(progress), _trouble(progress)])]
        self._below = [folded(" " * _MARGIN + line, columns) for line in below]
        self._rich.update(
            self._task,
            total=max(progress.requests, 1),
            completed=progress.finished,
            state=state,
            text=first,
        )

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(folded(text, self._console.width), markup=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the bar."""
        self._live.stop()
