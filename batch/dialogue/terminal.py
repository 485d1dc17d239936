"""What a person reads: words on standard error, progress while a job runs."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import click

from batch.language import _, again, decimal, moment, money, ngettext, number
from batch.watching.progress import Progress
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
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
        0x61C,
        0xFEFF,
        *range(0xE0000, 0xE0080),
    ],
    "�",
)

Say = Callable[[str], None]


def say(text: str = "") -> None:
    """A line for the person, on standard error; a terminal that is gone stops nothing."""
    with suppress(OSError):
        click.echo(text, err=True)


def safe(text: str) -> str:
    """Text from outside: control and bidirectional characters made visible, half ones replaced."""
    return text.translate(_UNSAFE).encode("utf-8", "replace").decode()


def cells(text: str) -> int:
    """Columns that a text takes: signs of Chinese and pictures take two, accents none."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def fitted(text: str, longest: int) -> str:
    """The text in no more columns than these; what is cut off is shown by an ellipsis."""
    from rich.cells import set_cell_size

    longest = max(longest, 1)
    return text if cells(text) <= longest else set_cell_size(text, longest - 1).rstrip() + "…"


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def duration(seconds: float) -> str:
    """`45 s`, `12 min 5 s`, `3 h 20 min`."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(int(whole.total_seconds()), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
    if minutes:
        return _("{minutes} min {seconds} s").format(minutes=minutes, seconds=rest)
    return _("{seconds} s").format(seconds=rest)


def say_lines(count: int) -> None:
    """How far a long file is read."""
    say("  " + ngettext("{count} line", "{count} lines", count).format(count=number(count)))


def say_faults(faults: Iterable[Fault], total: int, tell: Say = say) -> None:
    """Each fault with its line, in the order of lines, and how many more there are."""
    told = 0
    for told, fault in enumerate(sorted(faults, key=lambda each: each.line), start=1):  # noqa: B007
        where = _("line {line}") if fault.offset is None else _("line {line}, byte {byte}")
        place = where.format(line=fault.line, byte=fault.offset)
        tell(f"  {place}: {safe(again(fault.message))}  [{fault.code}]")
    if total > told:
        tell("  " + _("… and {count} more").format(count=number(total - told)))


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
    soon = left if left and moving and not progress.down else None
    rate = decimal(progress.rate, 1) if progress.rate and moving else ""
    return [
        (0, f"{number(progress.finished)}/{number(progress.requests)}"),
        (1, _note(progress)),
        (2, failed(progress.failed) if progress.failed else ""),
        (6, _("{rate}/s").format(rate=rate) if rate else ""),
        (4, _("{time} left").format(time=duration(soon)) if soon else ""),
        (4, _done_at(progress)),
        (3, _spent(progress)),
        (5, _("up to {rub} more").format(rub=money(progress.booked)) if progress.booked else ""),
        (5, _in_flight(progress.in_flight) if progress.in_flight and moving else ""),
        (7, _in_all(progress)),
        (8, _refusals(progress.refusals) if progress.refusals else ""),
    ]


def failed(count: int) -> str:
    """`3 failed`."""
    return ngettext("{count} failed", "{count} failed", count).format(count=number(count))


def _in_flight(count: int) -> str:
    return ngettext("{count} in flight", "{count} in flight", count).format(count=number(count))


def _refusals(count: int) -> str:
    return ngettext("{count} refusal", "{count} refusals", count).format(count=number(count))


_SOON_S = 600.0
"""What ends sooner is told by its length alone."""


def _done_at(progress: Progress) -> str:
    """By the clock, when the job will be done."""
    if progress.done_at is None or progress.down:
        return ""
    when = datetime.fromtimestamp(progress.done_at).astimezone()
    if progress.late:
        return _("not before the deadline; it would be {moment}").format(moment=moment(when))
    left = progress.done_at - time.time()
    if left < _SOON_S:
        return ""
    if left < _DAY_S:
        return _("done about {clock}").format(clock=f"{when:%H:%M}")
    return _("done about {clock}").format(clock=moment(when))


_DAY_S = 20 * 3600.0


def _in_all(progress: Progress) -> str:
    if progress.forecast is None or progress.state not in _GOING:
        return ""
    return _("likely {rub} in all").format(rub=money(progress.forecast))


_GOING = (JobState.IN_PROGRESS, JobState.PAUSED)


def state_word(state: str) -> str:
    """A job's state in the reader's language."""
    return {
        "validating": _("validating"),
        "in_progress": _("in_progress"),
        "paused": _("paused"),
        "finalizing": _("finalizing"),
        "completed": _("completed"),
        "cancelling": _("cancelling"),
        "cancelled": _("cancelled"),
        "failed": _("refused"),
        "expired": _("expired"),
        STOPPING: _("stopping"),
    }.get(state, state)


def reason_word(reason: str) -> str:
    """Why a job is paused, in the reader's language."""
    return {
        "budget_exhausted": _("budget_exhausted"),
        "insufficient_balance": _("insufficient_balance"),
        "key_rejected": _("key_rejected"),
        "endpoint_down": _("endpoint_down"),
        "window_closed": _("window_closed"),
        "price_rise": _("price_rise"),
        "sampled": _("sampled"),
        "deadline": _("deadline"),
        "misconfigured": _("misconfigured"),
        "user": _("user"),
    }.get(reason, reason)


def _note(progress: Progress) -> str:
    """Why nothing moves, if nothing does."""
    if progress.state == JobState.PAUSED:
        return safe(again(progress.reason_text))
    if progress.state != JobState.IN_PROGRESS:
        return ""
    if progress.workers == 0:
        return _("waiting for a worker")
    if progress.down:
        return _("endpoint down, trying again")
    if progress.booked and progress.finished == progress.requests:
        return _("asking what the last calls cost")
    return ""


def _spent(progress: Progress) -> str:
    spent = money(progress.spent)
    if progress.budget is None:
        return spent
    return _("{spent} of {budget}").format(spent=spent, budget=money(progress.budget))


def spending(progress: Progress) -> str:
    """Spent, of how much, and how much more it may be."""
    text = _spent(progress)
    if progress.booked:
        more = _("up to {rub} more uncertain").format(rub=money(progress.booked))
        text += f" ({more})"
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
            with suppress(OSError):
                self._bar.show(progress)
            return
        now, told = time.monotonic(), (progress.state, _note(progress))
        if now - self._last >= _PLAIN_EVERY_S or told != self._told:
            self._last, self._told = now, told
            say(f"{state_word(progress.state)}: {sentence(progress)}")

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


class LogLines(logging.Handler):
    """Hands what is logged to `tell`, one line each."""

    def __init__(self, tell: Say) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tells a record."""
        text = _(str(record.msg))
        if isinstance(record.args, tuple):
            text %= tuple(again(one) if isinstance(one, str) else one for one in record.args)
        self._tell(f"  {safe(text)}")


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
        self._task = self._rich.add_task("", total=1, state=_("starting"), text="")
        self._rich.start()

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        columns = self._console.width
        self._column.bar_width = _BAR if columns >= _WIDE else _NARROW_BAR
        state = state_word(progress.state)
        self._rich.update(
            self._task,
            total=max(progress.requests, 1),
            completed=progress.finished,
            state=state,
            text=sentence(progress, columns - cells(state) - self._column.bar_width - 2),
        )

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, overflow="fold")

    def close(self) -> None:
        """Removes the bar."""
        self._rich.stop()
