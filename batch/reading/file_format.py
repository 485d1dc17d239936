"""What a file is that is no JSON Lines at all, by its first bytes and lines.

An archive, an array or a table fails in every line, each time in another way; and a line of it that
happens to be a request is a fragment, which nobody meant to send.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re

from batch.reading.foreign_lines import (
    EACH_ROW,
    array_of,
    ask_each_row,
    columns,
    jq,
    spread,
    text_column,
)
from jobs.message import N_, Message
from jobs.request import Fault, Form

LONGEST = 64 * 2**10
"""Bytes of a file's beginning that are looked at."""

_LINES = 50
_TAR_MAGIC = slice(257, 262)
_ZEROS = b"\0" * 4
_JSON, _ENCODING = "input.json", "input.encoding"
_decoder = json.JSONDecoder()


def fault_of_file(head: bytes, *, complete: bool) -> Fault | None:
    """The one fault of a file that is none of requests; None for all others.

    `head` is its beginning, unpacked and without a byte order mark; `complete`: it is all of it.
    """
    for code, form in (
        (_JSON, _binary(head)),
        (_ENCODING, _encoding(head)),
        (_JSON, _pointer(head) or _markup(head)),
        (_JSON, _text(head[:LONGEST], complete=complete and len(head) <= LONGEST)),
    ):
        if form is not None:
            return Fault(1, code, form.told, 0, form=form)
    return None


# ── Bytes ────────────────────────────────────────────────────────────────────────────────────────


def _binary(head: bytes) -> Form | None:
    if head.startswith(b"PK\x03\x04"):
        return _zip(head)
    if head[_TAR_MAGIC] == b"ustar":
        return _packed("tar", "-xOf", told=N_("a tar archive"))
    return next((form for magic, form in _MAGICS if head.startswith(magic)), None)


def _packed(*command: str, told: Message) -> Form:
    return Form(told=told, hint=N_("unpack it:"), command=command, whole=True)


def _zip(head: bytes) -> Form:
    if b"xl/" in head[:4096]:
        return _workbook(N_("an Excel workbook"))
    if b"opendocument.spreadsheet" in head[:4096]:
        return _workbook(N_("an OpenDocument spreadsheet"))
    if b"word/" in head[:4096]:
        return Form(
            told=N_("a Word document"), hint=N_("export its text as CSV or JSON Lines"), whole=True
        )
    return _packed("unzip", "-p", told=N_("a zip archive"))


def _workbook(told: Message) -> Form:
    """A table in a format of its own: its columns are known to who made it."""
    return Form(told=told, hint=EACH_ROW, command=ask_each_row("column"), whole=True)


def _no_text(*, told: Message) -> Form:
    return Form(told=told, hint=N_("use a JSON Lines file; see docs/input.md"), whole=True)


_MAGICS = (
    (b"PK\x05\x06", _no_text(told=N_("an empty zip archive"))),
    (b"BZh", _packed("bzip2", "-dc", told=N_("a bzip2-compressed file"))),
    (b"\xfd7zXZ\x00", _packed("xz", "-dc", told=N_("an xz-compressed file"))),
    (b"\x04\x22\x4d\x18", _packed("lz4", "-dc", told=N_("an lz4-compressed file"))),
    (b"\x1f\x8b", _packed("gzip", "-dc", told=N_("a file compressed twice with gzip"))),
    (
        b"\x28\xb5\x2f\xfd",
        _packed("zstd", "-dc", told=N_("a file compressed twice with zstd")),
    ),
    (b"7z\xbc\xaf\x27\x1c", _packed("7z", "x", "-so", told=N_("a 7z archive"))),
    (b"Rar!\x1a\x07", _packed("unrar", "p", "-inul", told=N_("a rar archive"))),
    (b"PAR1", _workbook(N_("a Parquet file"))),
    (b"ARROW1", _no_text(told=N_("an Arrow file"))),
    (b"Obj\x01", _no_text(told=N_("an Avro file"))),
    (b"ORC", _no_text(told=N_("an ORC file"))),
    (b"SQLite format 3\x00", _no_text(told=N_("an SQLite database"))),
    (b"\xd0\xcf\x11\xe0", _workbook(N_("an old Excel workbook, or another Office document"))),
    (b"%PDF-", _no_text(told=N_("a PDF document"))),
    (b"\x89PNG", _no_text(told=N_("a picture"))),
    (b"\xff\xd8\xff", _no_text(told=N_("a picture"))),
    (b"\x93NUMPY", _no_text(told=N_("a NumPy array"))),
    (b"\x80\x03", _no_text(told=N_("a Python pickle"))),
    (b"\x80\x04", _no_text(told=N_("a Python pickle"))),
    (b"\x80\x05", _no_text(told=N_("a Python pickle"))),
)


def _encoding(head: bytes) -> Form | None:
    if head and not head.strip(b"\0"):
        return Form(
            told=N_(
                "only zero bytes: it was never fully written (power loss or an interrupted copy)"
            ),
            hint=N_("create or copy it again"),
            whole=True,
        )
    name = _wide(head)
    if name is None:
        return None
    return Form(
        told=N_("text in {name}, not UTF-8", name=name),
        hint=N_("convert it to UTF-8:"),
        command=("iconv", "-f", name, "-t", "UTF-8"),
        whole=True,
    )


def _wide(head: bytes) -> str | None:
    """An encoding in which each letter of Latin has zero bytes beside it."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    zeros = bytes(byte == 0 for byte in head[:4])
    return {
        b"\0\1\0\1": "UTF-16LE",
        b"\1\0\1\0": "UTF-16BE",
        b"\0\1\1\1": "UTF-32LE",
        b"\1\1\1\0": "UTF-32BE",
    }.get(zeros)


# ── Text of another kind ─────────────────────────────────────────────────────────────────────────


def _pointer(head: bytes) -> Form | None:
    if head.startswith(b"version https://git-lfs"):
        return Form(
            told=N_("a Git LFS pointer, not the file itself"),
            hint=N_("fetch the file:"),
            command=("git", "lfs", "pull"),
            alone=True,
            whole=True,
        )
    if b"annex/objects/" in head[:1024] and b"{" not in head[:1024]:
        return Form(
            told=N_("a git-annex pointer, not the file itself"),
            hint=N_("fetch the file:"),
            command=("git", "annex", "get", "."),
            alone=True,
            whole=True,
        )
    return None


def _markup(head: bytes) -> Form | None:
    start = head[:1024].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Form(
            told=N_("a web page, perhaps an error or a login page, not the file itself"),
            hint=N_("download the file again"),
            whole=True,
        )
    if start.startswith(b"<?xml"):
        return _no_text(told=Message("XML"))
    if re.match(rb"\[\[?[a-z_][\w.-]*\]\]?[ \t]*\r?\n", start):
        return _no_text(told=N_("TOML, not JSON"))
    if re.match(rb"(?:data|event): ?\S", start):
        return Form(
            told=N_("a streamed response (server-sent events), not requests"),
            hint=N_("use the file of the requests"),
            whole=True,
        )
    if re.match(rb"\|[^\n]*\n\|[ \t:|-]+\r?\n", start):
        return Form(
            told=N_("a Markdown table"), hint=N_("save it as CSV, then: --prompt"), whole=True
        )
    if re.match(rb"---[ \t]*\r?\n|- ?[a-z_]+:[ \n]", start):
        return Form(
            told=N_("YAML, not JSON"),
            hint=N_("convert it to JSON Lines:"),
            command=("yq", "-o=json", "-I=0", ".[]"),
            whole=True,
        )
    return None


def _text(head: bytes, *, complete: bool) -> Form | None:
    text = head.decode(errors="replace").lstrip("\ufeff")
    if "\n" not in text and _is_object(text.partition("\r")[0].strip() or " "):
        return _old_mac(text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not complete and len(lines) > 1 and not text.endswith("\n"):
        lines.pop()
    lines = lines[:_LINES]
    if not lines or 2 * sum(map(_is_object, lines)) > len(lines):
        return None
    if lines[0][0] == "[":
        return _array(text, lines)
    if lines[0][0] == "{":
        return _spread(text, lines)
    if any(line[0] in "{[\"'" or _parses(line) for line in lines[:2]):
        return None
    return _table(_legible(head), complete=complete) or _prose(lines)


def _legible(head: bytes) -> str:
    """The text of a table's beginning, in the encoding that it is most likely in."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # loads slowly, and few need it

        best = from_bytes(head, cp_isolation=list(_OLD_ENCODINGS)).best()
        return str(best) if best else head.decode(errors="replace")


_OLD_ENCODINGS = ("cp1251", "cp866", "koi8_r", "cp1252")


def _old_mac(text: str) -> Form | None:
    if "\r" not in text.strip():
        return None
    return Form(
        told=N_("lines that end with a carriage return alone, as on old Macs"),
        hint=N_("end them with line feeds:"),
        command=("perl", "-pe", "s/\\r/\\n/g"),
        whole=True,
    )


def _array(text: str, lines: list[str]) -> Form | None:
    """One that goes on over several lines, or is so long that its end is not in sight."""
    if _parses(lines[0]) or lines[0].startswith("[["):
        return None
    first, stop = _first(text.lstrip()[1:])
    return array_of(first) if first or not stop else None


def _spread(text: str, lines: list[str]) -> Form | None:
    """Objects of several lines."""
    if len(lines) < 2 or _parses(lines[0]) or _parses(lines[1]):
        return None
    value, stop = _first(text)
    over_lines = "\n" in text.strip()[:stop]
    open_ended = lines[0][-1] in "{[,:" and lines[1][0] in '"}{[]'
    return spread(value) if over_lines or (open_ended and not stop) else None


def _first(text: str) -> tuple[object, int]:
    """The first value in a text and where it ends; None and 0 where its end is not in sight."""
    try:
        return _decoder.raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None, 0


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _is_object(line: str) -> bool:
    return line[0] == "{" and line[-1] == "}" and _parses(line)


_DELIMITERS = ("\t", ",", ";", "|")


def _table(text: str, *, complete: bool) -> Form | None:
    for delimiter in _DELIMITERS:
        rows = _rows(text, delimiter, complete=complete)
        wide = [row for row in rows if rows and len(row) == len(rows[0])]
        if len(wide) > 1 and len(rows[0]) > 1 and len(wide) * 10 >= len(rows) * 8:
            return _table_form(wide, delimiter)
    return None


def _rows(text: str, delimiter: str, *, complete: bool) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []
    rows = [row for row in rows if row]
    return rows if complete else rows[:-1]


def _table_form(rows: list[list[str]], delimiter: str) -> Form:
    head, kind = rows[0], "TSV" if delimiter == "\t" else "CSV"
    sizes = {
        name: sum(len(row[place]) for row in rows[1:_LINES]) for place, name in enumerate(head)
    }
    column = text_column(sizes)
    return Form(
        told=N_("a table ({kind}) with the columns {columns}", kind=kind, columns=columns(head)),
        hint=EACH_ROW,
        command=ask_each_row(column),
        whole=True,
    )


_FEWEST_LETTERS = 0.5


def _prose(lines: list[str]) -> Form | None:
    """Lines of plain text, of letters for the most part."""
    text = "".join(lines)
    letters = sum(each.isalnum() or each == " " for each in text)
    if "\ufffd" in text or " " not in text or letters < _FEWEST_LETTERS * len(text):
        return None
    return Form(
        told=N_("plain text, not JSON"),
        hint=N_(
            "turn each line into a request, adding your own instructions; set the model with"
            " --model:"
        ),
        command=("jq", "-R", *jq('select(. != "") | {messages: [{role: "user", content: .}]}')[1:]),
        whole=True,
    )
