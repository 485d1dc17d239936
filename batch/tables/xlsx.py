"""XLSX: its sheet becomes rows on disk when it is brought; written by XlsxWriter, row by row."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from batch.tables import row_spool
from batch.tables.csv_tsv import columns_of
from batch.tables.table_reader import Row
from jobs.errors import InvalidInput, NightshiftError
from jobs.message import N_
from jobs.table_task import TableForm

LONGEST_CELL = 32_767
"""Characters that Excel bears in a cell."""

MOST_ROWS = 1_048_576
"""Rows of a sheet, header included."""

_FORMATS: dict[type, str] = {
    datetime: "yyyy-mm-dd hh:mm:ss",
    date: "yyyy-mm-dd",
    time: "hh:mm:ss",
    timedelta: "[h]:mm:ss",
}


def take_in(path: Path, given: TableForm, name: str) -> TableForm:
    """Puts the rows of a workbook's sheet in its place; the form has the sheet and the columns.

    Raises `UsageError` for a sheet that isn't there, `InvalidInput` for what is no workbook.
    """
    from batch.tables import sheet_rows

    try:
        return _spooled(path, sheet_rows.streamed, given, name)
    except (NightshiftError, OSError):
        raise
    except Exception:  # openpyxl raises anything where a file leaves the standard
        return _spooled(path, sheet_rows.held, given, name)


def _spooled(path: Path, opened: Any, given: TableForm, name: str) -> TableForm:
    spooled = path.with_name(f"{path.name}.rows")
    with opened(path, given.sheet, name) as sheet, spooled.open("wb") as file:
        look = _Look()
        row_spool.write(file, map(look.see, sheet.rows))
        file.flush()
        os.fsync(file.fileno())
    form = given.model_copy(update={"sheet": sheet.name})
    if not look.width:
        raise InvalidInput(
            N_("{name}: the sheet {sheet!r} is empty", name=name, sheet=sheet.name),
            hint=N_("choose another: --sheet"),
        )
    shutil.copymode(path, spooled)
    spooled.replace(path)
    return form.model_copy(update={"columns": columns_of(look.header, form, name)})


class _Look:
    """The first row of a sheet, as wide as the widest."""

    def __init__(self) -> None:
        self._first: tuple[Any, ...] = ()
        self.width = 0

    def see(self, row: row_spool.Numbered) -> row_spool.Numbered:
        """Takes in a row."""
        self._first = self._first or row[1]
        self.width = max(self.width, len(row[1]))
        return row

    @property
    def header(self) -> tuple[Any, ...]:
        """Its cells."""
        return (*self._first, *(None,) * (self.width - len(self._first)))


def rows(path: Path, form: TableForm, name: str) -> Iterator[Row]:
    """Every row but the header; rows without any cell are none."""
    width = len(form.columns)
    for number, cells in islice(_read(path, form, name), int(form.header), None):
        yield Row(number, (*cells, *(None,) * (width - len(cells)))[:width])


def _read(path: Path, form: TableForm, name: str) -> Iterator[row_spool.Numbered]:
    if row_spool.is_one(path):
        yield from row_spool.read(path)
        return
    from batch.tables import sheet_rows

    with sheet_rows.held(path, form.sheet, name) as sheet:  # of a job of Nightshift 0.2
        yield from sheet.rows


class Writer:
    """A workbook with one sheet. No cell is taken for a formula, a link or a number in disguise."""

    def __init__(self, file: IO[bytes], title: str, made: datetime, after: ExitStack) -> None:
        """`made` stands in its properties: the same table makes the same bytes. What must be gone
        when it is written, or is not, is left to `after`.
        """
        import xlsxwriter

        sink = _Sink(file)
        after.callback(sink.end)
        self._book = xlsxwriter.Workbook(
            sink,
            {
                "constant_memory": True,
                "tmpdir": after.enter_context(TemporaryDirectory(prefix="nightshift-")),
                "use_zip64": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "nan_inf_to_errors": True,
            },
        )
        self._book.set_properties({"created": made})
        self._sheet = self._book.add_worksheet(_title(title))
        self._formats = {
            kind: self._book.add_format({"num_format": text}) for kind, text in _FORMATS.items()
        }
        self._bold = self._book.add_format({"bold": True})
        self._row = 0

    def header(self, names: tuple[str, ...]) -> None:
        """The names of the columns, which stay in sight."""
        for column, name in enumerate(names):
            self._sheet.write_string(0, column, name, self._bold)
        self._sheet.freeze_panes(1, 0)
        self._row = 1

    def write(self, cells: tuple[Any, ...]) -> None:
        """A row."""
        for column, cell in enumerate(cells):
            if cell is not None:
                self._write(column, cell)
        self._row += 1

    def _write(self, column: int, cell: Any) -> None:
        if isinstance(cell, bool):
            self._sheet.write_boolean(self._row, column, cell)
        elif isinstance(cell, int | float) and abs(cell) < 10**15:
            self._sheet.write_number(self._row, column, cell)
        elif type(cell) in self._formats and _is_of_excel(cell):
            self._sheet.write_datetime(self._row, column, cell, self._formats[type(cell)])
        else:
            text = str(cell)
            cut = text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
            self._sheet.write_string(self._row, column, cut)

    def close(self) -> None:
        """Writes the file."""
        from xlsxwriter.exceptions import FileCreateError

        try:
            self._book.close()
        except FileCreateError as error:
            raise error.args[0] from None  # the system's own


class _Sink:
    """The file, until `end`: ZipFile writes once more when it is thrown away."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._place, self._ended = file, 0, False

    def end(self) -> None:
        """What is written from now on goes nowhere."""
        self._ended = True

    def write(self, data: bytes) -> int:
        """See `io`."""
        self._place += len(data)
        return len(data) if self._ended else self._file.write(data)

    def seek(self, place: int, whence: int = 0) -> int:
        """See `io`."""
        self._place = place if self._ended else self._file.seek(place, whence)
        return self._place

    def tell(self) -> int:
        """See `io`."""
        return self._place if self._ended else self._file.tell()

    def flush(self) -> None:
        """See `io`."""
        if not self._ended:
            self._file.flush()


_UNFIT = re.compile(r"[\[\]:*?/\\\x00-\x1f]")
"""What no sheet of Excel's may be called; those of others may."""


def _title(name: str) -> str | None:
    """A name that Excel bears; None: it finds one."""
    fit = _UNFIT.sub("_", name).encode("utf-16-le")[:62].decode("utf-16-le", "ignore")
    return fit.strip("'") or None


def _is_of_excel(cell: Any) -> bool:
    """Whether Excel knows such a moment: from 1900 on, and without a zone."""
    if isinstance(cell, timedelta):
        return cell >= timedelta(0)
    return getattr(cell, "tzinfo", None) is None and getattr(cell, "year", 1900) >= 1900
