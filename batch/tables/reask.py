"""Requests whose answers are checked, each asked alone: as it stands, then told what is wrong, at
last of another model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from batch.store.call_units import Asked, Ruling, Unit
from batch.tables.answer_validation import Verdict, text_of
from jobs.request_kinds import CHAT, RESPONSES
from jobs.result import Result, ResultState

PACKED, SMALLER, ALONE = range(3)
"""Rungs of the ladder; behind `ALONE` come the repairs, and then the other model."""

LIMITS = CHAT.bounds
"""What endpoints call the bound of an answer."""

LONGEST_QUOTE = 4000
"""Characters of an answer that are shown to its model again."""

_encode = msgspec.json.Encoder().encode

Judging = Callable[[bytes, bytes], Verdict]
"""The body of a request, and its raw answer → what it says."""


class Rungs:
    """See `batch.store.call_units.Judge`. `repairs` times a request is told what is wrong, then
    `escalate` is asked. `russian` tells, by its body, in which language.
    """

    _first = ALONE

    def __init__(
        self,
        verdict: Judging,
        repairs: int,
        escalate: str | None,
        russian: Callable[[bytes], bool],
    ) -> None:
        self._verdict, self._repairs, self._escalate = verdict, repairs, escalate
        self._russian = russian
        self._top = ALONE + repairs + (escalate is not None)

    def units(self, requests: Iterable[Asked], *, alone: bool = False) -> Iterator[Unit]:  # noqa: ARG002
        """Each in a call of its own."""
        for row in requests:
            yield self.single(row, max(row.rung, ALONE))

    def single(self, row: Asked, rung: int) -> Unit:
        """The call for one request."""
        if rung == self._first:
            return Unit((row.ordinal,), row.body, 0, rung, plain=True)  # all that the input tells
        body: dict[str, Any] = json.loads(row.body)
        count, longest = len(_turns(body)), limit_of(body)
        if rung == ALONE:
            return Unit((row.ordinal,), row.body, count, rung, max_output=longest)
        model = self._escalate if rung > ALONE + self._repairs else None
        if model is not None:
            body["model"] = model
        else:
            said, russian = text_of(row.answer), self._russian(row.body)
            body = corrected(body, said, row.problem, rung - ALONE, russian=russian)
        count = len(_turns(body))
        return Unit((row.ordinal,), _encode(body), count, rung, model=model, max_output=longest)

    def trials(self, requests: Sequence[Asked]) -> Iterator[list[Unit]]:  # noqa: ARG002
        """Nothing is packed, so there is nothing to compare."""
        yield from ()

    def said(self, requests: Sequence[Asked], answer: bytes) -> dict[int, str | None]:  # noqa: ARG002
        """Nothing was compared."""
        return {}

    def rule(
        self,
        rung: int | None,
        requests: Sequence[Asked],
        result: Result,
        answer: bytes,
        members: tuple[int, ...],  # noqa: ARG002
    ) -> dict[int, Ruling]:
        """What came of a call; nothing where it failed."""
        if result.state is ResultState.FAILED:
            return {}
        stands_on = ALONE if rung is None else rung
        return {
            row.ordinal: self.ruled(row, stands_on, self._verdict(row.body, answer))
            for row in requests
        }

    def ruled(self, row: Asked, rung: int, verdict: Verdict) -> Ruling:
        """What a verdict means for a row that was asked on a rung."""
        stands_on = max(row.rung, rung)
        climbs = verdict.problem and stands_on < self._top
        return Ruling(verdict.problem, verdict.repaired, stands_on + 1 if climbs else None)


def limit_of(body: dict[str, Any]) -> int | None:
    """The most tokens that an answer may have; None: not bounded."""
    bounds = (CHAT if CHAT.asks in body else RESPONSES).bounds
    return max((body[name] for name in bounds if body.get(name)), default=None)


def _turns(body: dict[str, Any]) -> list[dict[str, Any]]:
    """What a chat or a response is asked for."""
    asked = body.get(CHAT.asks) or body.get(RESPONSES.asks) or []
    return [{"role": "user", "content": asked}] if isinstance(asked, str) else asked


def corrected(
    body: dict[str, Any], said: str, problem: str, times: int, *, russian: bool
) -> dict[str, Any]:
    """The request with the model's answer and what is wrong with it, for the so many-th time.

    Which time it is stands in the text: the same question again would bring the same answer.
    """
    asks = (
        f"Этот ответ не подходит ({times}): {problem}. Ответь ещё раз, строго в требуемом виде."
        if russian
        else f"This answer can't be used ({times}): {problem}. Answer again, exactly as required."
    )
    quoted = [{"role": "assistant", "content": said[:LONGEST_QUOTE]}] if said.strip() else []
    key = (CHAT if CHAT.asks in body else RESPONSES).asks
    return {**body, key: [*_turns(body), *quoted, {"role": "user", "content": asks}]}
