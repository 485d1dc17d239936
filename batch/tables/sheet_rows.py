"""A sheet of a workbook, read row by row.

XLSX is streamed by openpyxl, its shared strings over a file: Excel numbers them in the order in
which cells use them, so they are read as the rows are. What openpyxl doesn't take (XLS, XLSB, ODS,
and XLSX that breaks the standard in a part no table needs) is read by calamine, which holds it.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from openpyxl.cell.text import Text
from openpyxl.reader.excel import ExcelReader
from openpyxl.utils.escape import unescape
from openpyxl.worksheet._reader import ROW_TAG, WorkSheetParser
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

from batch.tables.json_repairs import whole
from batch.tables.row_spool import Numbered
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_

_TEXT_TAG = f"{{{SHEET_MAIN_NS}}}si"
_TABLE_TAG = f"{{{SHEET_MAIN_NS}}}sst"
_DATA_TAG = f"{{{SHEET_MAIN_NS}}}sheetData"
_MOST = 2**63


class Sheet(NamedTuple):
    """A sheet: its name, and its rows that have a cell."""

    name: str
    rows: Iterator[Numbered]


@contextmanager
def streamed(path: Path, wanted: str | None, name: str) -> Iterator[Sheet]:
    """The sheet of an XLSX file; raises whatever openpyxl does of one that it doesn't take."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formatting that it leaves out
        with TemporaryFile(dir=path.parent, buffering=0) as kept:
            reader = _Reader(file, kept)
            reader.read()
            book = reader.wb
            if not book.sheetnames:
                raise ValueError("no sheets")  # strict Open XML, which calamine reads
            shown = [each.title for each in book.worksheets if each.sheet_state == "visible"]
            title = chosen(wanted, book.sheetnames, shown, name)
            yield Sheet(title, _filled(_streamed(reader, title)))


@contextmanager
def held(path: Path, wanted: str | None, name: str) -> Iterator[Sheet]:
    """The sheet of any workbook, which is in memory meanwhile."""
    from python_calamine import (
        CalamineError,
        CalamineWorkbook,
        PasswordError,
        SheetTypeEnum,
        SheetVisibleEnum,
    )

    try:
        book = CalamineWorkbook.from_path(str(path))
        sheets = [each for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
        shown = [each.name for each in sheets if each.visible == SheetVisibleEnum.Visible]
        title = chosen(wanted, [each.name for each in sheets], shown, name)
        sheet = book.get_sheet_by_name(title)
    except PasswordError:
        raise InvalidInput(
            N_("{name} is protected by a password", name=name),
            hint=N_("save it without a password"),
        ) from None
    except (CalamineError, OSError) as error:
        raise InvalidInput(
            N_("{name} cannot be read as XLSX: {why}", name=name, why=error),
            hint=N_("save it again, or as CSV"),
        ) from None
    # From the sheet's first row and column on: numbers are then those that Excel shows.
    left = (None,) * (sheet.start[1] if sheet.start else 0)
    rows = ((*left, *map(_value, cells)) for cells in sheet.iter_rows())
    yield Sheet(title, _filled(enumerate(rows, start=1)))


def chosen(wanted: str | None, names: list[str], shown: list[str], name: str) -> str:
    """The sheet that is wanted; else the first that a person sees."""
    if wanted in names or (wanted is None and names):
        return wanted or (shown or names)[0]
    raise UsageError(
        N_("{name} has no sheet {wanted!r}", name=name, wanted=wanted or ""),
        hint=N_("available sheets: {names}", names=", ".join(names)),
    )


def _filled(rows: Iterator[Numbered]) -> Iterator[Numbered]:
    return ((number, cells) for number, cells in rows if any(cell is not None for cell in cells))


class _Reader(ExcelReader):  # type: ignore[misc]  # untyped
    """openpyxl's, with the strings in a file."""

    def __init__(self, file: IO[bytes], kept: IO[bytes]) -> None:
        super().__init__(file, read_only=True, data_only=True, keep_links=False)
        self._kept = kept

    def read_strings(self) -> None:
        """Opens them."""
        part = self.package.find(SHARED_STRINGS)
        if part is not None:
            self.shared_strings = _Strings(self.archive.open(part.PartName[1:]), self._kept)


class _Strings:
    """The shared strings, by their number: each is read and kept when it is first asked for."""

    def __init__(self, source: IO[bytes], kept: IO[bytes]) -> None:
        self._texts, self._kept = _texts(source), kept
        self._places = array("Q", [0])

    def __getitem__(self, number: int) -> str:
        while number >= len(self._places) - 1:
            self._keep(next(self._texts, None))
        start, stop = self._places[number : number + 2]
        return os.pread(self._kept.fileno(), stop - start, start).decode()

    def _keep(self, text: str | None) -> None:
        if text is None:
            raise IndexError
        self._places.append(self._places[-1] + self._kept.write(text.encode()))


def _texts(source: IO[bytes]) -> Iterator[str]:
    for element in _children(source, _TABLE_TAG, _TEXT_TAG):
        yield Text.from_tree(element).content


def _children(source: IO[bytes], parent: str, tag: str) -> Iterator[Any]:
    """The elements within another, each forgotten once it was seen."""
    around: Any = None
    for event, element in iterparse(source, ("start", "end")):
        if event == "start":
            around = element if element.tag == parent else around
        elif element.tag == tag:
            yield element
            around.clear()


def _streamed(reader: _Reader, title: str) -> Iterator[Numbered]:
    """The rows of a sheet, each forgotten once it was read."""
    place = next(found.target for each, found in reader.parser.find_sheets() if each.name == title)
    with reader.archive.open(place) as source:
        parser = WorkSheetParser(
            source,
            reader.shared_strings,
            data_only=True,
            epoch=reader.wb.epoch,
            date_formats=reader.wb._date_formats,  # noqa: SLF001
            timedelta_formats=reader.wb._timedelta_formats,  # noqa: SLF001
        )
        for element in _children(source, _DATA_TAG, ROW_TAG):
            number, cells = parser.parse_row(element)
            parser.row_dimensions.clear()
            yield number, _row(cells)


def _row(cells: list[dict[str, Any]]) -> tuple[Any, ...]:
    values = {cell["column"]: _read(cell["value"]) for cell in cells}
    return tuple(values.get(column) for column in range(1, max(values, default=0) + 1))


def _read(cell: Any) -> Any:
    if isinstance(cell, str):
        return _unescaped(cell) or None
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date()
    return str(cell) if type(cell) is int and abs(cell) >= _MOST else _value(cell)


def _unescaped(text: str) -> str:
    """Without the codes in which XLSX has what XML can't."""
    return whole(unescape(text)) if "_x" in text else text


def _value(cell: Any) -> Any:
    """As a person reads it: 3.0 is 3, and an empty cell is none."""
    if cell == "":
        return None
    return (
        int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell
    )
