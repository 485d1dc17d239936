"""The reader: an input file becomes requests, and a fault with its line number for the rest.

source    bytes, unpacked, in blocks of whole lines
beginning is the file something else altogether?  then that is its one fault
template  is the line of a known form?             then it is a request already
rules     else: strict JSON, then what a request must be; the only place that refuses
forms     what a refused line is instead
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterator
from itertools import chain, islice

from batch.reading.file_format import LONGEST, fault_of_file
from batch.reading.line_rules import Defaults, draft, overlong
from batch.reading.line_template import Templates
from batch.reading.source import LONGEST_LINE, Block, Overlong, Source, blocks
from jobs.request import Fault, Request

__all__ = ["Defaults", "Source", "read"]

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_LOOKED_AT = 3
"""Blocks that are read ahead: the first line, most of the first piece, and a line between two."""

_AT_ONCE = 128 * 1024
"""Bytes that are decoded at a time: in one piece, a block's text costs twice as much to make."""


def read(source: Source, defaults: Defaults) -> Iterator[Request | Fault]:
    """Every line that is not blank, in order: a `Request`, or the `Fault` that is wrong with it.

    Of a file that holds no lines of requests at all (an archive, an array) one fault alone.

    `source` is a path, or a binary stream that the caller closes; plain, gzip or zstd. Memory does
    not grow with the file. Raises `InvalidInput` when the source cannot be opened, read to its end
    or unpacked; that may be after some lines, so nothing is to be sent before the end is reached.
    """
    found = blocks(source)
    first = list(islice(found, 1))
    if not any(isinstance(each, Overlong) for each in first):  # whose end may never come
        first += islice(found, _LOOKED_AT - 1)
    fault = fault_of_file(_beginning(first), complete=len(first) < _LOOKED_AT)
    if fault is not None:
        return iter([fault])
    reader = _Reader(defaults)
    return chain.from_iterable(map(reader.results, chain(first, found)))


def _beginning(first: list[Block | Overlong]) -> bytes:
    cut = slice(LONGEST + 1)
    parts = [
        each.start[cut] if isinstance(each, Overlong) else each.data[each.start : each.stop][cut]
        for each in first
    ]
    return b"".join(parts)[cut].removeprefix(_BOM)


class _Reader:
    """Counts lines and knows their forms."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._templates = Templates()
        self._line = 0

    def results(self, block: Block | Overlong) -> list[Request | Fault]:
        """What the block's lines are; many lines at once, because that is fast."""
        if isinstance(block, Overlong):
            self._line += 1
            return [overlong(self._line, LONGEST_LINE)]
        if not self._line and block.data.startswith(_BOM):
            block = block._replace(start=len(_BOM))
        return self._judged(block)

    def _judged(self, block: Block) -> list[Request | Fault]:
        results = list[Request | Fault]()
        templates = self._templates if _is_utf8(block) else Templates()
        _, start, stop = block
        while start < stop:
            known = len(results)
            behind = templates.run(block, start, self._line + 1, results)
            self._line += len(results) - known
            start = behind if behind > start else self._strict(block, start, results)
        return results

    def _strict(self, block: Block, start: int, results: list[Request | Fault]) -> int:
        """Judges one line by the rules; returns where the next one starts."""
        end = block.data.find(b"\n", start, block.stop)
        line = block.data[start : block.stop if end < 0 else end]
        self._line += 1
        if line.strip(_BLANK):
            results.append(self._judgement(line))
        return start + len(line) + 1

    def _judgement(self, line: bytes) -> Request | Fault:
        judged = draft(line, self._line, self._defaults)
        if isinstance(judged, Fault):
            return judged
        self._templates.learn(line, judged)
        return judged.request


def _is_utf8(block: Block) -> bool:
    if block.data.isascii():
        return True
    view, start = memoryview(block.data), block.start
    try:
        while start < block.stop:
            end = min(start + _AT_ONCE, block.stop)
            start += utf_8_decode(view[start:end], "strict", end == block.stop)[1]
    except UnicodeDecodeError:
        return False
    return True
