"""The home's side of Redis: chunks out, deliveries in, who is there.

Every command gives up within seconds; a failure of any kind is `ServiceUnavailable`, and the
coordinator simply tries again: nothing that Redis holds is needed to know what must be done.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from jobs import names
from jobs.chunk import Payload
from jobs.errors import BadMessage, ServiceUnavailable, UsageError
from jobs.wire import Delivery, pack_payload, unpack_delivery

TIMEOUT_S = 4.0
WITHDRAWN = "withdrawn"
_HOLD_S = 24 * 3600
_PROGRESS_S = 7 * 24 * 3600
MOST_LISTED = 1000
"""Jobs that Flower lists: those that are not over, and the newest of the others."""

_PRESENT_S = 10
_ANSWER_S = 60
_WISH_S = 60.0
"""A click that nobody heard for so long is not heeded later, when nobody expects it any more."""

READ_AT_ONCE = 64
"""Deliveries of a job that one read brings at most."""


@dataclass(frozen=True)
class Mail:
    """Stream entries of one job: their ids, and those that could be read."""

    job: str
    entries: list[bytes]
    deliveries: list[Delivery]
    garbage: int


class Wish(msgspec.Struct, frozen=True):
    """A click in Flower at `at`, Unix seconds; what comes of it is answered to `token`."""

    wish: str
    token: str
    at: float


class Post:
    """Redis, as the coordinator uses it."""

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def close(self) -> None:
        """Drops the connections."""
        self._redis.close()

    def check(self) -> str:
        """Whether Redis is there and safe to use; returns its version.

        Raises `ServiceUnavailable` if it does not answer, `UsageError` for a wrong password or an
        eviction policy that may drop messages in silence.
        """
        with _as_ours():
            self._redis.ping()
            info = self._redis.info()
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise UsageError(
                f"this Redis drops keys when it is full (maxmemory-policy {policy})",
                hint="set maxmemory-policy noeviction",
            )
        return str(info.get("valkey_version") or info.get("redis_version", "?"))

    def epoch(self) -> str:
        """A mark that Redis keeps as long as it keeps its memory; made if there is none."""
        with _as_ours():
            self._redis.set(names.EPOCH, secrets.token_hex(8), nx=True)
            return cast(bytes, self._redis.get(names.EPOCH) or b"").decode()

    # ---- chunks -------------------------------------------------------------------------------

    def put_payload(self, payload: Payload) -> None:
        """Lays a chunk down for the worker that will take it."""
        with _as_ours():
            self._redis.set(names.payload_key(payload.job, payload.chunk), pack_payload(payload))

    def forget_chunks(self, job: str, chunks: list[int]) -> None:
        """Chunks that are closed or given up need no payload any more, so nobody can take them."""
        if chunks:
            keys = (names.payload_key, names.taken_key, names.claim_key)
            with _as_ours():
                self._redis.delete(*(key(job, chunk) for key in keys for chunk in chunks))

    def withdraw(self, job: str, chunk: int) -> bool:
        """Takes a chunk back before any worker takes it; False if one did."""
        with _as_ours():
            if self._redis.exists(names.taken_key(job, chunk)):
                return False
            if not self._redis.set(names.claim_key(job, chunk), WITHDRAWN, nx=True, ex=_HOLD_S):
                return False
            self._redis.delete(names.payload_key(job, chunk))
        return True

    def claims(self, job: str, chunks: list[int]) -> dict[int, str]:
        """Who runs each chunk: a worker's name, or `done`; chunks that nobody runs are left out."""
        if not chunks:
            return {}
        with _as_ours():
            found = cast(
                list[bytes | None],
                self._redis.mget([names.claim_key(job, chunk) for chunk in chunks]),
            )
        return {chunk: name.decode() for chunk, name in zip(chunks, found, strict=True) if name}

    def taken(self, job: str, chunks: list[int]) -> list[int]:
        """Of these chunks, those that a worker took at some time, whether or not it still lives."""
        if not chunks:
            return []
        with _as_ours():
            found = cast(
                list[bytes | None],
                self._redis.mget([names.taken_key(job, chunk) for chunk in chunks]),
            )
        return [chunk for chunk, name in zip(chunks, found, strict=True) if name]

    def queued(self, queue: str) -> int:
        """Messages that wait in a Celery queue, over all its priorities."""
        with _as_ours(), self._redis.pipeline(transaction=False) as pipe:
            for suffix in ("", "\x06\x163", "\x06\x166", "\x06\x169"):
                pipe.llen(f"{names.CELERY_PREFIX}{queue}{suffix}")
            return sum(pipe.execute())

    def hold(self, job: str, reason: str) -> None:
        """Tells workers to start nothing of a job."""
        with _as_ours():
            self._redis.set(names.hold_key(job), reason, ex=_HOLD_S)

    def unhold(self, job: str) -> None:
        """Lets workers go on with a job."""
        with _as_ours():
            self._redis.delete(names.hold_key(job))

    # ---- results -------------------------------------------------------------------------------

    def read(self, jobs: list[str], wait_s: float) -> list[Mail]:
        """Deliveries that arrived for any of these jobs, waiting a moment for the first.

        A wait of 0 looks only; any other lasts up to 0.1 s longer, by the server's own clock.
        """
        if not jobs:
            return []
        streams = {names.results_key(job): "0" for job in jobs}
        with _as_ours():
            found = self._redis.xread(
                cast(Any, streams), count=READ_AT_ONCE, block=int(wait_s * 1000) or None
            )
        return [self._mail(key, entries) for key, entries in cast(Any, found or [])]

    @staticmethod
    def _mail(key: bytes, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Mail:
        job = key.decode().rsplit(":", 1)[-1]
        read = [_delivery(job, fields) for _, fields in entries]
        deliveries = [delivery for delivery in read if delivery is not None]
        return Mail(job, [entry for entry, _ in entries], deliveries, len(read) - len(deliveries))

    def acknowledge(self, mail: Mail) -> None:
        """All of it is on disk: the stream and the outboxes may forget it."""
        with _as_ours(), self._redis.pipeline(transaction=True) as pipe:
            for delivery in mail.deliveries:
                pipe.rpush(names.acks_key(delivery.outbox), delivery.sequence)
                pipe.expire(names.acks_key(delivery.outbox), _HOLD_S)
            pipe.xdel(names.results_key(mail.job), *mail.entries)
            pipe.execute()

    # ---- looking ---------------------------------------------------------------------------------

    def workers(self) -> list[dict[str, Any]]:
        """What each worker that is there wrote of itself."""
        with _as_ours():
            keys = list(self._redis.scan_iter(names.worker_key("*"), count=1000))
            found = cast(list[bytes | None], self._redis.mget(keys)) if keys else []
        return [msgspec.json.decode(data) for data in found if data]

    def publish(self, job: str, progress: dict[str, object], rank: float) -> None:
        """Tells whoever watches how a job stands; Flower lists those of the highest rank."""
        with _as_ours(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(names.progress_key(job), msgspec.json.encode(progress), ex=_PROGRESS_S)
            pipe.zadd(names.JOBS, {job: rank})
            pipe.zremrangebyrank(names.JOBS, 0, -MOST_LISTED - 1)
            pipe.execute()

    def publish_series(self, job: str, series: bytes) -> None:
        """Tells how a job went over time."""
        with _as_ours():
            self._redis.set(names.series_key(job), series, ex=_PROGRESS_S)

    def told_series(self, job: str) -> bytes:
        """What was last told of how a job went over time; empty where nothing was."""
        with _as_ours():
            return cast(bytes | None, self._redis.get(names.series_key(job))) or b""

    def be_present(self, home: str, facts: dict[str, object]) -> None:
        """A coordinator's sign of life."""
        with _as_ours():
            self._redis.set(names.coordinator_key(home), msgspec.json.encode(facts), ex=_PRESENT_S)

    def wishes(self) -> dict[str, Wish]:
        """What was clicked for which job, and not yet taken; what is too old is dropped."""
        with _as_ours():
            found = cast(dict[bytes, bytes], self._redis.hgetall(names.WISHES))
            read = {job.decode(): _wish(data) for job, data in found.items()}
            stale = [
                job
                for job, wish in read.items()
                if wish is None or not -_WISH_S < time.time() - wish.at < _WISH_S
            ]
            if stale:
                self._redis.hdel(names.WISHES, *stale)
        return {job: wish for job, wish in read.items() if wish and job not in stale}

    def take_wish(self, job: str) -> bool:
        """Makes a wish ours; False if it was withdrawn, or somebody else took it."""
        with _as_ours():
            return bool(self._redis.hdel(names.WISHES, job))

    def answer(self, token: str, code: str) -> None:
        """Tells who clicked what came of it."""
        with _as_ours():
            self._redis.set(names.answer_key(token), code, ex=_ANSWER_S)

    def published(self, job: str) -> dict[str, Any]:
        """What was last told of a job; empty where nothing was."""
        with _as_ours():
            data = cast(bytes | None, self._redis.get(names.progress_key(job)))
        return cast(dict[str, Any], msgspec.json.decode(data)) if data else {}

    def forget_job(self, job: str) -> None:
        """Nothing of an ended job needs to stay but its last progress."""
        with _as_ours():
            self._redis.delete(names.results_key(job), names.hold_key(job))

    def others(self) -> int:
        """Connections of other programs, for the decision whether an embedded server may end."""
        with _as_ours():
            mine = {str(self._redis.client_id())}
            clients = self._redis.client_list()
        return sum(client["id"] not in mine for client in clients)

    def shut_down(self) -> None:
        """Ends the server, its memory kept in the append-only file."""
        with _as_ours():
            self._redis.shutdown(nosave=True)


def _wish(data: bytes) -> Wish | None:
    try:
        return msgspec.json.decode(data, type=Wish)
    except msgspec.MsgspecError:
        return None


def _delivery(job: str, fields: dict[bytes, bytes]) -> Delivery | None:
    """The delivery of a stream entry; None if it is not of our making, or another job's."""
    try:
        delivery = unpack_delivery(fields.get(b"d", b""))
    except BadMessage:
        return None
    return delivery if delivery.job == job else None


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise UsageError("Redis refuses the password", hint="check NIGHTSHIFT_REDIS_URL") from error
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(
            f"Redis does not answer ({type(error).__name__})",
            hint="nightshift doctor tells what is reachable",
        ) from error
