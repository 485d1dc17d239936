"""Lines that are alike but for their texts, known again without being parsed again.

A file of a million requests has a handful of forms. A line that the rules accepted becomes a
template: its bytes, with gaps where its id and those texts stand that differ between lines. A line
that has exactly these bytes around exactly one JSON string per gap is made of the same tokens, so
the rules would say the same of it: same keys, same numbers, same nesting, same model. Whatever
does not fit goes to the rules, which alone refuse and explain.

The proof that a gap holds one whole string: the byte before it, part of the template, is the
opening quote, and a strict parser accepts what follows up to the next known byte, or refuses it.
A blank string fits no gap: the reader is told of it, so it belongs to another form.
"""

from __future__ import annotations

import msgspec

from batch.reading.json_scan import is_blank
from batch.reading.line_rules import LONGEST_NAME, Draft, edited
from batch.reading.source import Block
from jobs.request import Fault, Request

_MOST = 32
_MOST_TEXTS = 256
_LONGEST_FIXED = 4096
_LARGEST = 64 * 2**10

_check_string = msgspec.json.Decoder(msgspec.Raw).decode

_MAY_BE_BLANK = frozenset(b'" \\\xc2')
"""What a blank string begins with, its opening quote left out."""

_Slot = tuple[int, int, bool]
"""Where a value stands that may differ, and whether it is the id."""


class Templates:
    """The forms met lately, the latest in front."""

    def __init__(self) -> None:
        self._recent: list[_Template] = []

    def run(self, block: Block, start: int, number: int, results: list[Request | Fault]) -> int:
        """Reads lines of one known form from `start` on, as many as follow each other.

        `block` is valid UTF-8 and `number` that of the line at `start`. Appends a request for each
        line and returns where the next one starts: `start` itself if the form is not known.
        """
        for place, template in enumerate(self._recent):
            stop = template.run(block, start, number, results) if template.usable else start
            if stop > start:
                if place:
                    self._recent.insert(0, self._recent.pop(place))
                return stop
        return start

    def learn(self, line: bytes, draft: Draft) -> None:
        """Takes in the form of a line that the rules accepted, unless it is not worth it."""
        if not 0 < len(draft.texts) <= _MOST_TEXTS:
            return
        slots = _slots(draft)
        form = tuple(line[start:stop] for start, stop in _around(slots, len(line)))
        known = next((one for one in self._recent if one.form == form), None)
        if known is not None:
            known.widen(line, slots)
        elif sum(map(len, form)) <= _LARGEST:
            new = _Template(form, line, slots, draft)
            self._recent = [new, *self._recent[: _MOST - 1]]


class _Template:
    """A line with gaps. Texts stay fixed until a line of the same form brings another one."""

    def __init__(
        self, form: tuple[bytes, ...], line: bytes, slots: list[_Slot], draft: Draft
    ) -> None:
        self.form = form
        self._line, self._slots, self._edits = line, slots, draft.edits
        self._request = draft.request
        last_text = (*draft.texts[-1], False)
        self._open = [
            slot[2] or slot == last_text or slot[1] - slot[0] > _LONGEST_FIXED for slot in slots
        ]
        self._cut()

    def widen(self, line: bytes, slots: list[_Slot]) -> None:
        """Opens a gap wherever this line of the same form differs."""
        for place, (mine, other) in enumerate(zip(self._slots, slots, strict=True)):
            self._open[place] |= self._line[mine[0] : mine[1]] != line[other[0] : other[1]]
        self._cut()

    def run(  # noqa: C901 - a call for each step would cost as much as the step
        self, block: Block, start: int, number: int, results: list[Request | Fault]
    ) -> int:
        """As `Templates.run`."""
        data, _, size = block
        head, tail, texts, id_first, id_last = self._pieces
        head_size, tail_size, first_size, last_size = map(len, (head, tail, id_first, id_last))
        before, lead, trail, behind = self._frame
        framed = bool(before or behind)
        known, request = self._request, Request
        model, messages, most = known.model, known.messages, known.max_output
        unbounded, odd, pin, kind = known.unbounded, known.odd, known.pin, known.kind
        longest, check_string, may_be_blank = LONGEST_NAME, _check_string, _MAY_BE_BLANK
        find, startswith, endswith = data.find, data.startswith, data.endswith
        width = 0  # of the last id: ids of one file are mostly as long as each other
        seam, fits = tail + b"\n" + head, start < size and startswith(head, start)
        while fits:
            at = start + head_size
            stop = find(b"\n", at, size)
            if stop < 0:
                stop = size
            limit = stop - tail_size
            fits = startswith(seam, limit, size)
            if not fits and not endswith(tail, at, stop):
                break
            try:
                if first_size:
                    end = at + width
                    if not startswith(id_first, end):
                        end = find(b'"', at, limit)
                        width = end - at
                        if not startswith(id_first, end):
                            break
                    custom_id = data[at:end].decode()
                    at = end + first_size
                elif last_size:
                    end = data.rfind(b'"', at, limit) + 1
                    if not endswith(id_last, at, end):
                        break
                    custom_id = data[end:limit].decode()
                    limit = end - last_size
                else:
                    custom_id = f"line-{number}"
                if not (0 < len(custom_id) <= longest and custom_id.isprintable()):
                    break  # printable is narrower than the rules are, and much faster told
                if '"' in custom_id or "\\" in custom_id:
                    break
                first = at - 1
                for probe, piece, piece_size in texts:
                    end = find(probe, at, limit)
                    if not startswith(piece, end):
                        return start
                    check_string(data[at - 1 : end])
                    if data[at] in may_be_blank and is_blank(data, at - 1):
                        return start
                    at = end + piece_size
                check_string(data[at - 1 : limit])
                if data[at] in may_be_blank and is_blank(data, at - 1):
                    break
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            body = data[first - lead : limit + trail]
            if framed:
                body = before + body + behind
            results.append(
                request(number, custom_id, model, body, messages, most, unbounded, odd, pin, kind)
            )
            number += 1
            start = stop + 1
        return start

    def _cut(self) -> None:
        """Cuts the line into what stands before, between and behind the open gaps."""
        gaps = [slot for slot, is_open in zip(self._slots, self._open, strict=True) if is_open]
        spans = _around(gaps, len(self._line))
        # The quote that opens a text is the last byte of the piece before it.
        inner = [
            self._line[start : stop if is_id else stop + 1]
            for (start, stop), (_, _, is_id) in zip(spans, gaps, strict=False)
        ]
        head, *inner = inner
        tail = self._line[gaps[-1][1] :]
        id_first = inner.pop(0) if gaps[0][2] else b""
        id_last = inner.pop() if gaps[-1][2] else b""
        texts = [(piece[: piece.index(b'"') + 1], piece, len(piece)) for piece in inner]
        self._pieces = (head, tail, texts, id_first, id_last)
        outer = [slot for slot in (gaps[0], gaps[-1]) if slot[2]]
        self._set_frame([slot for slot in gaps if slot not in outer], outer)

    def _set_frame(self, texts: list[_Slot], ids: list[_Slot]) -> None:
        """Finds how a body is cut out: `before`, the texts and some bytes around, `behind`.

        From the first open text to the last one a body is as its line is; `lead` and `trail` say
        how many bytes more are.
        """
        line, size, first, last = self._line, len(self._line), texts[0][0], texts[-1][1]
        before, behind = edited(line, 0, first, self._edits), edited(line, last, size, self._edits)
        fixed_from = max((stop for _, stop, _ in ids if stop <= first), default=0)
        fixed_to = min((start for start, _, _ in ids if start >= last), default=size)
        lead = _shared(before[::-1], line[fixed_from:first][::-1])
        trail = _shared(behind, line[last:fixed_to])
        self._frame = (before[: len(before) - lead], lead, trail, behind[trail:])
        unedited = edited(line, first, last, self._edits) == line[first:last]
        self.usable = unedited and not any(is_id for _, _, is_id in texts)


def _slots(draft: Draft) -> list[_Slot]:
    slots = [(start, stop, False) for start, stop in draft.texts]
    if draft.custom_id is not None:
        slots.append((*draft.custom_id, True))
    return sorted(slots)


def _shared(left: bytes, right: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (mine, other) in pairs if mine != other), min(len(left), len(right)))


def _around(slots: list[_Slot], size: int) -> list[tuple[int, int]]:
    """The spans before, between and behind the slots."""
    starts = [0, *(stop for _, stop, _ in slots)]
    stops = [*(start for start, _, _ in slots), size]
    return list(zip(starts, stops, strict=True))
