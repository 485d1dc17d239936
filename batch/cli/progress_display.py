"""Progress while a job runs: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from batch.cli.failure_text import retry_truncated
from batch.cli.progress_text import (
    bound_line,
    last_trouble,
    lines,
    sentence,
    shown_state,
)
from batch.cli.terminal import (
    PLAIN_EVERY_S,
    Manners,
    Say,
    cells,
    folded,
    is_lively,
    keys_unseen,
    safe,
    say,
)
from batch.language import _, number
from batch.store.failure_causes import better_limit
from batch.store.home import Home
from batch.store.incidents import Trouble
from batch.watching.progress import Progress
from jobs.bottleneck import Bound
from jobs.message import NOTHING, Message

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR, _NARROW_BAR = 24, 10
_MARGIN = 2
_WIDE = 80
"""Columns from which there is room for the long bar."""


class Display:
    """Progress: a bar on a terminal, a line now and then otherwise."""

    def __init__(self, home: Home, stop: str = "Ctrl-C") -> None:
        """`stop`: what stops a job, for a sentence."""
        self._home, self._stop = home, stop
        self._last = float("-inf")
        self._told: Progress | None = None
        self._trouble: Trouble | None = None
        self._bound_by: Bound | None = None
        self._stops = False
        self._warned = False
        self._bar = _Bar() if is_lively() else None
        self._keys = ExitStack()
        if self._bar:
            self._keys.enter_context(keys_unseen())

    def show(self, progress: Progress) -> None:
        """Shows a moment."""
        if self._stops:
            left = progress.left_s if progress.stopping else None
            progress = replace(progress, stopping=True, left_s=left, done_at=None)
        elif progress.mostly_truncated and not self._warned:
            self._warned = True
            self.say(self._truncated(progress))
        if not Manners.progress:
            return
        if self._bar:
            with suppress(OSError):
                self._bar.show(progress)
            return
        now, facts = time.monotonic(), _facts(progress)
        if facts != self._told and (
            now - self._last >= PLAIN_EVERY_S or _is_news(self._told, facts)
        ):
            self._last, self._told = now, facts
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
        self._stops = True
        self.say(why)

    def say(self, text: str) -> None:
        """A line that does not tear the bar."""
        if self._bar:
            with suppress(OSError):
                self._bar.say(text)
        else:
            say(text)

    def _truncated(self, progress: Progress) -> str:
        told = _(
            "most answers so far are truncated at max_tokens ({count} of {done}); to stop and"
            " retry them with a higher limit: {stop}, then {command}"
        )
        with closing(self._home.open(progress.job, read_only=True)) as store:
            command = retry_truncated(better_limit(store.db), progress.job)
        count, done = number(progress.truncated), number(progress.completed)
        return told.format(count=count, done=done, stop=self._stop, command=command)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            with suppress(OSError):
                self._bar.close()
        self._keys.close()


def _facts(progress: Progress) -> Progress:
    """What a line in a log file is for: without what changes though nothing happens."""
    wait = progress.wait and structs.replace(progress.wait, next_at=None)
    return replace(
        progress,
        rate=0.0,
        left_s=None,
        done_at=None,
        down_s=0.0,
        in_flight=0,
        wait=wait,
        reason_text=NOTHING if progress.wait else progress.reason_text,
        bound=None,
        attention=None,
    )


def _is_news(before: Progress | None, now: Progress) -> bool:
    """Whether it is told at once: it stands otherwise than before, or for another reason."""
    return before is None or _standing(before) != _standing(now)


def _standing(progress: Progress) -> tuple[object, ...]:
    code = progress.wait.code if progress.wait else ""
    stall = progress.stall.reason if progress.stall else None
    return shown_state(progress), progress.reason, progress.workers == 0, code, stall


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
