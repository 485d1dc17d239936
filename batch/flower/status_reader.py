"""What the Jobs page knows and asks for: all of it from Redis, where coordinators tell it.

So the page runs on any host, and shows the jobs of every home that uses this Redis.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import closing, suppress
from decimal import Decimal
from typing import Any, cast

import msgspec
from msgspec import structs
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from batch.coordinator.coordinator_heartbeat import Sign, board_name
from batch.coordinator.flower_commands import PLAN, READ
from batch.coordinator.flower_queries import Retried, read
from batch.coordinator.redis.flower_inbox import Wish
from batch.coordinator.redis.redis_client import LOOK_S
from batch.reports.output_files import Piece
from batch.store.events import Event
from batch.store.home import Home
from batch.store.incidents import Trouble
from batch.watching.bottleneck_summary import BoundBy
from batch.watching.time_series import Series, unpacked
from jobs import names
from jobs.errors import BadMessage, NightshiftError, ServiceUnavailable
from jobs.ids import JOB_ID
from jobs.message import N_, NOTHING, Message
from jobs.money import ZERO
from jobs.priority import NORMAL
from jobs.signing import Seal
from jobs.stall import Signs, Stalled, stalled
from jobs.states import ENDED, JobState
from jobs.worker_heartbeat import Wait

FRESH_S = 1.0
"""What was read so lately is shown to all who look."""

ANSWER_S = 10.0
_WISHES_S = 600
"""Clicks are withdrawn or stale long before."""

_LOOK_S = 0.05
_READ_HERE = 2**20
_MOST_READ = 2000
_KEPT = 40
"""Courses and events of jobs that are shown on while Redis is away."""

_RESPITE_S = 1.0
"""What did not answer a page's first question is not asked its others, each of which would wait."""


class Job(msgspec.Struct, frozen=True):
    """A job as its coordinator last told of it (`board`); money in ₽, times in seconds."""

    job: str
    name: str
    state: JobState
    requests: int
    home: str = ""
    reason: str = ""
    reason_text: str = ""
    messages: dict[str, str] = {}
    """What its texts were made of; see `said`."""
    needs_action: bool = False
    remedy: str = ""
    completed: int = 0
    failed: int = 0
    invalid: int = 0
    rate: float = 0.0
    left_s: float | None = None
    spent_rub: Decimal = ZERO
    uncertain_rub: Decimal = ZERO
    budget_rub: Decimal | None = None
    likely_rub: Decimal | None = None
    forecast_rub: Decimal | None = None
    done_at: float | None = None
    late: bool = False
    deadline: float | None = None
    tokens: int = 0
    calls: int = 0
    in_flight: int = 0
    workers: int | None = None
    busy: int = 0
    refusals: int = 0
    refused: dict[str, int] = {}
    limits: dict[str, int] = {}
    rpm: int | None = None
    tpm: int | None = None
    max_in_flight: int | None = None
    window: str | None = None
    lag_s: float = 0.0
    down: bool = False
    trouble: Trouble | None = None
    wait: Wait | None = None
    at: float = 0.0
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    bound: BoundBy | None = None
    stall: Stalled | None = None
    objections: dict[str, str] = {}
    origin: dict[str, str] | None = None
    priority: float = NORMAL
    files: dict[str, int] = {}
    coordinated: bool = False
    """Whether its coordinator is there, at the look."""

    def said(self, text: str) -> Message:
        """One of its texts, with what it was made of."""
        return Message.read(text, self.messages.get(text))

    @property
    def left(self) -> int:
        """Requests that have no result yet."""
        return max(self.requests - self.completed - self.failed, 0)

    @property
    def share(self) -> float:
        """Of the requests, those that have their result; percent."""
        done = self.completed + self.failed
        return min(100 * done / self.requests, 100.0) if self.requests else 100.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED

    @property
    def rests(self) -> bool:
        """Whether it is paused."""
        return self.state is JobState.PAUSED

    @property
    def runs(self) -> bool:
        """Whether it is neither over nor paused."""
        return not self.ended and not self.rests

    @property
    def moves(self) -> bool:
        """Whether what was told of how it goes is so now."""
        return self.runs and not (self.stall and self.stall.reason.is_deaf)

    @property
    def unset(self) -> list[str]:
        """Limits of its own that it does not have."""
        return [name for name in ("rpm", "tpm", "max_in_flight") if not getattr(self, name)]

    @property
    def limit(self) -> int:
        """Calls in flight that the endpoint bears, as far as is known; 0 where it is not."""
        return sum(self.limits.values())


_job = msgspec.json.Decoder(Job)
_events = msgspec.json.Decoder(list[Event])
_retried = msgspec.json.Decoder(list[Retried])
_piece = msgspec.msgpack.Decoder(Piece)


class FileGone(Exception):
    """A file that cannot be read, or is not what it was when its first bytes were."""


class Desk:
    """Reads and asks. What was read once is shown as standing still while Redis does not answer;
    `ServiceUnavailable` where nothing was. Files of the jobs of `home`, if it has any, are read
    there.
    """

    def __init__(self, redis_url: str, seal: Seal, home: Home | None = None) -> None:
        self._seal = seal
        self._home = home
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=LOOK_S,
            socket_connect_timeout=LOOK_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._read_at = float("-inf")
        self._jobs: list[Job] = []
        self._away_since: float | None = None
        self._heard: dict[str, tuple[float, float]] = {}
        self._kept: OrderedDict[str, bytes | None] = OrderedDict()
        self._failed_at = float("-inf")
        self._reading = asyncio.Lock()

    async def jobs(self) -> list[Job]:
        """All jobs that are listed: those that are not over first, then the newest."""
        async with self._reading:
            if time.monotonic() - self._read_at > FRESH_S:
                try:
                    self._jobs = await self._all()
                    self._away_since = None
                except ServiceUnavailable as error:
                    self._jobs = self._away(error)
                self._read_at = time.monotonic()
        return self._jobs

    def _away(self, error: ServiceUnavailable) -> list[Job]:
        """What was read last, if anything was."""
        if not self._jobs:
            raise error
        self._away_since = self._away_since or time.time()
        signs = Signs(redis_away_since=self._away_since, text=error.message)
        return [_judged(job, signs) for job in self._jobs]

    async def _all(self) -> list[Job]:
        try:
            ids = cast(list[bytes], await self._redis.zrevrange(names.JOBS, 0, _MOST_READ - 1))
            if not ids:
                return []
            keys = [names.progress_key(each.decode("ascii", "replace")) for each in ids]
            found = cast(Iterable[bytes | None], await self._redis.mget(keys))
            read = [self._read(key, data) for key, data in zip(keys, found, strict=True)]
            return await self._seen([job for job in read if job is not None])
        except (RedisError, OSError) as error:
            raise _away(error) from error

    async def job(self, job_id: str) -> Job | None:
        """One job, as fresh as can be; None where nobody told of it."""
        if not JOB_ID.fullmatch(job_id):
            return None
        try:
            data = await self._redis.get(names.progress_key(job_id))
            read = self._read(names.progress_key(job_id), cast("bytes | None", data))
            return (await self._seen([read]))[0] if read else None
        except (RedisError, OSError) as error:
            self._failed_at = time.monotonic()
            known = self._away(_away(error))
            found = next((job for job in known if job.job == job_id), None)
            if found is None:
                raise _away(error) from error
            return found

    async def _seen(self, jobs: list[Job]) -> list[Job]:
        """These, and of each that stands still that it does."""
        homes = list({job.home for job in jobs})
        keys = [names.coordinator_key(home) for home in homes]
        found = cast("list[bytes | None]", await self._redis.mget(keys)) if keys else []
        signs = {
            home: sign
            for home, key, data in zip(homes, keys, found, strict=True)
            if (sign := self._sign(key, data)) is not None
        }
        return [self._judge(job, signs.get(job.home)) for job in jobs]

    def _judge(self, job: Job, sign: Sign | None) -> Job:
        """By this host's clock, not the coordinator's: it is silent while what it tells is old."""
        now = time.time()
        at, heard_at = self._heard.get(job.job, (0.0, now))
        self._heard[job.job] = job.at, heard_at if at == job.at else now
        is_there = sign is not None and sign.only in ("", job.job)
        job = structs.replace(job, coordinated=is_there)
        ailment = sign.ailing.get(job.job) if sign else None
        signs = Signs(
            uncoordinated_since=None if is_there else min(job.at, now),
            unusable_since=ailment.since if ailment else None,
            text=ailment.told if ailment else NOTHING,
            silent_since=self._heard[job.job][1],
        )
        return job if job.ended else _judged(job, signs)

    def _sign(self, key: str, data: bytes | None) -> Sign | None:
        """A coordinator's sign of life; None where none is there, or it is not of our making."""
        try:
            return msgspec.json.decode(self._seal.verify(key, data or b""), type=Sign)
        except (BadMessage, msgspec.DecodeError):
            return None

    def _read(self, key: str, data: bytes | None) -> Job | None:
        """A job as it was told; None for what is not of our making."""
        try:
            job = _job.decode(self._seal.verify(key, data or b""))
        except (BadMessage, ValueError, RecursionError, ArithmeticError):
            return None
        return job if key == names.progress_key(job.job) else None

    async def series(self, job_id: str) -> Series | None:
        """How a job went over time, as far as was told last; None where nobody told."""
        key = names.series_key(job_id)
        data = await self._get(key)
        try:
            return unpacked(self._seal.verify(key, data)) if data else None
        except BadMessage:
            return None

    async def events(self, job_id: str) -> list[Event]:
        """What happened to a job, the last first; empty where nobody told."""
        key = names.events_key(job_id)
        data = await self._get(key)
        try:
            return _events.decode(self._seal.verify(key, data or b""))
        except (BadMessage, ValueError):
            return []

    async def _get(self, key: str) -> bytes | None:
        """What Redis has there; while it does not answer, what it had last, if it ever told."""
        try:
            if time.monotonic() - self._failed_at < _RESPITE_S:
                raise ConnectionError
            data = cast("bytes | None", await self._redis.get(key))
        except (RedisError, OSError) as error:
            if key in self._kept:
                return self._kept[key]
            raise _away(error) from error
        self._kept[key] = data
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data

    async def ask(
        self,
        job: Job,
        wish: str,
        *,
        codes: tuple[str, ...] = (),
        figures: Mapping[str, str] = {},
    ) -> str:
        """Hands a click to the job's coordinator; what came of it, a code of `clicks`."""
        if not job.coordinated:
            return "nobody"
        told = await self._ask(job, wish, codes=codes, figures=dict(figures))
        return told if isinstance(told, str) else told.decode("ascii", "replace")

    async def retries(self, job: Job) -> list[Retried] | None:
        """What it may cost to send the job's failures again; None where nobody answers."""
        told = await self._asked(job, PLAN) if job.coordinated else b""
        try:
            return _retried.decode(told)
        except ValueError:
            return None

    async def pieces(self, job: Job, name: str) -> AsyncIterator[Piece]:
        """One of the job's files, piece by piece; `FileGone` where it cannot be had."""
        offset, mark = 0, ""
        while True:
            found = await self._piece(job, name, offset)
            if found is None or mark not in ("", found.mark):
                raise FileGone
            yield found
            offset, mark = offset + len(found.data), found.mark
            if offset >= found.size:
                return
            if not found.data:
                raise FileGone

    async def _piece(self, job: Job, name: str, offset: int) -> Piece | None:
        if self._home is not None and self.is_here(job):
            return await asyncio.to_thread(_piece_of, self._home, job.job, name, offset)
        if not job.coordinated:
            return None
        try:
            return _piece.decode(await self._asked(job, READ, file=name, offset=offset))
        except ValueError:
            return None

    def is_here(self, job: Job) -> bool:
        """Whether the job's home is ours."""
        return self._home is not None and board_name(self._home) == job.home

    async def _asked(self, job: Job, wish: str, **more: Any) -> bytes:
        """The answer to a question; empty where none came."""
        told = await self._ask(job, wish, **more)
        return b"" if isinstance(told, str) else told

    async def _ask(self, job: Job, wish: str, **more: Any) -> bytes | str:
        """What a coordinator answers, or the code of why it does not. Nothing that is asked of the
        same job at a time takes its place.
        """
        token = secrets.token_hex(8)
        place = f"{job.job}/{token}"
        try:
            # Redis's clock: this host's may differ from the coordinator's.
            seconds, _ = await self._redis.time()
            data = msgspec.json.encode(Wish(wish, token, seconds, **more))
            signed = self._seal.sign(names.wish_place(place), data)
            await self._redis.hset(names.WISHES, place, signed)
            await self._redis.expire(names.WISHES, _WISHES_S)
            return await self._answer(place, token)
        except (RedisError, OSError) as error:
            raise _away(error) from error

    async def _answer(self, place: str, token: str) -> bytes | str:
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            key = names.answer_key(token)
            told = cast("bytes | None", await self._redis.get(key))
            with suppress(BadMessage):
                answer = self._seal.verify(key, told or b"")
                self._read_at = float("-inf")
                return answer
            await asyncio.sleep(_LOOK_S)
        # Withdrawn, so that it is not heeded when nobody expects it any more.
        withdrawn = await self._redis.hdel(names.WISHES, place)
        return "silent" if withdrawn else "slow"


def _piece_of(home: Home, job: str, name: str, offset: int) -> Piece | None:
    try:
        with closing(home.open(job, read_only=True)) as store:
            return read(store, name, offset, _READ_HERE)
    except (NightshiftError, sqlite3.Error, OSError):
        return None


def _judged(job: Job, signs: Signs) -> Job:
    """A job, or as it stands still by these signs: without what only one has that moves."""
    stall = stalled(job.state, job.reason, signs, time.time()) or job.stall
    if stall is None:
        return job
    return structs.replace(
        job,
        stall=stall,
        bound=None,
        rate=0.0,
        left_s=None,
        done_at=None,
        in_flight=0 if stall.reason.is_deaf else job.in_flight,
        needs_action=True,
        remedy=stall.reason.rule.command.format(job=job.job),
    )


def _away(error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(N_("Redis does not answer ({kind})", kind=type(error).__name__))
