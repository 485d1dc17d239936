"""What a person reads in a terminal: words that fit and do no harm."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, TextIO

import click

from batch.language import _, ngettext, number
from batch.reading.fault_groups import Group, Groups
from jobs.logs import UNSAFE, escaped, escaped_lines

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Say = Callable[[str], None]

PLAIN_EVERY_S = 15.0
"""How often progress is told where it cannot be shown in one place."""


class Manners:
    """How much is said, and how: set once, by the options of a command."""

    quiet = False
    """Only errors, and what needs somebody."""
    progress = True


def say(text: str = "") -> None:
    """A line for the person, on standard error; a terminal that is gone stops nothing."""
    if Manners.quiet:
        return
    with suppress(OSError):
        click.echo(_fitting(text, sys.stderr), err=True)


def tell(text: str, hang: int | None = None) -> None:
    """A line that was asked for, on standard output. `hang`: where it goes on in a next line."""
    click.echo(_fitting(text, sys.stdout, hang))


def tell_json(document: object, *, indent: int | None = None) -> None:
    """A document that was asked for, on standard output; what a terminal would obey, or what the
    encoding lacks, stands in it as JSON escapes it.
    """
    is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    click.echo(_in_json(json.dumps(document, ensure_ascii=not is_utf8, indent=indent)))


def output(encoding: str = "utf-8", *, as_json: bool = True) -> SupportsWrite[bytes]:
    """Standard output: bytes as they are, but on a terminal as text that it does not obey."""
    return _Screen(encoding, as_json=as_json) if sys.stdout.isatty() else sys.stdout.buffer


class _Screen:
    """A terminal that is shown a file in this encoding, or in the one that its beginning tells."""

    def __init__(self, encoding: str, *, as_json: bool) -> None:
        self._encoding, self._shown = encoding, _in_json if as_json else escaped_lines
        self._decoder: IncrementalNewlineDecoder | None = None

    def write(self, data: bytes) -> object:
        """Shows the next part."""
        if self._decoder is not None:
            return sys.stdout.write(self._shown(self._decoder.decode(data)))
        encoding = "utf-8" if data.startswith(codecs.BOM_UTF8) else self._encoding
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._decoder = IncrementalNewlineDecoder(decoder, translate=True)
        return sys.stdout.write(self._shown(self._decoder.decode(data).removeprefix("\ufeff")))


def _fitting(text: str, stream: TextIO, hang: int | None = None) -> str:
    return folded(text, width(stream), hang) if stream.isatty() else text


_WORD = re.compile(r" *(?:nightshift [a-z].*|[^ ]+(?: [₽%])?)")
"""A word and the blanks before it. An amount is one, and a command, so that it can be copied."""


def folded(text: str, columns: int, hang: int | None = None) -> str:
    """The text in lines that fit, broken between words; all but the first stand to the right.

    What is longer than a line stays whole, and where it is. Nothing but colours steers a terminal,
    even where whoever calls forgot that a text is from outside.
    """
    text = _COLOR_OR_ELSE.sub(lambda found: found["color"] or escaped_lines(found[0]), text)
    if cells(text) <= columns:
        return text
    lead = len(text) - len(text.lstrip(" "))
    blanks = " " * min(lead + 2 if hang is None else hang, columns // 2)
    lines, line = [], ""
    for word in _WORD.findall(text):
        moved = blanks + word.lstrip(" ")
        if line.strip() and cells(line + word) > columns >= cells(moved):
            lines.append(line)
            line = moved
        else:
            line += word
    return "\n".join([*lines, line])


_COLOR_OR_ELSE = re.compile(r"(?P<color>\x1b\[[0-9;]*m)|[^\x1b]+|\x1b")


def safe(text: str) -> str:
    r"""Text from outside on one line: what a terminal would obey is shown as `\x1b`, `\u202e`."""
    return escaped(text).replace("\t", " ")


def _in_json(text: str) -> str:
    """A text of JSON, meaning the same, without what a terminal would obey."""
    return UNSAFE.sub(_escape_of, text)


def _escape_of(found: re.Match[str]) -> str:
    if found[0] == "\n":
        return found[0]
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def cells(text: str) -> int:
    """Columns that a text takes: signs of Chinese and pictures take two, accents none."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def fitted(text: str, longest: int) -> str:
    """The text in no more columns than these; what is cut off is shown by an ellipsis."""
    from rich.cells import set_cell_size

    longest = max(longest, 1)
    return text if cells(text) <= longest else set_cell_size(text, longest - 1).rstrip() + "…"


def width(stream: TextIO) -> int:
    """Columns of the terminal behind a stream; 80 where there is none."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    with suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    return _USUAL


_USUAL = 80


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


def roughly(seconds: float | None) -> str:
    """A time in its largest unit: `45 s`, `12 min`, `3 h`, `2 d`; "" for None."""
    if seconds is None:
        return ""
    whole = max(round(seconds), 0)
    if whole < _MINUTE_S:
        return _("{seconds} s").format(seconds=whole)
    if whole < _HOUR_S:
        return _("{minutes} min").format(minutes=whole // _MINUTE_S)
    if whole < 2 * _DAY_S:
        return _("{hours} h").format(hours=whole // _HOUR_S)
    return _("{days} d").format(days=whole // _DAY_S)


_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@contextmanager
def counting_lines() -> Iterator[Callable[[int], None]]:
    """Tells how far a file is read: on a terminal in one place, else by a line now and then."""
    lively, last = is_lively(), time.monotonic()

    def show(count: int) -> None:
        nonlocal last
        text = "  " + ngettext("{count} line", "{count} lines", count).format(count=number(count))
        if lively:
            _write_over(text)
        elif time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            say(text)

    try:
        yield show
    finally:
        if lively:
            _write_over("")


def is_lively() -> bool:
    """Whether a person looks at standard error, on a terminal that can write over what stands."""
    return Manners.progress and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def keys_unseen() -> Iterator[None]:
    """What is typed meanwhile does not tear what is drawn: it waits for whoever reads next. Ctrl-C
    and its like work as ever.
    """
    try:
        # Not of a process in the background: it would be stopped.
        there = (
            sys.stdin and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        )
        before = termios.tcgetattr(sys.stdin) if there else None
        if before:
            quiet = [*before]
            quiet[3] &= ~termios.ECHO
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    except (OSError, ValueError, termios.error):
        before = None
    try:
        yield
    finally:
        with suppress(OSError, ValueError, termios.error):
            if before and _is_in_front():
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_in_front() -> bool:
    return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


def colored(text: str, color: str) -> str:
    """The text in a colour of the terminal's, where its stream is one; "" is no colour."""
    return click.style(text, fg=color) if color and "NO_COLOR" not in os.environ else text


def ring(title: str) -> None:
    """Tells who looks elsewhere that something is over: a bell, and the title of the window."""
    if is_lively():
        with suppress(OSError):
            click.echo(f"\a\x1b]0;{safe(title)}\x07", nl=False, err=True)


def _write_over(text: str) -> None:
    """Leaves the cursor where the line begins: whatever is said next stands in its place."""
    with suppress(OSError):
        click.echo(f"{text}\x1b[K\r", nl=False, err=True)


MOST_KINDS = 25
"""Kinds of faults that are told; with what stands around them, a report has 40 lines at most."""


def say_faults(groups: Groups, tell: Say = say) -> None:
    """Each kind of fault once, in the order of lines: how many, where, and what to do."""
    found = sorted(groups.found.values(), key=lambda group: group.lines[0])
    for group in found[:MOST_KINDS]:
        told = safe(_(group.first.message))
        tell(f"  {places(group)}: {told}  [{group.first.code}]")
    more = groups.others + sum(group.count for group in found[MOST_KINDS:])
    if more:
        tell("  " + _("… and {count} more").format(count=number(more)))


def places(group: Group) -> str:
    """`line 3, byte 12`; `740 lines (1, 2, 3, 4, 5, …)`."""
    first = group.first
    if group.count == 1:
        where = _("line {line}") if first.offset is None else _("line {line}, byte {byte}")
        return where.format(line=first.line, byte=first.offset)
    lines = ", ".join(map(number, group.lines)) + (", …" if group.count > len(group.lines) else "")
    told = ngettext("{count} line ({lines})", "{count} lines ({lines})", group.count)
    return told.format(count=number(group.count), lines=lines)
