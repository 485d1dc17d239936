"""XLSX: read by calamine (Rust, the fastest there is), written by XlsxWriter in constant memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batch.tables.table import Row
from batch.tables.text import columns_of
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_
from jobs.task import TableForm

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

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


def find_form(path: Path, given: TableForm, name: str) -> TableForm:
    """The sheet and the columns. Raises `UsageError` for a sheet that isn't there."""
    sheet = _sheet(path, given.sheet, name)
    form = given.model_copy(update={"sheet": sheet.name})
    _, header = next(_filled(sheet), (0, ()))
    if not header:
        raise InvalidInput(
            N_("{name}: the sheet {sheet!r} is empty", name=name, sheet=sheet.name),
            hint=N_("choose another: --sheet"),
        )
    return form.model_copy(update={"columns": columns_of(header, form, name)})


def rows(path: Path, form: TableForm, name: str) -> Iterator[Row]:
    """Every row but the header; rows without any cell are none."""
    width = len(form.columns)
    for number, cells in islice(_filled(_sheet(path, form.sheet, name)), int(form.header), None):
        yield Row(number, (*cells, *(None,) * (width - len(cells)))[:width])


def _sheet(path: Path, wanted: str | None, name: str) -> CalamineSheet:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_path(str(path))
        names = book.sheet_names
        if wanted is not None and wanted not in names:
            raise UsageError(
                N_("{name} has no sheet {wanted!r}", name=name, wanted=wanted),
                hint=N_("available sheets: {names}", names=", ".join(names)),
            )
        return book.get_sheet_by_name(wanted or names[0])
    except PasswordError:
        raise InvalidInput(
            N_("{name} is protected by a password", name=name),
            hint=N_("save it without a password"),
        ) from None
    except (CalamineError, zipfile.BadZipFile, OSError) as error:
        raise InvalidInput(
            N_("{name} cannot be read as XLSX: {why}", name=name, why=error),
            hint=N_("save it again, or as CSV"),
        ) from None


def _filled(sheet: CalamineSheet) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows that have a cell, each with the number that Excel shows."""
    for number, cells in enumerate(_cells(sheet), start=1):
        if any(cell is not None for cell in cells):
            yield number, cells


def _cells(sheet: CalamineSheet) -> Iterator[tuple[Any, ...]]:
    # From the sheet's first row and column on: numbers are then those that Excel shows. Calamine
    # holds the sheet; row by row it is not held as Python's objects too.
    left = (None,) * (sheet.start[1] if sheet.start else 0)
    for cells in sheet.iter_rows():
        yield (*left, *map(_value, cells))


def _value(cell: Any) -> Any:
    """As a person reads it: 3.0 is 3, and an empty cell is none."""
    if cell == "":
        return None
    return (
        int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell
    )


class Writer:
    """A workbook with one sheet. No cell is taken for a formula, a link or a number in disguise."""

    def __init__(self, file: IO[bytes], title: str, made: datetime) -> None:
        """`made` stands in its properties: the same table makes the same bytes."""
        import xlsxwriter

        self._book = xlsxwriter.Workbook(
            file,
            {
                "constant_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "nan_inf_to_errors": True,
            },
        )
        self._book.set_properties({"created": made})
        self._sheet = self._book.add_worksheet(title[:31] or None)
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
        elif type(cell) in self._formats:
            self._sheet.write_datetime(self._row, column, cell, self._formats[type(cell)])
        else:
            text = str(cell)
            cut = text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
            self._sheet.write_string(self._row, column, cut)

    def close(self) -> None:
        """Writes the file."""
        self._book.close()
