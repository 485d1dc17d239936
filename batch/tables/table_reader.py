"""What every kind of table gives: its form, and its rows in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.message import Message
from jobs.table_task import TableForm


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    `number` is the one that a spreadsheet shows beside it: a header is row 1. `cells` are in the
    order of the columns. `raw` is the row as it stands in the file, without its line end, where the
    file is text. `fault` says why it can't be used: a code and a sentence.
    """

    number: int
    cells: tuple[Any, ...]
    raw: str = ""
    fault: tuple[str, Message] | None = None


def as_text(cell: Any) -> str:
    """A cell as a person reads it; what has an inside is JSON."""
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, dict | list):
        return json.dumps(cell, ensure_ascii=False, default=as_text)
    return str(cell)


class Table(Protocol):
    """A table that was opened and looked at."""

    @property
    def form(self) -> TableForm:
        """How it is written."""

    def rows(self) -> Iterator[Row]:
        """Every row but the header, in order. `InvalidInput` where the file can't be read on."""
