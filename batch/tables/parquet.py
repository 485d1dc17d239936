"""Parquet, by pyarrow: an extra, since it is larger than all the rest of Nightshift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from batch.extras import install_command
from batch.tables.table_reader import Row, as_text
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_
from jobs.table_task import TableForm

_AT_ONCE = 2000


def _pyarrow() -> Any:
    """The package and its module for Parquet."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            N_("Parquet requires the package pyarrow, which is not installed"),
            hint=N_(
                "install it with: {command}, or convert the table to CSV",
                command=install_command("pyarrow"),
            ),
        ) from None
    return pa, parquet


def find_form(path: Path, given: TableForm, name: str) -> TableForm:
    """The columns."""
    return given.model_copy(update={"columns": tuple(_file(path, name).schema_arrow.names)})


def rows(path: Path, name: str) -> Iterator[Row]:
    """Every row. `number` counts from 2, as beside a table with a header."""
    number = 1
    for batch in _file(path, name).iter_batches(_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            yield Row(number, cells)


def _file(path: Path, name: str) -> Any:
    arrow, parquet = _pyarrow()
    try:
        return parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise InvalidInput(
            N_("{name} cannot be read as Parquet: {why}", name=name, why=str(error).splitlines()[0])
        ) from None


class Writer:
    """The input's columns with their own types, and ours behind, all of them text."""

    def __init__(
        self, file: IO[bytes], source: Path | None, columns: tuple[str, ...], ours: tuple[str, ...]
    ) -> None:
        self._arrow, parquet = _pyarrow()
        own = [self._arrow.field(name, self._arrow.string()) for name in (*columns, *ours)]
        if source is not None:
            own[: len(columns)] = list(_file(source, source.name).schema_arrow)
        self._schema = self._arrow.schema(own)
        self._texts = source is None
        self._rows: list[tuple[Any, ...]] = []
        self._file = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, cells: tuple[Any, ...]) -> None:
        """A row."""
        self._rows.append(tuple(map(_text, cells)) if self._texts else cells)
        if len(self._rows) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_batch(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        """Writes the rest."""
        if self._rows:
            self._flush()
        self._file.close()


def _text(cell: Any) -> str | None:
    return None if cell is None else as_text(cell)
