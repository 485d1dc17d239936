"""CSV and TSV as programs and people write them, byte for byte.

The standard library's `csv` splits a row into its cells; what is here is around it: which bytes of
the file a row is made of, so that the answered table can repeat them, and where something is wrong.
The delimiter is found by clevercsv (its measure of consistency beats counting, Van den Burg et al.
2019), an encoding other than Unicode by charset-normalizer.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Collection, Iterator
from itertools import count, islice

from batch.tables.table_reader import Row
from jobs.errors import InvalidInput, UsageError
from jobs.message import N_, Message
from jobs.table_task import TableForm

Chunks = Callable[[], Iterator[bytes]]
"""Opens the unpacked file once more from its beginning."""

LONGEST_ROW = 8 * 2**20
"""Characters of a row: a quote that never closes would else swallow the rest of the file."""

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}

_HEAD = 64 * 2**10
_ENCODINGS = ("cp1251", "cp866", "koi8_r", "cp1252", "utf_16_le", "utf_16_be", "utf_8")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNDECODED = re.compile("[\udc80-\udcff\0]")
_SEP = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
"""The first line of a file that tells Excel its delimiter; Excel shows no row for it."""

_BINARY = bytes(sorted({*range(1, 9), *range(14, 27), *range(28, 32)}))
"""Control characters that no text has."""


def find_form(chunks: Chunks, given: TableForm, name: str, *, told: frozenset[str]) -> TableForm:
    """The form of a text table. What is `told` of `given` (names of its fields) stands as it is.

    Raises `InvalidInput` for a file without a header, `UsageError` for a form that isn't its own.
    """
    bom, encoding = _encoding(chunks, given.encoding if "encoding" in told else None, name)
    form = given.model_copy(update={"encoding": encoding, "bom": bom})
    head = "".join(islice(_texts(chunks, form), 4))[:_HEAD]
    form = form.model_copy(update={"newline": _newline(head)})
    if "delimiter" not in told:
        said = _SEP.match(head)
        delimiter = said[1] if said else _delimiter(head, name)
        form = form.model_copy(update={"delimiter": delimiter})
    first = next(_records(chunks, form), None)
    if first is None:
        raise InvalidInput(
            N_("{name} is empty: it has no rows", name=name), hint=N_("check the export")
        )
    if first.fault:
        raise InvalidInput(
            Message("{name}: {why}", name=name, why=first.fault[1]),
            hint=N_("if they were detected wrongly, set --delimiter and --encoding"),
        )
    return form.model_copy(update={"columns": columns_of(first.cells, form, name)})


def columns_of(cells: tuple[object, ...], form: TableForm, name: str) -> tuple[str, ...]:
    """The names of the columns: those of the header, or `column_1`, `column_2`…"""
    if not form.header:
        return tuple(f"column_{place}" for place in range(1, len(cells) + 1))
    told = [("" if cell is None else str(cell)).strip() for cell in cells]
    names = dict.fromkeys(filter(None, told))
    taken = set[str]()
    for place, name in enumerate(told, start=1):
        told[place - 1] = name = _free(name or f"column_{place}", taken, names)
        taken.add(name)
    return tuple(told)


def _free(name: str, taken: set[str], others: Collection[str]) -> str:
    """The name, or with a number where another column before has it."""
    ways = (f"{name}_{number}" for number in count(2))
    return name if name not in taken else next(n for n in ways if n not in taken | {*others})


def rows(chunks: Chunks, form: TableForm) -> Iterator[Row]:
    """Every row of the table but its header; one that can't be used has its fault."""
    width = len(form.columns)
    for row in islice(_records(chunks, form), int(form.header), None):
        yield row if row.fault or len(row.cells) == width else _misfit(row, width)


def _misfit(row: Row, width: int) -> Row:
    found = len(row.cells)
    told = N_(
        "row {number} has {found} columns, but the header has {width}",
        number=row.number,
        found=found,
        width=width,
    )
    return Row(row.number, row.cells, row.raw, ("input.columns", told))


# ---- bytes to text --------------------------------------------------------------------------


def _encoding(chunks: Chunks, given: str | None, name: str) -> tuple[bool, str]:
    """Whether it begins with a byte order mark, and the codec's name."""
    head = b"".join(islice(chunks(), 1))
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return True, encoding
    if given is not None:
        return False, _known(given)
    if b"\0" in head and (wide := _wide(head, name)):
        return False, wide
    wrong = _first_wrong(chunks)
    if wrong is None or _is_mostly_utf8(_around(chunks, wrong)):
        return False, "utf-8"
    return False, _guessed(chunks, wrong, name)


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether only some bytes are wrong: text in another encoding hardly has a character of it."""
    text = data.decode(errors="replace")
    wrong = text.count("\ufffd")
    return len(data) - len(text.replace("\ufffd", "")) - wrong > 4 * wrong


def _known(encoding: str) -> str:
    try:
        found = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(
            N_("--encoding: unknown encoding {encoding!r}", encoding=encoding),
            hint=N_("for example utf-8, cp1251, cp866, koi8-r, utf-16"),
        ) from None
    return {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(found, found)


def _wide(head: bytes, name: str) -> str | None:
    """UTF-16 without a mark: of a text every other byte is mostly zero. None for a few zeros."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 8 < len(head):
        if head.translate(None, _BINARY) == head:
            return None
        raise InvalidInput(
            N_("{name} contains zero bytes: it is not text", name=name),
            hint=N_("export it as CSV or XLSX"),
        )
    return "utf-16-le" if odd > even else "utf-16-be"


def _first_wrong(chunks: Chunks) -> int | None:
    """The byte at which a file is not UTF-8; None if it is."""
    decoder, start = codecs.getincrementaldecoder("utf-8")(), 0
    for chunk in chunks():
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            return start - pending + error.start
        start += len(chunk)
    return start if decoder.getstate()[0] else None


def _guessed(chunks: Chunks, wrong: int, name: str) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(_around(chunks, wrong), cp_isolation=list(_ENCODINGS)).best()
    if best is None or best.encoding == "utf_8":
        raise InvalidInput(
            N_(
                "{name} is not UTF-8 (byte {wrong}), and its encoding was not recognized",
                name=name,
                wrong=wrong,
            ),
            hint=N_("add --encoding, for example cp1251"),
        )
    return codecs.lookup(best.encoding).name


def _around(chunks: Chunks, place: int) -> bytes:
    """Whole lines before and after a byte of the file."""
    kept, start = b"", 0
    for chunk in chunks():
        kept = (kept + chunk)[-4 * _HEAD :]
        start += len(chunk)
        if start > place + _HEAD:
            break
    first = kept.find(b"\n") + 1 if start > len(kept) else 0
    return kept[first : kept.rfind(b"\n") + 1] or kept


def _texts(chunks: Chunks, form: TableForm) -> Iterator[str]:
    """The file as text, in pieces. Bytes that are none of the encoding's become lone surrogates
    (PEP 383), so that they are told with their row, and kept.
    """
    wide = form.encoding.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(form.encoding)("strict" if wide else "surrogateescape")
    begun, start = False, 0
    for chunk in chunks():
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk)
        except UnicodeDecodeError as error:
            place = start - pending + error.start
            raise InvalidInput(
                N_(
                    "byte {place} of the table is not valid {encoding}",
                    place=place,
                    encoding=form.encoding.upper(),
                ),
                hint=N_("save it again as UTF-8, or set another --encoding"),
            ) from None
        yield text if begun else text.removeprefix("\ufeff")
        begun, start = True, start + len(chunk)
    yield decoder.decode(b"", final=True)


def encoded(text: str, form: TableForm) -> bytes:
    """Text as it stands in a file of this form; `UnicodeEncodeError` if it can't."""
    return text.encode(form.encoding, "surrogateescape")


# ---- text to rows ---------------------------------------------------------------------------


def _newline(head: str) -> str:
    if "\n" not in head and "\r" in head:
        return "\r"
    return "\r\n" if "\r\n" in head else "\n"


def _delimiter(head: str, name: str) -> str:
    import clevercsv

    sample = _UNDECODED.sub("?", head[: 16 * 2**10])
    # A row that was cut off would count as one of another width.
    sample = sample[: sample.rfind("\n") + 1] or sample
    found = clevercsv.Detector().detect(sample, delimiters=[",", ";", "\t", "|"])
    if found is None or not found.delimiter:
        return (
            "\t"
            if name.lower().removesuffix(".gz").removesuffix(".zst").endswith((".tsv", ".tab"))
            else ","
        )
    delimiter = str(found.delimiter)
    return delimiter if delimiter in sample.partition("\n")[0] else _of_one_column(sample)


def _of_one_column(sample: str) -> str:
    """One that no cell is cut by; in a table of one column a comma may be of the text."""
    try:
        if all(len(row) < 2 for row in csv.reader(sample.splitlines(keepends=True))):
            return ","
    except csv.Error:
        pass
    return next((each for each in "\t|;" if each not in sample), ",")


class _Lines:
    """The lines of a text, with their ends; remembers those that the parser took for a row."""

    def __init__(self, texts: Iterator[str], newline: str) -> None:
        self._texts, self._end = texts, "\r" if newline == "\r" else "\n"
        self.taken: list[str] = []
        self.count = self._size = 0

    def start_row(self) -> None:
        """What is taken from now on is of the next row."""
        self.taken.clear()
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        rest: list[str] = []
        for text in self._texts:
            *lines, last = text.split(self._end)
            for line in lines:
                yield self._take("".join((*rest, line, self._end)))
                rest.clear()
            if last:
                rest.append(last)
        if rest:
            yield self._take("".join(rest))

    def _take(self, line: str) -> str:
        self.count += 1
        self._size += len(line)
        self.taken.append(line)
        if self._size > LONGEST_ROW:
            raise csv.Error("field larger than field limit")
        # Files that were put together have a mark amid them.
        return line.removeprefix("\ufeff") if len(self.taken) == 1 else line


def top(chunks: Chunks, form: TableForm) -> str:
    """What stands above the rows: the line for Excel, and the header without its end."""
    first = next(iter(_Lines(_texts(chunks, form), form.newline)), "")
    header = next(_records(chunks, form)).raw if form.header else ""
    return f"{first if _SEP.match(first) else ''}{header}"


def _records(chunks: Chunks, form: TableForm) -> Iterator[Row]:
    """Every row, the header included; blank lines are none."""
    csv.field_size_limit(LONGEST_ROW)
    lines = _Lines(_texts(chunks, form), form.newline)
    parser = csv.reader(iter(lines), delimiter=form.delimiter, strict=True)
    number = 0
    while True:
        lines.start_row()
        first = lines.count + 1
        fault = None
        try:
            cells = tuple(next(parser))
        except StopIteration:
            return
        except csv.Error as error:
            cells, fault = (), str(error)
        raw = "".join(lines.taken)
        if not cells and not fault and not raw.strip():
            continue
        if first == 1 and _SEP.match(raw):
            continue
        number += 1
        yield _row(number, first, cells, raw.rstrip("\r\n"), fault)


def _row(number: int, line: int, cells: tuple[str, ...], raw: str, error: str | None) -> Row:
    where = N_("row {number}", number=number)
    if number != line:
        where = N_("row {number} (line {line})", number=number, line=line)
    if error:
        return Row(
            number,
            cells,
            raw,
            ("input.quotes", Message("{where}: {why}", where=where, why=_sentence(error))),
        )
    wrong = _UNDECODED.search(raw)
    if wrong:
        byte = f"{ord(wrong[0]) & 0xFF:#04x}"
        told = N_(
            "{where}: character {place} (byte {byte}) is not valid in this encoding",
            where=where,
            place=wrong.start() + 1,
            byte=byte,
        )
        return Row(number, cells, raw, ("input.encoding", told))
    return Row(number, cells, raw)


def _sentence(error: str) -> Message:
    if "unexpected end" in error or "larger than" in error:
        return N_("a quote opens here and is never closed")
    if "new-line character" in error:
        return N_("a line break stands in a cell without quotes")
    if "expected after" in error:
        return N_("text follows a closing quote; a quote within a cell must be doubled")
    return N_("the table cannot be split into cells ({why})", why=error)
