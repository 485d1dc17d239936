"""What somebody looks at in Flower that is not told unasked: what a retry may cost, and files.

Answered from the home by threads of their own: a coordinator's turn waits for neither.
"""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from batch.coordinator.flower_commands import PLAN, READ
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.flower_inbox import Wish
from batch.reports.answered_table_file import file_names
from batch.reports.output_files import Piece, piece
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.errors import NightshiftError
from jobs.money import plain

MOST_BYTES = 4 * 2**20
"""Of a file that pass Redis at a time, for one who reads it."""

_THREADS = 2
_LIFE_S = 10
"""Nobody waits for an answer for longer, and pieces of a file are large."""

log = logging.getLogger("nightshift.coordinator")


class Retried(msgspec.Struct, frozen=True):
    """Failures with one code; ₽ as exact text, None where it is not known or nothing bounds it."""

    code: str
    requests: int
    likely_rub: str | None
    at_most_rub: str | None


class Questions:
    """Answers them. `sends_files`: whether files leave the home."""

    def __init__(self, home: Home, redis: CoordinatorRedis, *, sends_files: bool) -> None:
        self._home = home
        self._redis = redis
        self.sends_files = sends_files
        self._threads = ThreadPoolExecutor(_THREADS, "questions")

    def ask(self, job: str, wish: Wish) -> None:
        """Its answer comes when it is found."""
        self._threads.submit(self._answer, job, wish)

    def close(self) -> None:
        """What nobody began to look for is not answered any more."""
        self._threads.shutdown(cancel_futures=True)

    def _answer(self, job: str, wish: Wish) -> None:
        try:
            with closing(self._home.open(job, read_only=True)) as store:
                told = self._found(store, wish)
        except (NightshiftError, sqlite3.Error, OSError) as error:
            log.warning("%s: %s requested in Flower: %s", job, wish.wish, error)
            told = b""
        with suppress(NightshiftError):
            self._redis.clicks.answer(wish.token, told, life_s=_LIFE_S)

    def _found(self, store: JobStore, wish: Wish) -> bytes:
        if wish.wish == PLAN:
            return msgspec.json.encode(plan(store))
        if self.sends_files and wish.wish == READ:
            return msgspec.msgpack.encode(read(store, wish.file, wish.offset, MOST_BYTES))
        return b""


def plan(store: JobStore) -> list[Retried]:
    """The failures of a job, and what it may cost to send them again."""
    from batch.resume_plan import retries  # loads the estimator, seldom wanted

    return [
        Retried(
            group.code,
            group.requests,
            None if group.likely is None else plain(group.likely),
            None if group.highest is None else plain(group.highest),
        )
        for group in retries(store)
    ]


def read(store: JobStore, name: str, offset: int, most: int) -> Piece:
    """A piece of one of the files that a job wrote; `OSError` for any other."""
    spec = store.job().spec
    if name not in file_names(spec):
        raise OSError(f"{name!r} is no file of the job")
    return piece(Path(spec.output_dir), name, offset, most)
