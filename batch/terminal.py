"""What a person reads: words on standard error, progress while a job runs."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import click

from batch.progress import Progress
from jobs.money import show
from jobs.request import Fault

_PLAIN_EVERY_S = 15.0
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


def say(text: str = "") -> None:
    """A line for the person, on standard error."""
    click.echo(text, err=True)


def safe(text: str) -> str:
    """Text from outside, with control and bidirectional characters made visible."""
    return text.translate(_UNSAFE)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(int(whole.total_seconds()), 3600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"


def say_faults(faults: list[Fault], total: int) -> None:
    """Each fault with its line, and how many more there are."""
    for fault in faults:
        where = "" if fault.offset is None else f", byte {fault.offset}"
        say(f"  line {fault.line}{where}: {safe(fault.message)}  [{fault.code}]")
    if total > len(faults):
        say(f"  … and {total - len(faults):,} more")


def sentence(progress: Progress) -> str:
    """One moment of a job in one line."""
    parts = [f"{progress.finished:,}/{progress.requests:,}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.rate:
        parts.append(f"{progress.rate:.1f}/s")
    if progress.left_s:
        parts.append(f"{duration(progress.left_s)} left")
    parts.append(money(progress))
    if progress.in_flight:
        parts.append(f"{progress.in_flight} in flight")
    if progress.refusals:
        parts.append(f"{progress.refusals:,} retried")
    return " · ".join(parts)


def money(progress: Progress) -> str:
    """Spent, of how much, and how much more it may be."""
    text = show(progress.spent)
    if progress.budget is not None:
        text += f" of {show(progress.budget)}"
    if progress.booked:
        text += f" (up to {show(progress.booked)} more uncertain)"
    return text


class Display:
    """Progress: a bar on a terminal, a line now and then otherwise."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._state = ""
        self._bar = _Bar() if sys.stderr.isatty() else None

    def show(self, progress: Progress) -> None:
        """Shows a moment."""
        if self._bar:
            self._bar.show(progress)
            return
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_S or progress.state != self._state:
            self._last, self._state = now, progress.state
            say(f"{progress.state}: {sentence(progress)}")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.close()


class _Bar:
    """rich's bar, loaded only where there is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Rich

        self._rich = Rich(
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._rich.add_task("", total=1, state="", text="")
        self._rich.start()

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        self._rich.update(
            self._task,
            total=max(progress.requests, 1),
            completed=progress.finished,
            state=progress.state,
            text=sentence(progress),
        )

    def close(self) -> None:
        """Removes the bar."""
        self._rich.stop()
