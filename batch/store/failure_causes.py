"""Why requests of a job failed, and which answers are worth a look: alike ones told once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from batch.store import messages
from jobs.message import N_

MOST_LISTED = 40
_MOST_EXAMPLES = 8

LASTING = frozenset(
    {
        "endpoint.bad_request",
        "endpoint.context_length",
        "endpoint.model_not_found",
        "endpoint.not_found",
        "endpoint.moderation",
        "endpoint.forbidden",
        "endpoint.too_large",
        "endpoint.unprocessable",
        "endpoint.refused",
        "endpoint.answer_too_large",
    }
)
"""Codes of requests that fail again if they are sent as they stand."""

TRUNCATED = "truncated"
TRUNCATED_IN_FLAGS = "',' || flags || ',' LIKE '%,truncated,%'"
"""Of results: whether the answer was cut off at its limit."""

LIMIT = 4000
_MORE = 4
"""So many times the limit at which answers were cut off is advised, and so many tokens at least."""

MEANINGS = {
    TRUNCATED: N_("cut off at the token limit"),
    "filtered": N_("stopped by a content filter"),
    "model_mismatch": N_("answered by a different model"),
    "refusal": N_("refused by the model"),
    "only_reasoning": N_("with reasoning only"),
    "odd_finish": N_("unusual finish reason"),
    "lone_surrogate": N_("with an invalid character, replaced by U+FFFD"),
}
"""Of the flags of an answer."""


@dataclass
class Cause:
    """Requests with something in common: a code, or a flag of their answers.

    `status` is the HTTP status, None where no answer came; `message` are the words of the first,
    `lines` the first lines of the input.
    """

    code: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    message: str = ""
    status: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "code": self.code,
            "status": self.status,
            "message": str(self.message),
            "requests": self.count,
            "lines": self.lines,
        }


class Causes:
    """Lines by code, status and words, where figures in the words make no difference.

    Those beyond the first `MOST_LISTED` share one with the code "".
    """

    def __init__(self) -> None:
        self._causes: dict[tuple[str, int | None, str], Cause] = {}

    def add(self, code: str, line: int, message: str = "", status: int | None = None) -> None:
        """Counts a line."""
        key = (code, status, _form(message))
        if key not in self._causes and len(self._causes) >= MOST_LISTED:
            key, code, message, status = ("", None, ""), "", "", None
        cause = self._causes.setdefault(key, Cause(code, message=message, status=status))
        cause.count += 1
        if len(cause.lines) < _MOST_EXAMPLES:
            cause.lines.append(line)

    def __iter__(self) -> Iterator[Cause]:
        """The largest first."""
        return iter(sorted(self._causes.values(), key=lambda cause: (-cause.count, cause.code)))

    def __len__(self) -> int:
        return len(self._causes)

    @property
    def count(self) -> int:
        """Lines in all; one that was added twice counts twice."""
        return sum(cause.count for cause in self._causes.values())


@lru_cache(maxsize=1024)
def _form(message: str) -> str:
    """The words of a message, without what differs from request to request."""
    return re.sub(r"\S*\d\S*", "#", message)


@dataclass(frozen=True)
class Why:
    """What came of a job beside sound answers: failures, skipped lines, answers with flags.

    `better_limit` are the `max_tokens` under which answers that were cut off may be whole.
    """

    failures: Causes
    skipped: Causes
    flagged: Causes
    better_limit: int = LIMIT

    @property
    def truncated(self) -> int:
        """Answers that were cut off."""
        return sum(cause.count for cause in self.flagged if cause.code == TRUNCATED)

    @property
    def passing(self) -> bool:
        """Whether any of the failed requests may be answered if it is sent once more as it is."""
        return any(cause.code not in LASTING for cause in self.failures)

    def as_json(self) -> dict[str, Any]:
        """For programs; `flagged` by flag."""
        return {
            "failures": [cause.as_json() for cause in self.failures],
            "skipped": [cause.as_json() for cause in self.skipped],
            "flagged": [
                {"flag": cause.code, "requests": cause.count, "lines": cause.lines}
                for cause in self.flagged
            ],
        }


def why_of(db: sqlite3.Connection) -> Why:
    """Goes through all that failed or is flagged; to be used within a snapshot."""
    why = Why(Causes(), Causes(), Causes(), better_limit(db))
    for code, line, message, status in db.execute(
        "SELECT code, line, message, status FROM results JOIN requests USING (ordinal)"
        " WHERE state = 'failed' ORDER BY ordinal"
    ):
        why.failures.add(code, line, message, status)
    for flags, line in db.execute(
        "SELECT flags, line FROM results JOIN requests USING (ordinal)"
        " WHERE flags <> '' ORDER BY ordinal"
    ):
        for flag in flags.split(","):
            why.flagged.add(flag, line)
    for line, code, message in db.execute("SELECT line, code, message FROM faults ORDER BY line"):
        why.skipped.add(code, line, message)
    for cause in (*why.failures, *why.skipped):
        cause.message = messages.read(db, cause.message)
    return why


def better_limit(db: sqlite3.Connection) -> int:
    """The `max_tokens` under which answers that were cut off may be whole."""
    (highest,) = db.execute(
        "SELECT max(output_bound) FROM results JOIN requests USING (ordinal)"  # noqa: S608
        f" WHERE flags <> '' AND {TRUNCATED_IN_FLAGS}"
    ).fetchone()
    return max(LIMIT, _MORE * (highest or 0))


def failed_lines(db: sqlite3.Connection) -> Iterator[tuple[str, str, int]]:
    """(custom_id, code, ordinal) of each failed request, in input order."""
    yield from db.execute(
        "SELECT custom_id, code, ordinal FROM results JOIN requests USING (ordinal)"
        " WHERE state = 'failed' ORDER BY ordinal"
    )
