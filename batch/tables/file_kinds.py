"""A file becomes a table: which kind it is, and its form."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batch.reading.source import unpacked
from batch.tables import csv_tsv, jsonl, parquet, xlsx
from batch.tables.table_reader import Row
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_
from jobs.table_task import Kind, TableForm

_ENDINGS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""What ZIP begins with, and XLS or a workbook with a password."""

_PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class FileTable:
    """A table in a file; `name` is what to call it in a sentence.

    `written` is how a text table with the answers is to be written, as it was read by default.
    """

    path: Path
    form: TableForm
    name: str
    written: TableForm = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.written is None:
            object.__setattr__(self, "written", self.form)

    def top(self) -> str:
        """Of a text table what stands above its rows, without the last line end."""
        return csv_tsv.top(lambda: unpacked(self.path, self.name), self.form)

    def rows(self) -> Iterator[Row]:
        """See `batch.tables.table_reader.Table`."""
        if self.form.kind == "csv":
            return csv_tsv.rows(lambda: unpacked(self.path, self.name), self.form)
        if self.form.kind == "jsonl":
            return jsonl.rows(self.path, self.form, self.name)
        if self.form.kind == "xlsx":
            return xlsx.rows(self.path, self.form, self.name)
        return parquet.rows(self.path, self.name)


def kind_of(path: Path, name: str) -> Kind:
    """What a file is: by its first bytes, then by its name."""
    head = next(unpacked(path, name), b"")[:512]
    if head.startswith(_WORKBOOKS):
        return "xlsx"
    if head.startswith(b"PAR1"):
        return "parquet"
    _check_kind(head, name)
    named = ending(name)
    if named in ("xlsx", "parquet"):
        raise InvalidInput(
            N_("{name} does not contain {named} data", name=name, named=named.upper()),
            hint=N_("export it again"),
        )
    return named or ("jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv")


def _check_kind(head: bytes, name: str) -> None:
    """Refuses what people take for a table."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if Path(name).name.startswith("~$"):
        raise InvalidInput(
            N_("{name} is a lock file of Excel's, not the table", name=name),
            hint=N_("name the table: {table}", table=Path(name).name[2:]),
        )
    if start.startswith((b"<!doctype html", b"<html", b"<table", b"<?xml", b"<meta", b"<head")):
        raise InvalidInput(
            N_("{name} is a page (HTML or XML), not a table", name=name),
            hint=N_("open it in your spreadsheet and save it as XLSX or CSV"),
        )
    if start.startswith(b"[") and start[1:].lstrip().startswith(b"{"):
        raise InvalidInput(
            N_("{name} is one JSON array; a table needs one object a line", name=name),
            hint=N_(
                "jq -c '.[]' {table} > {lines}",
                table=shlex.quote(name),
                lines=shlex.quote(f"{Path(name).stem}.jsonl"),
            ),
        )


def ending(name: str) -> Kind | None:
    """The kind that a file's name tells."""
    bare = name.lower()
    for packed in _PACKED:
        bare = bare.removesuffix(packed)
    return _ENDINGS.get(Path(bare).suffix)


def open_table(path: Path, name: str, given: TableForm) -> FileTable:
    """Looks at the file of a table; what was set of `given` stands as it is.

    Raises `InvalidInput` for a file that is no table, `UsageError` for options that don't fit it.
    """
    told = frozenset(given.model_fields_set)
    if "kind" not in told:
        given = given.model_copy(update={"kind": kind_of(path, name)})
    if given.kind in ("xlsx", "parquet"):
        path = _plain(path, name)
    if "sheet" in told and given.kind != "xlsx":
        raise UsageError(
            N_("--sheet applies only to XLSX, which {name} is not", name=name),
            hint=N_("remove --sheet"),
        )
    if given.kind == "csv":
        form = csv_tsv.find_form(lambda: unpacked(path, name), given, name, told=told)
    elif given.kind == "jsonl":
        form = jsonl.find_form(path, given, name)
    elif given.kind == "xlsx":
        form = xlsx.take_in(path, given, name)
    else:
        form = parquet.find_form(path, given, name)
    return FileTable(path, form, name)


def _plain(path: Path, name: str) -> Path:
    """XLSX and Parquet are read in places, so they must not be packed once more."""
    with path.open("rb") as file:
        if file.read(4).startswith((*_WORKBOOKS, b"PAR1")):
            return path
    bare = path.with_name(f"{path.name}.plain")
    with bare.open("wb") as file:
        for chunk in unpacked(path, name):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    shutil.copymode(path, bare)
    bare.replace(path)
    return path
