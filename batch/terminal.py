"""What a person reads: words on standard error, progress while a job runs."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import click

from batch.progress import Progress
from jobs.money import show
from jobs.request import Fault
from jobs.states import JobState

STOPPING = "stopping"
"""Shown in place of the state while a command that was interrupted lets its calls end."""

_PLAIN_EVERY_S = 15.0
_BAR, _NARROW_BAR = 24, 10
_WIDE = 80
"""Columns from which there is room for the long bar and for a table."""

_UNSAFE = dict.fromkeys(
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
        0x61C,
    ],
    "�",
)

Say = Callable[[str], None]


def say(text: str = "") -> None:
    """A line for the person, on standard error."""
    click.echo(text, err=True)


def safe(text: str) -> str:
    """Text from outside: control and bidirectional characters made visible, half ones replaced."""
    return text.translate(_UNSAFE).encode("utf-8", "replace").decode()


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def duration(seconds: float) -> str:
    """`45 s`, `12 min 5 s`, `3 h 20 min`."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(int(whole.total_seconds()), 3600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"


def say_faults(faults: Iterable[Fault], total: int, tell: Say = say) -> None:
    """Each fault with its line, in the order of lines, and how many more there are."""
    told = 0
    for told, fault in enumerate(sorted(faults, key=lambda each: each.line), start=1):  # noqa: B007
        where = "" if fault.offset is None else f", byte {fault.offset}"
        tell(f"  line {fault.line}{where}: {safe(fault.message)}  [{fault.code}]")
    if total > told:
        tell(f"  … and {total - told:,} more")


def sentence(progress: Progress, columns: int | None = None) -> str:
    """One moment of a job in one line; what matters least is left out where room is short."""
    parts = [(rank, text) for rank, text in _parts(progress) if text]
    while columns and len(parts) > 1 and len(_joined(parts)) > columns:
        parts.remove(max(parts))
    return _joined(parts)


def _joined(parts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in parts)


def _parts(progress: Progress) -> list[tuple[int, str]]:
    """(rank, text), as they stand in the line; the highest rank goes first."""
    left = progress.left_s
    moving = progress.state in (JobState.IN_PROGRESS, STOPPING)
    return [
        (0, f"{progress.finished:,}/{progress.requests:,}"),
        (1, _note(progress)),
        (2, f"{progress.failed:,} failed" if progress.failed else ""),
        (6, f"{progress.rate:.1f}/s" if progress.rate and moving else ""),
        (4, f"{duration(left)} left" if left and moving and not progress.down else ""),
        (3, _spent(progress)),
        (5, f"up to {show(progress.booked)} more" if progress.booked else ""),
        (7, f"{progress.in_flight:,} in flight" if progress.in_flight and moving else ""),
        (8, f"{progress.refusals:,} refusals" if progress.refusals else ""),
    ]


def _note(progress: Progress) -> str:
    """Why nothing moves, if nothing does."""
    if progress.state == JobState.PAUSED:
        return safe(progress.reason_text)
    if progress.state != JobState.IN_PROGRESS:
        return ""
    if progress.workers == 0:
        return "waiting for a worker"
    if progress.down:
        return "endpoint down, trying again"
    if progress.booked and progress.finished == progress.requests:
        return "asking what the last calls cost"
    return ""


def _spent(progress: Progress) -> str:
    text = show(progress.spent)
    return text if progress.budget is None else f"{text} of {show(progress.budget)}"


def money(progress: Progress) -> str:
    """Spent, of how much, and how much more it may be."""
    text = _spent(progress)
    if progress.booked:
        text += f" (up to {show(progress.booked)} more uncertain)"
    return text


class Display:
    """Progress: a bar on a terminal, a line now and then otherwise."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._told = ("", "")
        self._stopping = ""
        lively = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = _Bar() if lively else None

    def show(self, progress: Progress) -> None:
        """Shows a moment."""
        if self._stopping:
            progress = replace(progress, state=self._stopping)
        if self._bar:
            self._bar.show(progress)
            return
        now, told = time.monotonic(), (progress.state, _note(progress))
        if now - self._last >= _PLAIN_EVERY_S or told != self._told:
            self._last, self._told = now, told
            say(f"{progress.state}: {sentence(progress)}")

    def stopping(self, why: str) -> None:
        """From now on the job is shown as being stopped."""
        self._stopping = STOPPING
        self.say(why)

    def say(self, text: str) -> None:
        """A line that does not tear the bar."""
        if self._bar:
            self._bar.say(text)
        else:
            say(text)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.close()


class LogLines(logging.Handler):
    """Hands what is logged to `tell`, one line each."""

    def __init__(self, tell: Say) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tells a record."""
        self._tell(f"  {safe(record.getMessage())}")


class _Bar:
    """rich's bar, loaded only where there is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
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
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._rich.add_task("", total=1, state="starting", text="")
        self._rich.start()

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        columns = self._console.width
        self._column.bar_width = _BAR if columns >= _WIDE else _NARROW_BAR
        self._rich.update(
            self._task,
            total=max(progress.requests, 1),
            completed=progress.finished,
            state=progress.state,
            text=sentence(progress, columns - len(progress.state) - self._column.bar_width - 2),
        )

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, overflow="fold")

    def close(self) -> None:
        """Removes the bar."""
        self._rich.stop()
