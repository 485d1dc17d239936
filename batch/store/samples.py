"""Requests that stand for all of a job, with what they brought: to learn from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any


def answered_samples(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """(shape, model, output_bound, five counts of tokens, cost, provider, latency_s) of samples
    that were answered.
    """
    return db.execute(
        "SELECT shape, name, output_bound, prompt, completion, cached, written, reasoning, cost,"
        " provider, calls.latency_s FROM samples JOIN results USING (ordinal)"
        " JOIN calls ON calls.ordinal = samples.ordinal AND calls.id = results.call"
        " JOIN requests ON requests.ordinal = samples.ordinal JOIN models ON models.id = model"
        # A prompt of no tokens is what a few endpoints say by mistake.
        " WHERE results.state = 'completed' AND prompt > 0 ORDER BY samples.ordinal"
    )


def all_samples(db: sqlite3.Connection) -> Iterator[tuple[str, int | None, int, bytes]]:
    """(model, output_bound, prompt_bound, shape) of each sample."""
    return db.execute(
        "SELECT name, output_bound, prompt_bound, shape FROM samples JOIN requests USING (ordinal)"
        " JOIN models ON models.id = model ORDER BY ordinal"
    )


def requests_by_model(
    db: sqlite3.Connection, *, tried: bool = False
) -> Iterator[tuple[str, int, int]]:
    """(model, requests, sum of their prompt bounds) of those that are bought; `tried`: of those
    that were asked in packs as well, to compare.
    """
    among = f" AND ordinal IN ({_TRIED})" if tried else ""
    return db.execute(
        "SELECT name, count(*), sum(prompt_bound) FROM requests JOIN models ON models.id = model"  # noqa: S608
        " WHERE ordinal NOT IN (SELECT ordinal FROM copies)"
        f" AND ordinal NOT IN (SELECT ordinal FROM reused){among} GROUP BY name"
    )


_TRIED = "SELECT ordinal FROM shares WHERE chunk IN (SELECT chunk FROM units WHERE rung < 0)"
