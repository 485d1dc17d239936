"""Tables as text: forms that are found, rows that stay as they are, and what is wrong with them."""

import csv
import io
from pathlib import Path

import pytest

from batch.tables.file_kinds import FileTable, open_table
from batch.tables.table_reader import Row
from jobs.errors import InvalidInput, UsageError
from jobs.message import Message
from jobs.table_task import TableForm

ROWS = [
    ["1", "Отличный отзыв, всё понравилось; советую", "5"],
    ["2", 'Сказали "да",\nа сделали «нет»', "1"],
    ["3", "", "3"],
    ["4", "  Доставка в срок  ", "4"],
] * 6


def opened(folder: Path, data: bytes, name: str = "reviews.csv", **given: object) -> FileTable:
    path = folder / "input.table"
    path.write_bytes(data)
    return open_table(path, name, TableForm(**given))  # type: ignore[arg-type]


def written(delimiter: str = ",", newline: str = "\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["№", "отзыв", "оценка"])
    writer.writerows(ROWS)
    return text.getvalue()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1251", "cp866", "koi8-r"],
)
def test_a_table_is_read_in_whatever_form_it_is_written(
    tmp_path: Path, encoding: str, delimiter: str, newline: str
) -> None:
    text = written(delimiter, newline).replace("№", "n").replace("«", '""').replace("»", '""')
    table = opened(tmp_path, text.encode(encoding))

    assert table.form.columns == ("n", "отзыв", "оценка")
    assert (table.form.delimiter, table.form.newline) == (delimiter, newline)
    rows = list(table.rows())
    assert [row.cells[0] for row in rows] == [row[0] for row in ROWS]
    assert rows[3].cells[1] == "  Доставка в срок  "
    assert newline.join((text.split(newline)[0], *(row.raw for row in rows))) + newline == text


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    table = opened(tmp_path, b'a,b\n1,"x\ny"\n\n2,z\n')

    assert [(row.number, row.cells) for row in table.rows()] == [
        (2, ("1", "x\ny")),
        (3, ("2", "z")),
    ]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"a,b\n1,2\n3\n", "input.columns", "row 3 has 1 columns, but the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "input.columns", "row 3 has 3 columns, but the header has 2"),
        (b'a,b\n1,2\n3,"open\nand on\n', "input.quotes", "row 3: a quote opens here and is never"),
        (b'a,b\n1,2\n3,"x" y\n', "input.quotes", "row 3: text follows a closing quote"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_its_number(
    tmp_path: Path, data: bytes, code: str, words: str
) -> None:
    *good, bad = opened(tmp_path, data, delimiter=",").rows()

    assert [row.fault for row in good] == [None]
    assert bad.fault is not None
    assert bad.fault[0] == code
    assert words in bad.fault[1]


def test_bytes_that_are_no_text_are_told_with_their_place_and_kept(tmp_path: Path) -> None:
    data = "a;b\n1;да\n2;".encode("cp1251") + b"\x98\n" + "3;нет\n".encode("cp1251")
    table = opened(tmp_path, data, encoding="cp1251", delimiter=";")

    first, wrong, last = table.rows()
    assert first.fault is None
    assert last.cells == ("3", "нет")
    assert wrong.fault == (
        "input.encoding",
        "row 3: character 3 (byte 0x98) is not valid in this encoding",
    )
    assert wrong.raw.encode("cp1251", "surrogateescape") == b"2;\x98"


def test_a_quote_that_never_closes_does_not_swallow_the_memory(tmp_path: Path) -> None:
    data = b'a,b\n1,2\n3,"' + b"x" * 70 + b"\n" + b"4,5\n" * 3_000_000
    *_, last = opened(tmp_path, data, delimiter=",").rows()

    assert last == Row(
        3, (), last.raw, ("input.quotes", Message("row 3: a quote opens here and is never closed"))
    )


def test_a_table_without_header_gets_names(tmp_path: Path) -> None:
    table = opened(tmp_path, b"1;x\n2;y\n", header=False, delimiter=";")

    assert table.form.columns == ("column_1", "column_2")
    assert len(list(table.rows())) == 2


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"", "t.csv", "empty"),
        (b"\n\n", "t.csv", "empty"),
        (b"\x05user" + b" " * 100, "~$t.xlsx", "lock file of Excel's"),
        (b"<html><table>", "t.xls", "is a page"),
        (b'[{"a": 1}]', "t.json", "one JSON array"),
        (b"a\0b\0" * 10 + b"\x01\x02\x03" * 400, "t.csv", "it is not text"),
        (b"PK\x03\x04 and nothing else", "t.xlsx", "cannot be read as XLSX"),
        (b"a,b\n1,2\n", "t.xlsx", "does not contain XLSX data"),
        (b"\xd0\xcf\x11\xe0" * 200, "t.xls", "cannot be read as XLSX"),
        (b"PAR1" + b"x" * 100, "t.parquet", "cannot be read as Parquet"),
        (b"[1]\n[2]\n", "t.jsonl", "contains no records"),
    ],
)
def test_what_is_no_table_is_told_by_name(
    tmp_path: Path, data: bytes, name: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        opened(tmp_path, data, name)


def test_an_encoding_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="klingon"):
        opened(tmp_path, b"a,b\n", encoding="klingon")


def test_records_of_json_lines_are_rows(tmp_path: Path) -> None:
    data = '{"id": 1, "text": "да"}\n\n{"text": "нет", "extra": [1]}\nnot json\n'.encode()
    table = opened(tmp_path, data, "t.jsonl")

    assert table.form.columns == ("id", "text", "extra")
    first, second, wrong = table.rows()
    assert first == Row(1, (1, "да", None), '{"id": 1, "text": "да"}')
    assert second == Row(3, (None, "нет", [1]), '{"text": "нет", "extra": [1]}')
    assert wrong.fault == ("input.json", "line 4 is not one JSON object")


def test_a_line_for_excel_tells_the_delimiter_and_is_no_row(tmp_path: Path) -> None:
    table = opened(tmp_path, b"sep=;\r\nid;review\r\n1;good, nice\r\n")

    assert table.form.columns == ("id", "review")
    assert list(table.rows()) == [Row(2, ("1", "good, nice"), "1;good, nice")]
    assert table.top() == "sep=;\r\nid;review"


def test_a_mark_amid_a_file_is_of_no_cell(tmp_path: Path) -> None:
    table = opened(tmp_path, 'id,review\n\ufeff"1",a\n'.encode())

    assert list(table.rows()) == [Row(2, ("1", "a"), '\ufeff"1",a')]


def test_columns_of_one_name_are_numbered(tmp_path: Path) -> None:
    table = opened(tmp_path, b"a,a_2,a,,a\n1,2,3,4,5\n")

    assert table.form.columns == ("a", "a_2", "a_3", "column_4", "a_4")
    assert table.top() == "a,a_2,a,,a"


@pytest.mark.parametrize(
    ("data", "cells"),
    [
        (b"review\ngood, really\nbad\n", ["good, really", "bad"]),
        (b'review\n"good, really"\nbad\n', ["good, really", "bad"]),
        (b"review\ngood\n", ["good"]),
    ],
)
def test_a_comma_in_a_table_of_one_column_is_of_the_text(
    tmp_path: Path, data: bytes, cells: list[str]
) -> None:
    assert [row.cells for row in opened(tmp_path, data).rows()] == [(cell,) for cell in cells]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"x\0y", "row 2: character 4 (byte 0x00) is not valid in this encoding"),
        (b"\xff", "row 2: character 3 (byte 0xff) is not valid in this encoding"),
        (b"x\ry", "row 2: a line break stands in a cell without quotes"),
    ],
)
def test_a_few_wrong_bytes_are_told_with_their_row(
    tmp_path: Path, wrong: bytes, words: str
) -> None:
    data = "id,отзыв\n1,".encode() + wrong + "\n2,всё хорошо\n".encode()
    first, second = opened(tmp_path, data).rows()

    assert first.fault is not None
    assert first.fault[1] == words
    assert second.cells == ("2", "всё хорошо")
