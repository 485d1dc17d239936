"""Workbooks as the world has them become rows."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter

from batch.tables import sheet_rows
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.table_reader import Row
from jobs.errors import InvalidInput, UsageError
from jobs.table_task import TableForm

CELLS: tuple[Any, ...] = (
    "0042",
    "1234567890123456789",
    3,
    2.5,
    0.15,
    True,
    date(2026, 2, 1),
    datetime(2026, 2, 1, 10, 30),  # noqa: DTZ001  a cell has no zone
    time(10, 30),
    timedelta(hours=30),
    "a\rb_x000D_",
    "x" * 32_767,
    "=not a formula",
)


def written(fill: Callable[[xlsxwriter.Workbook], None], **options: object) -> bytes:
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"strings_to_formulas": False, **options}) as book:
        fill(book)
    return data.getvalue()


def opened(folder: Path, data: bytes, name: str = "t.xlsx", **given: Any) -> FileTable:
    path = folder / "copy"
    path.write_bytes(data)
    return open_table(path, name, TableForm(**given))


def of_all_kinds(book: xlsxwriter.Workbook) -> None:
    sheet = book.add_worksheet("Отзывы")
    formats = {
        date: book.add_format({"num_format": "dd.mm.yyyy"}),
        datetime: book.add_format({"num_format": "dd.mm.yyyy hh:mm"}),
        time: book.add_format({"num_format": "hh:mm"}),
        timedelta: book.add_format({"num_format": "[h]:mm:ss"}),
    }
    sheet.write_row(0, 0, [f"c{place}" for place in range(len(CELLS))])
    for place, cell in enumerate(CELLS):
        sheet.write(1, place, cell, formats.get(type(cell)))
    sheet.set_row(3, 40)
    sheet.write_string(4, 0, "")
    sheet.write_string(5, 1, "last")


@pytest.mark.parametrize("constant_memory", [False, True])
def test_a_sheet_is_read_alike_streamed_and_held(tmp_path: Path, *, constant_memory: bool) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(written(of_all_kinds, constant_memory=constant_memory))

    read: list[list[Any]] = []
    for way in (sheet_rows.streamed, sheet_rows.held):
        with way(path, None, "t.xlsx") as sheet:
            read.append([sheet.name, *sheet.rows])

    assert read[0][2] == (2, CELLS)
    assert read[0][3] == (6, (None, "last"))
    name, header, first, last = read[1]
    assert [name, header, first, (last[0], last[1][:2])] == read[0]


def test_cells_come_back_as_they_were_put_on_disk(tmp_path: Path) -> None:
    table = opened(tmp_path, written(of_all_kinds))

    assert table.form.sheet == "Отзывы"
    assert [row.number for row in table.rows()] == [2, 6]
    for _ in range(2):
        assert next(table.rows()).cells == CELLS


def test_an_error_in_a_cell_is_seen_and_a_formula_without_value_is_empty(tmp_path: Path) -> None:
    book, data = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["a", "b", "c"])
    book.active.append(["#N/A", "=A1", "x"])
    book.active["A2"].data_type = "e"
    book.save(data)

    assert list(opened(tmp_path, data.getvalue()).rows()) == [Row(2, ("#N/A", None, "x"))]


def rewritten(data: bytes, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """The workbook with its parts changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as book, zipfile.ZipFile(made, "w") as other:
        for part in book.namelist():
            other.writestr(*change(part, book.read(part)))
    return made.getvalue()


def test_an_integer_beyond_64_bits_is_kept_whole(tmp_path: Path) -> None:
    digits = b"12345678901234567890123"
    data = rewritten(
        written(lambda book: book.add_worksheet().write_column(0, 0, ["id", 7])),
        lambda part, text: (part, text.replace(b"<v>7<", b"<v>%b<" % digits)),
    )

    assert next(opened(tmp_path, data).rows()).cells == (digits.decode(),)


@pytest.mark.parametrize("header", [1, 3])
def test_a_sheet_may_begin_anywhere(tmp_path: Path, header: int) -> None:
    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        for row, cells in ((header, ("отзыв", "оценка")), (header + 2, ("да", 5))):
            sheet.write_row(f"C{row}", cells)

    table = opened(tmp_path, written(fill))

    assert table.form.columns == ("column_1", "column_2", "отзыв", "оценка")
    assert list(table.rows()) == [Row(header + 2, (None, None, "да", 5))]


def test_a_column_without_header_is_not_lost(tmp_path: Path) -> None:
    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row("A1", ["id"])
        sheet.write_row("A2", [1])
        sheet.write_row("A3", [2, None, "to the right"])

    table = opened(tmp_path, written(fill))

    assert table.form.columns == ("id", "column_2", "column_3")
    assert [row.cells for row in table.rows()] == [(1, None, None), (2, None, "to the right")]


def test_the_first_sheet_that_is_shown_is_taken(tmp_path: Path) -> None:
    def fill(book: xlsxwriter.Workbook) -> None:
        hidden, shown = book.add_worksheet("Служебный"), book.add_worksheet("Отзывы")
        hidden.write_row("A1", ["x"])
        shown.write_row("A1", ["отзыв"])
        shown.activate()
        hidden.hide()

    data = written(fill)

    assert opened(tmp_path, data).form.sheet == "Отзывы"
    assert opened(tmp_path, data, sheet="Служебный").form.sheet == "Служебный"
    with pytest.raises(UsageError, match="no sheet 'Лист9'") as raised:
        opened(tmp_path, data, sheet="Лист9")
    assert "Служебный, Отзывы" in str(raised.value.hint)


def test_what_openpyxl_does_not_take_is_read_all_the_same(tmp_path: Path) -> None:
    # As 1C writes it: the part has a capital letter in the archive only.
    data = rewritten(
        written(of_all_kinds), lambda part, text: (part.replace("/shared", "/Shared"), text)
    )

    assert next(opened(tmp_path, data).rows()).cells == CELLS


def test_a_table_cut_off_is_told_by_its_own_name(tmp_path: Path) -> None:
    lines = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(1000)))
    with pytest.raises(InvalidInput, match=r"^mine\.jsonl\.gz is truncated"):
        opened(tmp_path, lines[: len(lines) // 2], "mine.jsonl.gz")


def test_a_sheet_cut_off_is_told(tmp_path: Path) -> None:
    data = written(of_all_kinds)
    with pytest.raises(InvalidInput, match=r"t\.xlsx cannot be read as XLSX"):
        opened(tmp_path, data[: len(data) // 2])


def test_strict_open_xml_is_read(tmp_path: Path) -> None:
    kinds = {
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main": (
            b"http://purl.oclc.org/ooxml/spreadsheetml/main"
        ),
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships": (
            b"http://purl.oclc.org/ooxml/officeDocument/relationships"
        ),
    }

    def change(part: str, text: bytes) -> tuple[str, bytes]:
        for usual, strict in kinds.items():
            text = text.replace(usual, strict)
        return part, text

    table = opened(tmp_path, rewritten(written(of_all_kinds), change))

    assert table.form.sheet == "Отзывы"
    assert next(table.rows()).cells[:5] == CELLS[:5]
