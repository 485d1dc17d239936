"""What a home's jobs show in Flower, on whatever host that runs, and what is clicked there.

All of it goes through Redis: the coordinator tells how each job stands and how it went over time,
and takes the clicks. Nothing of it is needed to run a job; what Redis forgets is told again.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from contextlib import closing
from pathlib import Path

from msgspec import structs

from batch.coordinator.coordinator_heartbeat import Ailment, Sign, board_name
from batch.coordinator.flower_commands import PLAN, READ, heed, objections
from batch.coordinator.flower_queries import Questions
from batch.coordinator.job_controller import JobController
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.flower_inbox import Wish
from batch.coordinator.worker_status import Presence
from batch.credentials import catalog_url
from batch.reports.answered_table_file import file_names
from batch.reports.output_files import sizes
from batch.store.events import Event, latest
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.watching.progress import Progress, progress_of
from batch.watching.time_series import Series, series_of, unpacked
from jobs.errors import BadMessage, NightshiftError, ServiceUnavailable, UsageError
from jobs.ids import JOB_ID
from jobs.message import N_
from jobs.money import plain
from jobs.pause_reasons import pausing
from jobs.states import ENDED

SERIES_S = 4.0
MOST_DRAWN = 200
"""Jobs that are over, and whose past is gathered from the home if Redis does not know it."""

MOST_EVENTS = 100
"""Of a job that Flower tells."""

PRESENT_S = 2.0
RIVAL_S = 15.0
"""A coordinator that was killed, on a host of another name, is remembered for a shorter time."""

_ALIVE = 1e12
"""Added to the rank of jobs that are not over, so that they stand above all others."""

log = logging.getLogger("nightshift.coordinator")


class Board:
    """The coordinator's side of Flower's Jobs page. `only`: the one job that it works on, or ""."""

    def __init__(
        self, home: Home, redis: CoordinatorRedis, only: str, *, sends_files: bool = True
    ) -> None:
        self._home = home
        self._redis = redis
        self._only = only
        self._questions = Questions(home, redis, sends_files=sends_files)
        self._catalog = catalog_url(os.environ)
        self.name = board_name(home)
        self._home_id = home.id()
        self._served_at = self._present_at = float("-inf")
        self._refused_at: float | None = None
        self._waiting: set[str] = set()
        self._drawn: dict[str, float] = {}
        self._told_ailing: dict[str, Ailment] = {}
        self.ailing: dict[str, Ailment] = {}
        """Jobs that are let be, by their ids."""
        self._to_draw: deque[str] = deque(maxlen=MOST_DRAWN)

    def close(self) -> None:
        """Answers nothing more."""
        self._questions.close()

    # ---- telling ------------------------------------------------------------------------------

    def tell(self, job: JobController, progress: Progress) -> None:
        """How a job stands that is worked on."""
        row = job.store.job()
        (self._waiting.add if _waits(progress) else self._waiting.discard)(job.id)
        document = progress.as_json() | _for_all(row) | self._about(job.store, row, job.lifted_at)
        document |= _around(job.status.presence, job.status.refused_so_far)
        document |= _made_of(progress, document)
        self._redis.status.publish(job.id, document, _rank(row))
        now = time.monotonic()
        if row.ended or now - self._drawn.get(job.id, float("-inf")) >= SERIES_S:
            self._redis.status.publish_series(job.id, job.status.series.packed())
            self._redis.status.publish_events(job.id, _events(job.store))
            self._drawn[job.id] = now
        if row.ended:
            del self._drawn[job.id]
            self._waiting.discard(job.id)

    def tell_ended(self, store: JobStore) -> None:
        """How a job stood when it ended; how it went is drawn later, unless it stands there."""
        row = store.job()
        refused = store.refusals()
        progress = progress_of(row, 0.0, refusals=sum(refused.values()))
        around = _around(Presence(), refused)
        document = progress.as_json() | _for_all(row) | self._about(store, row) | around
        document |= _made_of(progress, document)
        self._redis.status.publish(row.id, document, _rank(row))
        self._to_draw.append(row.id)

    def _about(self, store: JobStore, row: JobRow, lifted_at: float = 0.0) -> dict[str, object]:
        limits = row.spec.limits
        return {
            "home": self.name,
            "at": time.time(),
            "tokens": row.settled_tokens,
            "calls": row.calls,
            "next_chunk": store.chunks.next_number(),
            "invalid": row.invalid,
            "likely_rub": None if row.guess.likely is None else plain(row.guess.likely),
            "window": row.spec.window,
            "rpm": limits.rpm,
            "tpm": limits.tpm,
            "max_in_flight": limits.max_in_flight,
            "priority": row.spec.priority,
            "pace": structs.asdict(row.spec.speed()),
            "lifted_at": lifted_at,
            "objections": objections(row, waits=row.id in self._waiting),
            "files": self._files(row),
        }

    def _files(self, row: JobRow) -> dict[str, int]:
        """Those of a job that is over, and their bytes."""
        if not (row.ended and self._questions.sends_files):
            return {}
        return sizes(Path(row.spec.output_dir), file_names(row.spec))

    # ---- hearing ------------------------------------------------------------------------------

    def serve(self) -> None:
        """Makes sure that nobody serves this home or a copy of it beside us; Redis would give each
        some of the other's results. `UsageError` when somebody does for longer than one that was
        killed is remembered, `ServiceUnavailable` until then.
        """
        now = time.monotonic()
        if now - self._served_at < PRESENT_S:
            return
        if self._redis.status.serve(self._home_id, self.name):
            self._served_at, self._refused_at = now, None
            return
        self._refused_at = self._refused_at or now
        text = N_(
            "another coordinator is already running for this data directory, or a copy"
            " of it, on this Redis"
        )
        if now - self._refused_at > RIVAL_S:
            raise UsageError(
                text,
                hint=N_("stop it, or give the copy another Redis database and remove its home.id"),
            )
        raise ServiceUnavailable(text)

    def turn(self) -> None:
        """A sign of life, the clicks, and the past of one job that is over."""
        now = time.monotonic()
        if now - self._present_at >= PRESENT_S or self.ailing != self._told_ailing:
            self._redis.status.be_present(self.name, Sign(self._only, self.ailing, self._catalog))
            self._present_at, self._told_ailing = now, dict(self.ailing)
        wishes = self._redis.clicks.wishes().items()
        for place, wish in sorted(wishes, key=lambda each: each[1].at):
            job = place.partition("/")[0]
            if self._is_ours(job) and self._redis.clicks.take_wish(place, wish.token):
                self._hear(job, wish)
        if self._to_draw:
            self._draw(self._to_draw.popleft())

    def _is_ours(self, job: str) -> bool:
        named = JOB_ID.fullmatch(job) is not None and self._only in ("", job)
        return named and (self._home.jobs_folder / job).is_dir()

    def _hear(self, job: str, wish: Wish) -> None:
        if wish.wish in (PLAN, READ):
            self._questions.ask(job, wish)
        else:
            self._redis.clicks.answer(wish.token, self._heed(job, wish))

    def _heed(self, job: str, wish: Wish) -> str:
        try:
            with closing(self._home.open(job)) as store:
                came_of_it = heed(store, wish, waits=job in self._waiting)
        except NightshiftError as error:
            log.warning("%s: %s requested in Flower: %s", job, wish.wish, error.message)
            return "trouble"
        log.info("%s: %s requested in Flower: %s", job, wish.wish, came_of_it)
        return came_of_it

    def _draw(self, job: str) -> None:
        """Tells how a job went that is over, if Redis does not know it, or not what it cost."""
        now = time.time()
        try:
            with closing(self._home.open(job, read_only=True)) as store:
                series = self._told(job) or series_of(store, now)
                if series.cost != store.job().settled_rub:
                    series.recount(store, now)
                self._redis.status.publish_series(job, series.packed())
                self._redis.status.publish_events(job, _events(store))
        except ServiceUnavailable:
            raise
        except NightshiftError as error:
            log.debug("%s: %s", job, error.message)

    def _told(self, job: str) -> Series | None:
        try:
            return unpacked(self._redis.status.told_series(job))
        except BadMessage:
            return None


def _waits(progress: Progress) -> bool:
    return progress.down or progress.wait is not None


def _for_all(row: JobRow) -> dict[str, object]:
    """What must not leave the home: the endpoint's words, which may quote a prompt."""
    return {"reason_text": ""} if pausing(row.reason).quotes else {}


def _made_of(progress: Progress, document: dict[str, object]) -> dict[str, object]:
    """What the texts that are told were made of, for pages in another language."""
    told = [progress.reason_text] if document["reason_text"] else []
    told += [each.said for each in (progress.stall,) if each]
    told += [each.told for each in (progress.wait,) if each]
    return {"messages": {str(each): each.data for each in told if each.data}}


def _events(store: JobStore) -> list[Event]:
    """The last of them, without the endpoint's words, which stay at home."""
    return [
        structs.replace(each, text="", data="") if pausing(each.reason).quotes else each
        for each in latest(store.db, MOST_EVENTS)
    ]


def _rank(row: JobRow) -> float:
    return row.created_at + (0 if row.state in ENDED else _ALIVE)


def _around(presence: Presence, refused: dict[str, int]) -> dict[str, object]:
    return {
        "busy": presence.busy,
        "limits": presence.limits,
        "refused": refused,
        "lag_s": presence.lag_s,
    }
