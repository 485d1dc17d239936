"""Rows of a workbook as they were read, in a file that can be read again and again in no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any

from msgspec.msgpack import Decoder, Encoder, Ext

Numbered = tuple[int, tuple[Any, ...]]
"""A row's number, as a spreadsheet shows it, and its cells from the first column on."""

MAGIC = b"nightshift rows 1\n"

_FROM: dict[int, Any] = {
    1: datetime.fromisoformat,
    2: date.fromisoformat,
    3: time.fromisoformat,
    4: lambda text: timedelta(seconds=float(text)),
}
_CODES = {datetime: 1, date: 2, time: 3}

_encode = Encoder().encode


def _hook(code: int, data: memoryview) -> Any:
    return _FROM[code](bytes(data).decode())


_decode = Decoder(tuple[int, tuple[Any, ...]], ext_hook=_hook).decode


def write(file: IO[bytes], rows: Iterable[Numbered]) -> None:
    """Writes the rows; so many bytes stand before each as it has."""
    file.write(MAGIC)
    for number, cells in rows:
        row = _encode((number, tuple(map(_packed, cells))))
        file.write(len(row).to_bytes(4, "little") + row)


def is_one(path: Path) -> bool:
    """Whether a file was written so."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Iterator[Numbered]:
    """The rows, in order."""
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        while size := file.read(4):
            yield _decode(file.read(int.from_bytes(size, "little")))


def _packed(cell: Any) -> Any:
    if isinstance(cell, timedelta):
        return Ext(4, str(cell.total_seconds()).encode())
    code = _CODES.get(type(cell))
    return cell if code is None else Ext(code, cell.isoformat().encode())
