"""A look at a job from outside: its row on disk, and what its coordinator last told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any, TypeVar

import msgspec

from batch import embedded_redis
from batch.cli.missing_workers import lack_of_workers
from batch.cli.quality_text import quality_json
from batch.cli.terminal import tell_json
from batch.coordinator.coordinator_heartbeat import Ailment, Sign, board_name
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.redis_client import LOOK_S
from batch.credentials import post_seal
from batch.money.savings import Copies, copies_json, reused_of
from batch.settings import Settings
from batch.store.database import readable
from batch.store.home import Home
from batch.store.incidents import Trouble
from batch.store.jobstore import JobRow, JobStore
from batch.watching.bottleneck_summary import BoundBy
from batch.watching.progress import Progress, at_standstill, progress_of
from batch.watching.staleness import NO_SERVER
from jobs.errors import NightshiftError, NoSuchJob, StorageUnavailable
from jobs.message import NOTHING, Message, message_of
from jobs.money import ZERO
from jobs.names import DATABASE
from jobs.stall import SILENT_S, Signs, Stall, Stalled, goes_on, stalled
from jobs.states import JobState
from jobs.worker_heartbeat import Wait

_ASK_AGAIN_S = 2.0
"""Of many jobs only the first waits for a Redis that does not answer."""

UNREADABLE = "unreadable"
"""The state of a job whose file cannot be read, and of which nobody told anything."""

T = TypeVar("T")


class Told(msgspec.Struct, frozen=True):
    """What a coordinator tells of a job that only it knows."""

    state: JobState
    rate: float
    left_s: float | None
    in_flight: int
    workers: int | None
    refusals: int
    down_s: float
    reason: str
    reason_text: str
    messages: dict[str, str] = {}
    done_at: float | None = None
    stopping: bool = False
    late: bool = False
    trouble: Trouble | None = None
    wait: Wait | None = None
    stall: Stalled | None = None
    bound: BoundBy | None = None
    needs_action: bool = False
    remedy: str = ""
    at: float = 0.0

    def known(self) -> dict[str, Any]:
        """Fields of a `Progress`, the texts with what they were made of."""
        fields = msgspec.structs.asdict(self)
        del fields["at"], fields["trouble"]
        data = fields.pop("messages").get
        fields["reason_text"] = Message.read(self.reason_text, data(self.reason_text))
        if self.wait:
            fields["wait"] = msgspec.structs.replace(self.wait, data=data(self.wait.said, ""))
        if self.stall:
            fields["stall"] = msgspec.structs.replace(self.stall, data=data(self.stall.text, ""))
        return fields


class Remembered(msgspec.Struct, frozen=True):
    """What a coordinator last told of a job whose own file cannot be read."""

    name: str = ""
    state: str = UNREADABLE
    requests: int = 0
    completed: int = 0
    failed: int = 0
    truncated: int = 0
    refusals: int = 0
    spent_rub: Decimal = ZERO
    uncertain_rub: Decimal = ZERO
    uncertain_calls: int = 0
    unbounded_calls: int = 0
    budget_rub: Decimal | None = None
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    deadline: float | None = None
    at: float | None = None

    def progress(self, job_id: str) -> Progress:
        """As one of this job, of which nothing moves."""
        return Progress(
            job=job_id,
            name=self.name,
            state=self.state,
            reason="",
            reason_text=NOTHING,
            requests=self.requests,
            completed=self.completed,
            failed=self.failed,
            truncated=self.truncated,
            rate=0.0,
            left_s=None,
            spent=self.spent_rub,
            booked=self.uncertain_rub,
            unknown=self.uncertain_calls,
            unbounded=self.unbounded_calls,
            budget=self.budget_rub,
            in_flight=0,
            workers=None,
            refusals=self.refusals,
            down_s=0.0,
            times={
                "created_at": self.created_at,
                "started_at": self.started_at,
                "ended_at": self.ended_at,
                "goes_on_at": None,
                "deadline": self.deadline,
            },
        )


class Glance:
    """Looks at jobs of a home. Without Redis it knows less, and nothing fails."""

    def __init__(self, home: Home, settings: Settings, wrong: Message = NOTHING) -> None:
        """`wrong`: what was just found to be wrong with Redis."""
        self._home = home
        self._settings = settings
        self._redis: CoordinatorRedis | None = None
        self._wrong = wrong
        self._asked_at = time.monotonic() if wrong else -_ASK_AGAIN_S

    def at(self, job: JobRow, rate: float = 0.0, refusals: int = 0) -> Progress:
        """The job as it stands; with a coordinator at work, also what is under way."""
        progress = progress_of(job, rate, refusals=refusals)
        if job.ended or not (goes_on(job.state, job.reason) or self._home.is_coordinated(job.id)):
            return progress
        if not self._home.is_coordinated(job.id):
            well_at, is_copied = self._well_at(job), self._home.is_copied()
            return self._stall(progress, Signs(uncoordinated_since=well_at, is_copied=is_copied))
        told = self._asked(lambda redis: redis.status.published(job.id, Told))
        if told is not None and told.state == progress.state:
            progress = replace(progress, **told.known(), trouble=told.trouble or progress.trouble)
        if self._wrong:
            since = self._well_at(job)
            return self._stall(progress, Signs(redis_away_since=since, text=self._wrong))
        return self._heard(progress, told.at if told else 0.0)

    def _heard(self, progress: Progress, at: float) -> Progress:
        """Redis answered, and has a word of that moment of the coordinator, which is at work."""
        if 0.0 <= time.time() - max(at, self._home.touched(progress.job)) < SILENT_S:
            return progress
        present = self._asked(lambda redis: redis.status.present(board_name(self._home), Sign))
        ailment = present and present.ailing.get(progress.job)
        signs = Signs(
            unusable_since=ailment.since if ailment else None,
            text=ailment.told if ailment else NOTHING,
            silent_since=self._home.well_at(),
        )
        return self._stall(progress, signs, at)

    @contextmanager
    def reading(self, job_id: str) -> Iterator[JobStore]:
        """The job's store, opened anew: a file that went away or was replaced meanwhile is met.

        `StorageUnavailable` where it cannot be read, also within.
        """
        with (
            readable(self._home.jobs_folder / job_id / DATABASE),
            closing(self._home.open(job_id, read_only=True)) as store,
        ):
            yield store

    def one(
        self, job_id: str, show: Callable[[JobStore], T], instead: Callable[[Progress], T]
    ) -> T:
        """What is to be shown of a job, and `instead` of one whose file cannot be read."""
        try:
            with self.reading(job_id) as store:
                return show(store)
        except StorageUnavailable as error:
            return instead(self.unusable(job_id, error.message))

    def each(
        self,
        show: Callable[[JobStore], T],
        instead: Callable[[Progress], T],
        states: Collection[str] = (),
    ) -> Iterator[T]:
        """The same of all jobs, or of those in these states: the newest first, then those whose
        folder went away while a coordinator was at work on them.
        """

        def shown(store: JobStore) -> T | None:
            return show(store) if not states or store.job().state in states else None

        def unread(progress: Progress) -> T | None:
            return instead(progress) if not states or progress.state in states else None

        there = self._home.job_ids()
        gone = ((job, each.told) for job, each in self._ailing().items() if job not in there)
        found = chain(
            (self.one(job_id, shown, unread) for job_id in reversed(there)),
            (unread(self.unusable(job_id, why)) for job_id, why in gone),
        )
        yield from (each for each in found if each is not None)

    def find(self, named: str) -> str:
        """The id of the job that is meant, also of one whose folder went away; `NoSuchJob`."""
        try:
            return self._home.find(named)
        except NoSuchJob:
            gone = [each for each in self._ailing() if named and each.endswith(named)]
            if len(gone) != 1:
                raise
            return gone[0]

    def unusable(self, job_id: str, why: Message, before: Progress | None = None) -> Progress:
        """A job whose file cannot be read: as it was `before`, or as was told of it last."""
        told = self._asked(lambda redis: redis.status.published(job_id, Remembered))
        told = told or Remembered()
        ailment = self._ailing().get(job_id)
        since = ailment.since if ailment else self._home.touched(job_id) or time.time()
        stall = Stalled(Stall.JOB_UNUSABLE, since, str(why), why.data)
        return at_standstill(before or told.progress(job_id), stall, told.at)

    def _ailing(self) -> dict[str, Ailment]:
        """Of the coordinator at work: what keeps it from which jobs."""
        if not self._home.is_coordinated():
            return {}
        sign = self._asked(lambda redis: redis.status.present(board_name(self._home), Sign))
        return sign.ailing if sign else {}

    def _stall(self, progress: Progress, signs: Signs, at: float = 0.0) -> Progress:
        """As it stands still, if by these signs it does; `at` is when it was last told."""
        stall = stalled(progress.state, progress.reason, signs, time.time())
        shown_at = max(at, self._home.touched(progress.job))
        if signs.uncoordinated_since is not None:
            shown_at = min(shown_at, signs.uncoordinated_since)
        return at_standstill(progress, stall, shown_at) if stall else progress

    def _well_at(self, job: JobRow) -> float:
        """When a coordinator was last well. The job's file does not tell: after a kill, whoever
        looks into it changes it, for SQLite then tidies up what was not yet in its place.
        """
        return max(self._home.well_at(), job.created_at)

    def document(self, job_id: str) -> dict[str, Any]:
        """What programs are told of one job, also where its file cannot be read."""
        return self.one(job_id, self.all_of, without_facts)

    def all_of(self, store: JobStore) -> dict[str, Any]:
        """What programs are told of one job; amounts are exact strings in ₽."""
        refusals = sum(store.refusals().values())
        return {**self.at(store.job(), refusals=refusals).as_json(), **facts_of(store)}

    def close(self) -> None:
        """Drops the connection."""
        if self._redis:
            self._redis.close()

    def lack_of_workers(self, job: JobRow) -> str:
        """Why no worker runs the job, though a coordinator would have it run; empty else."""
        if self._wrong or not self._home.is_coordinated(job.id):
            return ""
        with suppress(NightshiftError, ValueError):
            if redis := self._connected():
                return lack_of_workers(job, redis.status.workers(), redis.status.strangers)
        return ""

    def _asked(self, ask: Callable[[CoordinatorRedis], T | None]) -> T | None:
        """What Redis answers; None where it does not, and what is wrong then is kept."""
        if self._wrong and time.monotonic() - self._asked_at < _ASK_AGAIN_S:
            return None
        try:
            redis = self._connected()
            self._wrong = NOTHING if redis else NO_SERVER
            return ask(redis) if redis else None
        except (NightshiftError, ValueError) as error:
            self._wrong = message_of(error)
            return None
        finally:
            self._asked_at = time.monotonic()

    def _connected(self) -> CoordinatorRedis | None:
        if self._redis is None:
            url = self._settings.redis_url or embedded_redis.find(self._home.folder)
            if url is not None:
                seal = post_seal(self._settings, self._home.folder)
                self._redis = CoordinatorRedis(url, seal, LOOK_S)
        return self._redis


def worst(jobs: Iterable[Progress]) -> list[Progress]:
    """Of those that stand still one for each trouble, the one that does so for longest."""
    found: dict[str, Progress] = {}
    for job in sorted(jobs, key=lambda each: each.stall.since if each.stall else 0):
        if job.stall:
            found.setdefault(job.stall.said, job)
    return list(found.values())


def facts_of(store: JobStore) -> dict[str, Any]:
    """What programs are told beside of a job that does not change by itself, and why."""
    job, refusals = store.job(), store.refusals()
    return {
        "refusals_by_code": refusals,
        "output_dir": job.spec.output_dir,
        "invalid": job.invalid,
        "model": job.spec.model,
        "base_url": job.spec.base_url,
        **quality_json(store),
        "reused": copies_json(reused_of(store)),
        **store.why().as_json(),
    }


def without_facts(progress: Progress) -> dict[str, Any]:
    """What programs are told of a job whose file cannot be read."""
    return {
        **progress.as_json(),
        "refusals_by_code": {},
        "output_dir": "",
        "invalid": 0,
        "base_url": "",
        **dict.fromkeys(("model", "checked", "packs", "gold", "review")),
        "reused": copies_json(Copies(0, ZERO)),
        **{name: [] for name in ("failures", "skipped", "flagged")},
    }


def tell_programs(home: Home, settings: Settings, job_id: str) -> None:
    """How a job stands, as one line of JSON on standard output."""
    with closing(Glance(home, settings)) as glance:
        tell_json(glance.document(job_id))
