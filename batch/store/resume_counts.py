"""What a resume sends again, counted by why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from itertools import accumulate

from batch.store.failure_causes import TRUNCATED_IN_FLAGS


class Kind(StrEnum):
    """Why requests are sent by a resume."""

    NEVER_SENT = "never_sent"
    CAME_BACK = "came_back"
    """Sent before, and refused at no cost or not at all: it waited for a better moment."""
    UNCERTAIN = "uncertain"
    """An earlier call of it may have been billed, and brought no answer."""
    UNDER_WAY = "under_way"
    """In flight when all stopped, as far as anybody can tell."""
    FAILED = "failed"
    TRUNCATED = "truncated"
    """Answered, but cut off: the answer is bought again under a higher limit."""


_FEATURES = "name, prompt_bound, output_bound, bounded, pin, count(*)"
_GROUPED = "GROUP BY model, prompt_bound, output_bound, bounded"
_QUERIES = {
    Kind.NEVER_SENT: "WHERE ordinal IN"
    " (SELECT ordinal FROM queue WHERE rank > (SELECT cursor FROM job)) OR ordinal IN"
    " (SELECT ordinal FROM returned WHERE attempts = 0 AND uncertain = 0"
    " AND ordinal NOT IN (SELECT ordinal FROM suspects))"
    " OR ordinal IN (SELECT value FROM json_each(?1))",
    Kind.CAME_BACK: "WHERE ordinal IN (SELECT ordinal FROM returned WHERE attempts > 0"
    " AND uncertain = 0 AND ordinal NOT IN (SELECT ordinal FROM suspects))"
    " OR ordinal IN (SELECT value FROM json_each(?1))",
    Kind.UNCERTAIN: "WHERE ordinal IN (SELECT ordinal FROM returned WHERE uncertain > 0"
    " OR ordinal IN (SELECT ordinal FROM suspects))"
    " OR ordinal IN (SELECT value FROM json_each(?1))",
    Kind.UNDER_WAY: "WHERE ordinal IN (SELECT value FROM json_each(?1))",
    Kind.FAILED: "JOIN results USING (ordinal) WHERE state = 'failed' AND code = ?1"
    " AND ordinal NOT IN (SELECT ordinal FROM copies)",
    Kind.TRUNCATED: "JOIN results USING (ordinal) WHERE flags <> '' AND "  # noqa: S608
    + TRUNCATED_IN_FLAGS
    + " AND coalesce(output_bound, 1) BETWEEN 1 AND CAST(?1 AS INTEGER) - 1"
    " AND ordinal NOT IN (SELECT ordinal FROM copies)",
}


def alike_in(
    db: sqlite3.Connection, kind: Kind, value: str
) -> Iterator[tuple[str, int, int | None, int, str, int]]:
    """(model, prompt_bound, output_bound, bounded, pin, how many) of requests that are alike.

    `value`: the code of failures, the new limit of truncated answers, else the ordinals, as JSON,
    of those that were handed out.
    """
    limited = kind is Kind.TRUNCATED
    features = _FEATURES.replace("output_bound", "CAST(?1 AS INTEGER)") if limited else _FEATURES
    return db.execute(
        f"SELECT {features} FROM requests JOIN models ON models.id = model"  # noqa: S608
        f" {_QUERIES[kind]} {_GROUPED}",
        (value,) if "?1" in _QUERIES[kind] else (),
    )


def opened(db: sqlite3.Connection, ordinals: list[int], tokens: int | None) -> list[int]:
    """Those of a chunk's requests, in its order, of which calls may be in flight: by their bounds
    they fit into the `tokens` that its worker has opened and not used; None: any may.
    """
    bounds = dict(
        db.execute(
            "SELECT ordinal, prompt_bound + coalesce(output_bound, 0) FROM requests"
            " WHERE ordinal IN (SELECT value FROM json_each(?1))",
            (json.dumps(ordinals),),
        ).fetchall()
    )
    sums = accumulate(bounds[ordinal] for ordinal in ordinals)
    return [
        ordinal
        for ordinal, used in zip(ordinals, sums, strict=True)
        if tokens is None or used - bounds[ordinal] < tokens
    ]


def failed_by_code(db: sqlite3.Connection) -> dict[str, int]:
    """How many requests failed with each code."""
    rows = db.execute(
        "SELECT code, count(*) FROM results WHERE state = 'failed' GROUP BY code ORDER BY code"
    )
    return dict(rows.fetchall())
