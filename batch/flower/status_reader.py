"""What the Jobs page knows and asks for: all of it from Redis, where coordinators tell it.

So the page runs on any host, and shows the jobs of every home that uses this Redis.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from batch.coordinator.connection import TIMEOUT_S
from batch.coordinator.post import Wish
from batch.coordinator.sign import Sign
from batch.store.trouble import Trouble
from batch.watching.series import Series, unpacked
from jobs import names
from jobs.errors import BadMessage, ServiceUnavailable
from jobs.heartbeat import Wait
from jobs.ids import JOB_ID
from jobs.money import ZERO
from jobs.seal import Seal
from jobs.states import ENDED, JobState

FRESH_S = 1.0
"""What was read so lately is shown to all who look."""

ANSWER_S = 10.0
_WISHES_S = 600
"""Clicks are withdrawn or stale long before."""

_LOOK_S = 0.05
_MOST_READ = 2000


class Job(msgspec.Struct, frozen=True):
    """A job as its coordinator last told of it (`board`); money in ₽, times in seconds."""

    job: str
    name: str
    state: JobState
    requests: int
    home: str = ""
    reason: str = ""
    reason_text: str = ""
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
    objections: dict[str, str] = {}
    origin: dict[str, str] | None = None

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
    def limit(self) -> int:
        """Calls in flight that the endpoint bears, as far as is known; 0 where it is not."""
        return sum(self.limits.values())


_job = msgspec.json.Decoder(Job)


class Desk:
    """Reads and asks; `ServiceUnavailable` where Redis does not answer."""

    def __init__(self, redis_url: str, seal: Seal) -> None:
        self._seal = seal
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._read_at = float("-inf")
        self._jobs: list[Job] = []
        self._reading = asyncio.Lock()

    async def jobs(self) -> list[Job]:
        """All jobs that are listed: those that are not over first, then the newest."""
        async with self._reading:
            if time.monotonic() - self._read_at > FRESH_S:
                self._jobs = await self._all()
                self._read_at = time.monotonic()
        return self._jobs

    async def _all(self) -> list[Job]:
        try:
            ids = cast(list[bytes], await self._redis.zrevrange(names.JOBS, 0, _MOST_READ - 1))
            if not ids:
                return []
            keys = [names.progress_key(each.decode("ascii", "replace")) for each in ids]
            found = cast(Iterable[bytes | None], await self._redis.mget(keys))
        except (RedisError, OSError) as error:
            raise _away(error) from error
        read = [self._read(key, data) for key, data in zip(keys, found, strict=True)]
        return [job for job in read if job is not None]

    async def job(self, job_id: str) -> Job | None:
        """One job, as fresh as can be; None where nobody told of it."""
        if not JOB_ID.fullmatch(job_id):
            return None
        try:
            data = await self._redis.get(names.progress_key(job_id))
        except (RedisError, OSError) as error:
            raise _away(error) from error
        return self._read(names.progress_key(job_id), cast("bytes | None", data))

    def _read(self, key: str, data: bytes | None) -> Job | None:
        """A job as it was told; None for what is not of our making."""
        try:
            job = _job.decode(self._seal.verify(key, data or b""))
        except (BadMessage, ValueError, RecursionError, ArithmeticError):
            return None
        return job if key == names.progress_key(job.job) else None

    async def series(self, job_id: str) -> Series | None:
        """How a job went over time; None where nobody told."""
        try:
            key = names.series_key(job_id)
            data = cast("bytes | None", await self._redis.get(key))
        except (RedisError, OSError) as error:
            raise _away(error) from error
        try:
            return unpacked(self._seal.verify(key, data)) if data else None
        except BadMessage:
            return None

    async def ask(self, job: Job, wish: str) -> str:
        """Hands a click to the job's coordinator; what came of it, a code of `clicks`."""
        token = secrets.token_hex(8)
        try:
            if not await self._is_coordinated(job):
                return "nobody"
            # Redis's clock: this host's may differ from the coordinator's.
            seconds, _ = await self._redis.time()
            data = msgspec.json.encode(Wish(wish, token, seconds))
            signed = self._seal.sign(names.wish_place(job.job), data)
            await self._redis.hset(names.WISHES, job.job, signed)
            await self._redis.expire(names.WISHES, _WISHES_S)
            return await self._answer(job.job, token)
        except (RedisError, OSError) as error:
            raise _away(error) from error

    async def _is_coordinated(self, job: Job) -> bool:
        key = names.coordinator_key(job.home)
        facts = cast("bytes | None", await self._redis.get(key))
        try:
            there = msgspec.json.decode(self._seal.verify(key, facts or b""), type=Sign)
        except (BadMessage, msgspec.DecodeError):
            return False
        return there.only in ("", job.job)

    async def _answer(self, job: str, token: str) -> str:
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            key = names.answer_key(token)
            code = cast("bytes | None", await self._redis.get(key))
            with suppress(BadMessage):
                answer = self._seal.verify(key, code or b"").decode("ascii", "replace")
                self._read_at = float("-inf")
                return answer
            await asyncio.sleep(_LOOK_S)
        # Withdrawn, so that it is not heeded when nobody expects it any more.
        withdrawn = await self._redis.hdel(names.WISHES, job)
        return "silent" if withdrawn else "slow"


def _away(error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(f"Redis does not answer ({type(error).__name__})")
