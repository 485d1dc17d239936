"""A file becomes a table: which kind it is, and its form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batch.reading.source import unpacked
from batch.tables import csv_tsv, jsonl, parquet, xlsx
from batch.tables.table import Row
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

    def rows(self) -> Iterator[Row]:
        """See `batch.tables.table.Table`."""
        if self.form.kind == "csv":
            return csv_tsv.rows(lambda: unpacked(self.path, self.name), self.form)
        if self.form.kind == "jsonl":
            return jsonl.rows(self.path, self.form)
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
    named = ending(name)
    if named in ("xlsx", "parquet"):
        raise InvalidInput(
            N_("{name} does not contain {named} data", name=name, named=named.upper()),
            hint=N_("export it again"),
        )
    return named or ("jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv")


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
    shutil.copymode(path, bare)
    bare.replace(path)
    return path
