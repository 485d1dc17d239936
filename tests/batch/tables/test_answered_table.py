"""What is written of cells that are no text."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.tables.answered_table import Beside, write_answered
from batch.tables.file_kinds import FileTable, open_table
from batch.tables.prompt import compile_prompt
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
