"""The formats of a job's file, and the way from each to the next.

`NN-name.sql` makes format NN of the one before, the first of them of an empty file. To change the
format, add the next number: a step that has landed is never changed. A step that some files have
behind them though their number is lower says `-- unless TABLE.COLUMN`.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

_UNLESS = re.compile(r"^-- unless (\w+)\.(\w+)", re.MULTILINE)


@cache
def steps() -> dict[int, str]:
    """SQL by the format that it makes, in order."""
    files = (each for each in resources.files(__name__).iterdir() if each.name.endswith(".sql"))
    return {int(file.name[:2]): file.read_text("utf-8") for file in sorted(files, key=_name)}


def _name(file: Traversable) -> str:
    return file.name


def latest() -> int:
    """The format that this version of Nightshift writes."""
    return max(steps())


def format_of(connection: sqlite3.Connection) -> int:
    """That of a file; 0 where it is empty."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def is_known(number: int) -> bool:
    """Whether a file of this format can be read here, as it is or carried over."""
    return number in steps()


def migrate(connection: sqlite3.Connection) -> None:
    """Carries a file over to the latest format: all the way, or not at all.

    Two that come at a time do it one after the other: the second finds it done.
    """
    while (found := format_of(connection)) != latest():
        later = [text for number, text in steps().items() if number > found]
        todo = [text for text in later if not _is_done(connection, text)]
        script = f"BEGIN IMMEDIATE; {' '.join(todo)} PRAGMA user_version = {latest()}; COMMIT;"
        try:
            connection.executescript(script)
        except sqlite3.OperationalError:
            with suppress(sqlite3.OperationalError):
                connection.execute("ROLLBACK")
            if format_of(connection) == found:
                raise


def _is_done(connection: sqlite3.Connection, step: str) -> bool:
    unless = _UNLESS.search(step)
    if unless is None:
        return False
    table, column = unless.groups()
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))
