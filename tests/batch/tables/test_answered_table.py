"""What is written of cells that are no text."""

from __future__ import annotations

import gc
import io
import json
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.tables import xlsx
from batch.tables.answered_table import Beside, write_answered
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.prompt import compile_prompt
from batch.tables.row_requests import Asker, requests_of
from jobs.errors import UsageError
from jobs.table_task import Kind, TableForm, Task

ASK = Task(prompt="{{ row }}", choices=("yes", "no"))
FOUND = Beside({"answer": "yes"}, "", "0.5", 1, "")
OURS = {"answer": "yes", "error": None, "cost_rub": "0.5", "attempts": 1, "flags": None}
MOMENT = datetime(2024, 1, 1, 12, tzinfo=UTC)


def opened(folder: Path, data: bytes, name: str) -> FileTable:
    path = folder / "copy"
    path.write_bytes(data)
    return open_table(path, name, TableForm())


def answered(table: FileTable, to: Kind | None = None) -> bytes:
    file = io.BytesIO()
    task = ASK.model_copy(update={"to": to})
    write_answered(file, table, task, ((row, FOUND) for row in table.rows()), 1.0)
    return file.getvalue()


def columns(parquet: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(io.BytesIO(parquet)).to_pydict()
    return found


def of_all_kinds(folder: Path) -> FileTable:
    cells = {
        "nested": {"a": "ё"},
        "list": [1, 2],
        "money": Decimal("1.50"),
        "moment": MOMENT,
        "old": date(1850, 1, 1),
        "span": timedelta(hours=-1),
        "bytes": "да".encode(),
        "nan": float("nan"),
    }
    data = io.BytesIO()
    pq.write_table(pa.table({name: [cell] for name, cell in cells.items()}), data)
    return opened(folder, data.getvalue(), "t.parquet")


def test_cells_with_an_inside_are_json_wherever_they_are_written(tmp_path: Path) -> None:
    table = of_all_kinds(tmp_path)

    book = openpyxl.load_workbook(io.BytesIO(answered(table, "xlsx")))
    of_book = [cell.value for cell in book.worksheets[0][2]][:7]
    assert of_book[:4] == ['{"a": "ё"}', "[1, 2]", "1.50", "2024-01-01 12:00:00+00:00"]
    assert of_book[4:] == ["1850-01-01", "-1 day, 23:00:00", "да"]
    assert '"{""a"": ""ё""}","[1, 2]",1.50' in answered(table, "csv").decode()
    record = json.loads(answered(table, "jsonl"), parse_constant=pytest.fail)
    assert record == {
        "nested": {"a": "ё"},
        "list": [1, 2],
        "money": "1.50",
        "old": "1850-01-01",
        "moment": "2024-01-01 12:00:00+00:00",
        "span": "-1 day, 23:00:00",
        "bytes": "да",
        "nan": "nan",
        **OURS,
    }
    records = opened(tmp_path, b'{"nested": {"a": [1]}}', "t.jsonl")
    assert columns(answered(records, "parquet"))["nested"] == ['{"a": [1]}']


def test_a_prompt_has_json_for_what_has_an_inside(tmp_path: Path) -> None:
    table = of_all_kinds(tmp_path)
    row = dict(zip(table.form.columns, next(table.rows()).cells, strict=True))

    assert (
        compile_prompt("{{ nested }} {{ bytes }}", table.form.columns, "")(row) == '{"a": "ё"} да'
    )
    whole = json.loads(compile_prompt("{{ row }}", table.form.columns, "")(row))
    assert (whole["money"], whole["moment"]) == ("1.50", str(MOMENT))


def test_a_record_stays_as_it_stands(tmp_path: Path) -> None:
    lines = ['{"id": 12345678901234567890123, "x": 1.10}', "{}", '{ "y":"ё" }']
    table = opened(tmp_path, "\n".join(lines).encode(), "t.jsonl")
    ours = json.dumps(OURS)[1:]

    assert answered(table).decode().splitlines() == [
        f"{lines[0][:-1]}, {ours}",
        f"{{{ours}",
        f'{{ "y":"ё", {ours}',
    ]


def test_what_stands_above_the_rows_stays_byte_for_byte(tmp_path: Path) -> None:
    table = opened(tmp_path, b'sep=;\r\n"id";"";id\r\n1;2;3\r\n', "t.csv")

    assert answered(table).decode() == (
        'sep=;\r\n"id";"";id;answer;error;cost_rub;attempts;flags\r\n1;2;3;yes;;0.5;1;\r\n'
    )


def test_a_line_for_excel_stays_where_there_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"sep=;\r\n1;2\r\n")
    table = open_table(path, "t.csv", TableForm(header=False))

    assert answered(table) == b"sep=;\r\n1;2;yes;;0.5;1;\r\n"


def test_no_row_of_another_kind_is_taken_for_a_record(tmp_path: Path) -> None:
    table = opened(tmp_path, b"a,b\n1,x {y}\n2,{}\n", "t.csv")
    told = [json.loads(line) for line in answered(table, "jsonl").splitlines()]
    assert told == [{"a": "1", "b": "x {y}", **OURS}, {"a": "2", "b": "{}", **OURS}]

    table = opened(tmp_path, b'{"a": 1}\n{"a": 1,}\n', "t.jsonl")
    told = [json.loads(line) for line in answered(table).splitlines()]
    assert told == [{"a": 1, **OURS}, {"a": '{"a": 1,}', **OURS}]


def test_bytes_that_are_no_text_keep_no_table_from_being_written(tmp_path: Path) -> None:
    table = opened(tmp_path, "а,б\nслово,ещё слово\n".encode() + b"x\xff,y\n", "t.csv")
    book = openpyxl.load_workbook(io.BytesIO(answered(table, "xlsx"))).worksheets[0]

    assert [cell.value for cell in book[3]][:2] == ["x\ufffd", "y"]
    assert columns(answered(table, "parquet"))["а"] == ["слово", "x\ufffd"]
    assert json.loads(answered(table, "jsonl").splitlines()[1])["а"] == "x\ufffd"


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("Лист: отзывы/2026 и ещё очень длинное", "Лист_ отзывы_2026 и ещё очень д"),
        ("x" * 30 + "'y", "x" * 30),
        ("😀" * 20, "😀" * 15),
        ("''", "Sheet1"),
    ],
)
def test_a_sheet_is_called_as_excel_bears_it(tmp_path: Path, name: str, called: str) -> None:
    table = opened(tmp_path, b"a\n1\n", "t.csv")
    named = FileTable(table.path, table.form.model_copy(update={"sheet": name}), table.name)

    assert openpyxl.load_workbook(io.BytesIO(answered(named, "xlsx"))).sheetnames == [called]


class Full(io.BytesIO):
    """A file on a disk that gets full."""

    def write(self, _data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_as_such_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(tmp_path, b"a\n1\n", "t.csv")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def interrupted() -> Any:
        yield next(table.rows()), FOUND
        raise KeyboardInterrupt

    task = ASK.model_copy(update={"to": "xlsx"})
    for file, rows, error in (
        (Full(), ((row, FOUND) for row in table.rows()), OSError),
        (io.BytesIO(), interrupted(), KeyboardInterrupt),
    ):
        with pytest.raises(error):
            write_answered(file, table, task, rows, 1.0)
        file.close()
        assert list(scratch.iterdir()) == []
    gc.collect()  # pytest tells what a destructor raises


def test_more_rows_than_a_sheet_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx, "MOST_ROWS", 3)
    cases: tuple[tuple[int, Kind], ...] = ((2, "xlsx"), (3, "csv"), (3, "xlsx"))
    for rows, to in cases:
        table = opened(tmp_path, b"a\n" + b"1\n" * rows, "t.csv")
        asker = Asker(Task(prompt="{{ a }}", form=table.form, to=to), "m", 20)
        if (rows, to) == (3, "xlsx"):
            with pytest.raises(UsageError, match="more than the 2 rows that a sheet of XLSX holds"):
                list(requests_of(asker, "m", 20, table))
        else:
            assert len(list(requests_of(asker, "m", 20, table))) == rows
