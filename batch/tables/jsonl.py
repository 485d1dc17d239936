"""JSON Lines of records: one object a line; its keys are the columns."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from batch.reading.source import Overlong, Source, blocks
from batch.tables.table_reader import Row
from jobs.errors import InvalidInput
from jobs.message import N_
from jobs.table_task import TableForm

_decode = msgspec.json.Decoder(dict[str, object]).decode


def find_form(source: Source, given: TableForm, name: str) -> TableForm:
    """The keys of the first record that is one, and those that later records add."""
    columns: dict[str, None] = {}
    for row, _ in _records(source, name):
        if isinstance(row, dict):
            columns.update(dict.fromkeys(row))
    if not columns:
        raise InvalidInput(
            N_("{name} contains no records: each line must be one object in {}", name=name)
        )
    return given.model_copy(update={"columns": tuple(columns)})


def rows(source: Source, form: TableForm, name: str) -> Iterator[Row]:
    """Every line that is not blank; `number` is the line's."""
    for number, (record, text) in enumerate(_records(source, name), start=1):
        if isinstance(record, dict):
            yield Row(number, tuple(record.get(name) for name in form.columns), text)
        elif text:
            yield Row(
                number,
                (),
                text,
                ("input.json", N_("line {number} is not one JSON object", number=number)),
            )


def _records(source: Source, name: str) -> Iterator[tuple[dict[str, object] | None, str]]:
    """A line's record, or None of one that is none, and its text; empty for a blank line."""
    for block in blocks(source, name):
        if isinstance(block, Overlong):
            yield None, "…"
            continue
        for line in block.data[block.start : block.stop].removesuffix(b"\n").split(b"\n"):
            yield _record(line.removeprefix(b"\xef\xbb\xbf").strip())


def _record(line: bytes) -> tuple[dict[str, object] | None, str]:
    text = line.decode(errors="replace")
    try:
        return _decode(line) if line else None, text
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, text
