"""The ladder of a row whose answer is not what was asked for, and how each of its rungs is asked.

    in a pack ─► in a smaller pack ─► alone ─► told what is wrong ─► another model ─► given up

A request is one row. What is sent for it is written when it is fed: alone as the input has it,
together with others, or once more with what was wrong. So what is asked again is granted, capped,
paced and counted like everything else, and every row has one end, whatever was packed or repaired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import msgspec

from batch.store.call_units import Asked, Ruling, Unit
from batch.tables import pack
from batch.tables.answer_validation import Verdict, check_of, text_of
from batch.tables.pack import Item, mark_until_0_2, marks_of
from batch.tables.pack_sizes import comparable, sizes_of, told_values
from batch.tables.reask import ALONE, PACKED, SMALLER, Rungs, limit_of
from batch.tables.row_requests import Asker, is_russian
from jobs.result import Result, ResultState
from jobs.table_task import Task

_SMALLER_BY = 4
_USELESS = ("endpoint.empty", "endpoint.answer_too_large")

_encode = msgspec.json.Encoder().encode


class Ladder(Rungs):
    """The ladder of a task's rows."""

    def __init__(self, job_id: str, task: Task, asker: Asker) -> None:
        self._job_id, self._task, self._asker = job_id, task, asker
        self._check = check_of(task)
        self._first = PACKED if task.pack > 1 else ALONE
        russian = is_russian(task)
        super().__init__(
            lambda _, answer: self._check(text_of(answer)),
            task.repairs,
            task.escalate,
            lambda _: russian,
        )

    # ---- asking -----------------------------------------------------------------------------

    def units(self, requests: Iterable[Asked], *, alone: bool = False) -> Iterator[Unit]:
        """Writes the calls for some rows: those of a rung that travel together by their length."""
        together: dict[int, list[tuple[str, Asked]]] = {PACKED: [], SMALLER: []}
        for row in requests:
            rung = max(row.rung, ALONE if alone else self._first)
            text = self._asker.own_text(row.body) if rung < ALONE else None
            if text is None:
                yield self.single(row, max(rung, ALONE))
            else:
                together[rung].append((text, row))
        for rung, waiting in together.items():
            most = self._task.pack if rung == PACKED else max(2, -(-self._task.pack // _SMALLER_BY))
            for group in self._groups(waiting, most):
                yield (
                    self.single(group[0][1], ALONE) if len(group) == 1 else self._pack(group, rung)
                )

    def _groups(
        self, waiting: list[tuple[str, Asked]], most: int
    ) -> Iterator[list[tuple[str, Asked]]]:
        most = max(min(most, self._asker.most_together), 1)
        return _groups(waiting, most, self._asker.most_bytes)

    def _pack(self, group: Sequence[tuple[str, Asked]], rung: int) -> Unit:
        members = tuple(row.ordinal for _, row in group)
        marks = marks_of(self._job_id, members)
        items = [Item(*marks[row.ordinal], text) for text, row in group]
        # Of the model that the rows ask: it may have been renamed since the job began.
        body = {**self._asker.together(items), "model": json.loads(group[0][1].body)["model"]}
        return Unit(
            members,
            _encode(body),
            len(body["messages"]),
            rung,
            tuple(1 + len(text.encode()) for text, _ in group),
            max_output=limit_of(body),
        )

    # ---- comparing --------------------------------------------------------------------------

    def trials(self, requests: Sequence[Asked]) -> Iterator[list[Unit]]:
        """See `batch.store.call_units.Judge`."""
        texts = [(self._asker.own_text(row.body), row) for row in requests]
        rows = [(text, row) for text, row in texts if text is not None]
        most = self._asker.most_together
        for size in sorted({min(size, most) for size in sizes_of(self._task, len(rows))}):
            groups = [group for group in self._groups(rows, size) if len(group) > 1]
            if groups:
                yield [replace(self._pack(group, PACKED), rung=-size) for group in groups]

    def said(self, requests: Sequence[Asked], answer: bytes) -> dict[int, str | None]:
        """See `batch.store.call_units.Judge`."""
        names = comparable(self._task)
        members = tuple(row.ordinal for row in requests)
        told = self._told(PACKED, requests, members, text_of(answer))
        return {ordinal: told_values(verdict, names) for ordinal, verdict in told.items()}

    # ---- judging ----------------------------------------------------------------------------

    def rule(
        self,
        rung: int | None,
        requests: Sequence[Asked],
        result: Result,
        answer: bytes,
        members: tuple[int, ...],
    ) -> dict[int, Ruling]:
        """What came of a call, by row; see `batch.store.call_units.Judge`."""
        rung = ALONE if rung is None else rung
        if result.state is ResultState.FAILED:
            # Perhaps for the sake of one of its rows.
            verdict = Verdict(problem=result.message)
            splits = rung < ALONE and _is_for_one(result)
            return {row.ordinal: self.ruled(row, rung, verdict) for row in requests if splits}
        told = self._told(rung, requests, members, text_of(answer))
        return {row.ordinal: self.ruled(row, rung, told[row.ordinal]) for row in requests}

    def _told(
        self, rung: int, rows: Sequence[Asked], members: tuple[int, ...], said: str
    ) -> dict[int, Verdict]:
        if rung >= ALONE:
            return {row.ordinal: self._check(said) for row in rows}
        marks = marks_of(self._job_id, members)
        items = {row.ordinal: Item(*marks[row.ordinal], "") for row in rows}
        told = pack.verdicts(said, list(items.values()), self._check)
        missing = Verdict(problem="the answer lacks this row")
        return {ordinal: told.get(item.mark, missing) for ordinal, item in items.items()}

    def own(self, ordinal: int, members: tuple[int, ...], answer: bytes) -> bytes:
        """The answer to a row as if it had come alone: as it is if it did; `members` had the call
        that brought it.
        """
        if len(members) < 2:
            return answer
        said = _told_by(answer).get(marks_of(self._job_id, members)[ordinal][0])
        if said is None:
            said = _told_by(answer).get(mark_until_0_2(self._job_id, ordinal))
        return answer if said is None else _alone(answer, said)


@lru_cache(256)
def _told_by(answer: bytes) -> dict[str, str]:
    """Who is told what by a raw answer: as many rows as were asked together look into it."""
    return pack.answers_by_mark(text_of(answer))


def _alone(answer: bytes, said: str) -> bytes:
    """A completion with this content; what it used was for all rows, so nothing is said of that."""
    document = json.loads(answer)
    kept = {key: document[key] for key in ("id", "object", "created", "model") if key in document}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "finish_reason": "stop",
    }
    return _encode({**kept, "choices": [choice]})


def _is_for_one(result: Result) -> bool:
    """Whether fewer rows may fare better: the endpoint won't have the call as it stands, or the
    model made nothing of it; as against the endpoint's own troubles.
    """
    return result.status in (400, 403, 413, 422) or result.code in _USELESS


def _groups(
    waiting: list[tuple[str, Asked]], most: int, most_bytes: int
) -> Iterator[list[tuple[str, Asked]]]:
    """Rows that are about as long as each other, `most` to a group."""
    group: list[tuple[str, Asked]] = []
    size = 0
    for text, row in sorted(waiting, key=lambda each: (len(each[0]), each[1].ordinal)):
        size += len(text.encode())
        if group and (len(group) >= most or size > most_bytes):
            yield group
            group, size = [], len(text.encode())
        group.append((text, row))
    if group:
        yield group
