"""What a person reads in a terminal: words on standard error, that fit and do no harm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

import click

from batch.language import _, again, ngettext, number
from jobs.request import Fault

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
