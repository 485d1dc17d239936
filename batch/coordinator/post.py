"""The home's side of Redis: chunks out, deliveries in, who is there.

Every command gives up within seconds; a failure of any kind is `ServiceUnavailable`, and the
coordinator simply tries again: nothing that Redis holds is needed to know what must be done.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import structs
from redis import Redis
from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

from batch.coordinator.connection import connect, while_running, words_of
from jobs import names
from jobs.chunk import Payload
from jobs.counts import Seconds
from jobs.errors import BadMessage
from jobs.heartbeat import WorkerStatus
from jobs.message import N_
from jobs.seal import Seal, Target
from jobs.wire import (
    Begin,
    Delivery,
    Permit,
    pack_payload,
    pack_permit,
    unpack_begin,
    unpack_delivery,
)

_LOST_S = 7 * 24 * 3600
"""A worker that wakes after so long still learns that its chunk was given up."""

_FENCE_S = 7 * 24 * 3600
_VOUCHER_S = 24 * 3600
_HOLD_S = 24 * 3600
_PROGRESS_S = 7 * 24 * 3600
MOST_LISTED = 1000
"""Jobs that Flower lists: those that are not over, and the newest of the others."""

_PRESENT_S = 17
"""A worker's sign of life is not older than this, by Redis's clock: it lives for 15 s."""

_SERVES_S = 10
_ANSWER_S = 60
_WISH_S = 60.0
"""A click that nobody heard for so long is not heeded later, when nobody expects it any more."""

_VOUCH = """
local fence, nonces = unpack(KEYS)
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local count, known = tonumber(ARGV[2]), tonumber(redis.call('GET', fence) or '-1')
if server ~= ARGV[3] or (known ~= count and known ~= count - 1) then
  return {0, server, known}
end
redis.call('SET', fence, count, 'EX', ARGV[4])
local asked = redis.call('HGETALL', nonces)
for i = 1, #asked, 2 do
  if redis.call('EXISTS', ARGV[6] .. asked[i]) == 1 then
    redis.pcall('HSET', ARGV[7] .. asked[i + 1], ARGV[1], 1)
    redis.call('EXPIRE', ARGV[7] .. asked[i + 1], ARGV[5])
  else
    redis.call('HDEL', nonces, asked[i])
  end
end
return {1, server, known}
"""
_VOUCH_TYPES = (b"string", b"hash")
"""Counts on and vouches in one step, by the server that holds the memory which is vouched for."""

_LOSE = """
local claim, payload, taken = unpack(KEYS)
local by = redis.call('GET', claim)
if ARGV[3] ~= '1' and by and by ~= ARGV[1] then
  return 0
end
redis.call('SET', claim, ARGV[1], 'EX', ARGV[2])
redis.call('DEL', payload, taken)
return 1
"""
"""In one step, so that a worker that wakes either keeps its chunk or learns that it is lost."""

READ_AT_ONCE = 64
"""Deliveries of a job that one read brings at most."""

MOST_WORKERS, MOST_WISHES = 10_000, 1000
"""More of them than this are not of our making."""

LARGEST_STATUS = 2**20
"""Bytes that a worker may tell of itself."""

_WORKER_HOLDS_S = 20.0
"""A worker's hold has run out by then."""

Word = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{1,64}$")]
T = TypeVar("T")

log = logging.getLogger("nightshift.coordinator")


@dataclass(frozen=True)
class Memory:
    """What Redis said of its memory: whether it is `whole`, and of which `server`, "" where INFO is
    forbidden; and the `count` that stands there, or -1.
    """

    whole: bool
    server: str
    count: int


@dataclass(frozen=True)
class Mail:
    """Stream entries of one job: their ids, and those that could be read."""

    job: str
    entries: list[bytes]
    deliveries: list[Delivery]
    garbage: int
    asks: list[Begin] = field(default_factory=list)


class Wish(msgspec.Struct, frozen=True):
    """A click in Flower at `at`, Unix seconds by Redis's clock; its answer is told to `token`.

    `codes` of failures to retry, `figures` of the job's settings to change, as text; the `file`
    that is wanted, from `offset` on.
    """

    wish: Word
    token: Word
    at: Seconds
    codes: tuple[str, ...] = ()
    figures: dict[str, str] = {}
    file: str = ""
    offset: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0


class Post:
    """Redis, as the coordinator uses it. `foreign` counts what was dropped as not of our making;
    `strangers` are the signs of life, at the last look, of workers that have another secret.
    """

    def __init__(self, redis_url: str, seal: Seal) -> None:
        self.connections = 0
        """How often a connection was made: each may lead to another server."""
        self._redis: Redis = connect(redis_url, self._connected)
        self._vouch = self._redis.register_script(_VOUCH)
        self._lose = self._redis.register_script(_LOSE)
        self._seal = seal
        self.foreign = self.strangers = 0
        self._held_since: dict[str, tuple[bytes, float]] = {}
        self._heeded: OrderedDict[str, float] = OrderedDict()

    def _connected(self, connection: AbstractConnection) -> None:
        connection.on_connect()  # type: ignore[no-untyped-call]  # redis-py's own
        self.connections += 1

    def close(self) -> None:
        """Drops the connections."""
        self._redis.close()

    # ---- what is not of our making --------------------------------------------------------------

    def _put(self, key: str, data: bytes, *, life_s: int) -> None:
        with while_running():
            self._redis.set(key, self._seal.sign(key, data), ex=life_s)

    def _take(self, key: str) -> bytes | None:
        """What we signed for that key; None where it is not there, or is somebody else's."""
        return self._ours(key, self._value(key))

    def _value(self, key: str) -> bytes | None:
        found = self._typed({key: b"string"}, lambda: self._redis.get(key))
        return cast("bytes | None", found)

    def _ours(self, place: str, signed: bytes | None) -> bytes | None:
        data = self._seal.opened(place, signed)
        self.foreign += data is None and signed is not None
        return data

    def _typed(self, types: Mapping[str, bytes], command: Callable[[], T]) -> T:
        """Runs a command; keys that hold another type are not of our making, and are dropped."""
        with while_running():
            try:
                return command()
            except ResponseError as error:
                if not words_of(error).startswith("WRONGTYPE"):
                    raise
            for key, expected in types.items():
                if self._redis.type(key) not in {expected, b"none"}:
                    log.warning(N_("%s: dropped an invalid message"), key)
                    self.foreign += 1
                    self._redis.delete(key)
            return command()

    # ---- whether its memory is whole ------------------------------------------------------------

    def vouch(self, fence: str, count: int, server: str) -> Memory:
        """Vouches for Redis's memory to all workers that ask, if it is what it was.

        That is if the last count under this `fence` was `count` or the one before, and the server's
        run id still is `server`.
        """
        keys = (names.fence_key(fence), names.NONCES)
        prefixes = (names.worker_key(""), names.voucher_key(""))
        told = (fence, count, server, _FENCE_S, _VOUCHER_S, *prefixes)
        whole, found, known = cast(
            tuple[int, bytes, int],
            self._typed(
                dict(zip(keys, _VOUCH_TYPES, strict=True)), lambda: self._vouch(keys, told)
            ),
        )
        return Memory(bool(whole), found.decode(), known)

    def begin_fence(self, fence: str, old: str) -> None:
        """From now on this one counts. What was clicked before is forgotten: it may be done."""
        with while_running(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(names.fence_key(old), names.WISHES)
            pipe.set(names.fence_key(fence), 0, ex=_FENCE_S)
            pipe.execute()

    def laid_down(self) -> dict[str, set[int]]:
        """The chunks of each job whose payloads stand here."""
        with while_running():
            keys = list(self._redis.scan_iter(names.payload_key("*", "*"), count=1000))
        found: dict[str, set[int]] = defaultdict(set)
        for *_, job, chunk in (key.decode(errors="replace").split(":") for key in keys):
            if chunk.isascii() and chunk.isdecimal():
                found[job].add(int(chunk))
        return found

    # ---- chunks -------------------------------------------------------------------------------

    def put_payload(self, payload: Payload) -> None:
        """Lays a chunk down for the worker that will take it. Nobody has: what says otherwise is
        forged, or of a chunk that had this number before a home was restored.
        """
        keys = (names.permit_key, names.claim_key, names.taken_key)
        key = names.payload_key(payload.job, payload.chunk)
        signed = self._seal.sign(key, pack_payload(payload))
        with while_running(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(*(key(payload.job, payload.chunk) for key in keys))
            pipe.set(key, signed, ex=names.LONGEST_LIFE_S)
            pipe.execute()

    def permit(self, job: str, permits: dict[int, Permit]) -> None:
        """Tells those that asked whose attempt at each chunk may make its calls."""
        with while_running(), self._redis.pipeline(transaction=False) as pipe:
            for chunk, permit in permits.items():
                key = names.permit_key(job, chunk)
                pipe.set(key, self._seal.sign(key, pack_permit(permit)), ex=_HOLD_S)
            pipe.execute()

    def forget_chunks(self, job: str, chunks: list[int]) -> None:
        """Chunks that are closed or given up need no payload any more, so nobody can take them."""
        if chunks:
            keys = (names.payload_key, names.taken_key, names.claim_key, names.permit_key)
            self._forget(*(key(job, chunk) for key in keys for chunk in chunks))

    def _forget(self, *keys: str) -> None:
        with while_running():
            self._redis.delete(*keys)

    def forget_payloads(self, job: str, chunks: set[int]) -> None:
        """Nobody is to take these chunks any more."""
        if chunks:
            self._forget(*(names.payload_key(job, chunk) for chunk in chunks))

    def lose(self, job: str, chunk: int, *, surely: bool = False) -> bool:
        """Gives a chunk up, for good: whether it did. Not if a worker claims it after all, unless
        it is `surely` lost: anybody may have written that claim.
        """
        keys = [key(job, chunk) for key in (names.claim_key, names.payload_key, names.taken_key)]
        mark = self._seal.sign(keys[0], names.LOST)
        with while_running():
            return bool(self._lose(keys, (mark, _LOST_S, int(surely))))

    def queued(self, target: Target) -> int:
        """Messages that wait in a target's Celery queue, over all its priorities."""
        queue = f"{names.CELERY_PREFIX}{self._seal.queue(target)}"
        queues = [queue + suffix for suffix in ("", "\x06\x163", "\x06\x166", "\x06\x169")]

        def count() -> int:
            with self._redis.pipeline(transaction=False) as pipe:
                for each in queues:
                    pipe.llen(each)
                return sum(pipe.execute())

        return self._typed(dict.fromkeys(queues, b"list"), count)

    def hold(self, job: str, reason: str) -> None:
        """Tells workers to start nothing of a job."""
        self._put(names.hold_key(job), reason.encode(), life_s=_HOLD_S)

    def unhold(self, job: str) -> None:
        """Lets workers go on with a job."""
        self._held_since.pop(job, None)
        with while_running():
            self._redis.delete(names.hold_key(job))

    def check_hold(self, job: str) -> None:
        """Ends a hold of a job that is in progress, unless a worker just asked for it: it is
        forged, or one of earlier that somebody put back.
        """
        found = self._value(names.hold_key(job))
        if found is None:
            self._held_since.pop(job, None)
            return
        since = self._held_since.get(job)
        if since is None or since[0] != found:
            self._held_since[job] = (found, time.monotonic())
        genuine = self._ours(names.hold_key(job), found) is not None
        if not genuine or time.monotonic() - self._held_since[job][1] > _WORKER_HOLDS_S:
            log.warning(N_("%s was paused in Redis by an unknown party; it continues"), job)
            self.unhold(job)

    # ---- results -------------------------------------------------------------------------------

    def read(self, jobs: list[str], wait_s: float) -> list[Mail]:
        """Deliveries that arrived for any of these jobs, waiting a moment for the first.

        A wait of 0 looks only; any other lasts up to 0.1 s longer, by the server's own clock.
        """
        if not jobs:
            return []
        streams = {names.results_key(job): "0" for job in jobs}
        found = self._typed(
            dict.fromkeys(streams, b"stream"),
            lambda: self._redis.xread(
                cast(Any, streams), count=READ_AT_ONCE, block=int(wait_s * 1000) or None
            ),
        )
        return [self._mail(key, entries) for key, entries in cast(Any, found or [])]

    def _mail(self, key: bytes, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Mail:
        job = key.decode().rsplit(":", 1)[-1]
        read = [self._entry(job, fields) for _, fields in entries]
        deliveries = [each for each in read if isinstance(each, Delivery)]
        asks = [each for each in read if isinstance(each, Begin)]
        return Mail(job, [entry for entry, _ in entries], deliveries, read.count(None), asks)

    def _entry(self, job: str, fields: dict[bytes, bytes]) -> Delivery | Begin | None:
        """What a stream entry is; None if it is not of our making, or another job's."""
        try:
            if asked := fields.get(b"a"):
                return unpack_begin(self._ours(names.ask_place(job), asked) or b"")
            signed = self._ours(names.results_key(job), fields.get(b"d", b""))
            delivery = unpack_delivery(signed or b"")
        except BadMessage:
            return None
        return delivery if delivery.job == job else None

    def acknowledge(self, mail: Mail) -> None:
        """All of it is on disk: the stream and the outboxes may forget it."""
        keys = {names.acks_key(delivery.outbox): b"list" for delivery in mail.deliveries}

        def acknowledge() -> None:
            with self._redis.pipeline(transaction=True) as pipe:
                for delivery in mail.deliveries:
                    key = names.acks_key(delivery.outbox)
                    pipe.rpush(key, self._seal.sign(key, b"%d" % delivery.sequence))
                    pipe.expire(key, _HOLD_S)
                pipe.xdel(names.results_key(mail.job), *mail.entries)
                pipe.execute()

        self._typed({**keys, names.results_key(mail.job): b"stream"}, acknowledge)

    # ---- looking ---------------------------------------------------------------------------------

    def workers(self) -> list[WorkerStatus]:
        """What each worker that is there tells of itself; of one that was there, somebody may have
        put it back.
        """
        with while_running():
            scanned = self._redis.scan_iter(names.worker_key("*"), count=1000)
            keys = cast(list[bytes], list(islice(scanned, MOST_WORKERS)))
            found = cast(list[bytes | None], self._redis.mget(keys)) if keys else []
        now = self._time()
        told = [(key, data) for key, data in zip(keys, found, strict=True) if data]
        read = [self._status(key.decode(errors="replace"), data) for key, data in told]
        self.strangers = read.count(None)
        return [
            structs.replace(each, silent_s=max(now - each.at, 0.0))
            for each in read
            if each is not None and abs(now - each.at) <= _PRESENT_S
        ]

    def _status(self, key: str, data: bytes) -> WorkerStatus | None:
        """None for what another secret signed; it is there at each look, so it is not counted."""
        try:
            return _read(self._seal.verify(key, data), WorkerStatus)
        except BadMessage:
            return None

    def publish(self, job: str, progress: dict[str, object], rank: float) -> None:
        """Tells whoever watches how a job stands; Flower lists those of the highest rank."""
        key = names.progress_key(job)
        told = self._seal.sign(key, msgspec.json.encode(progress))

        def publish() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(key, told, ex=_PROGRESS_S)
                pipe.zadd(names.JOBS, {job: rank})
                pipe.expire(names.JOBS, _PROGRESS_S)
                pipe.zremrangebyrank(names.JOBS, 0, -MOST_LISTED - 1)
                pipe.execute()

        self._typed({names.JOBS: b"zset"}, publish)

    def publish_series(self, job: str, series: bytes) -> None:
        """Tells how a job went over time."""
        self._put(names.series_key(job), series, life_s=_PROGRESS_S)

    def publish_events(self, job: str, events: object) -> None:
        """Tells what happened to a job."""
        self._put(names.events_key(job), msgspec.json.encode(events), life_s=_PROGRESS_S)

    def told_series(self, job: str) -> bytes:
        """What was last told of how a job went over time; empty where nothing was."""
        return self._take(names.series_key(job)) or b""

    def serve(self, home_id: str, coordinator: str) -> bool:
        """Whether no other coordinator works on the home of that id, or on a copy of it."""
        key, mine = names.serves_key(home_id), coordinator.encode()
        if self._take(key) not in (None, mine):
            return False
        self._put(key, mine, life_s=_SERVES_S)
        return True

    def be_present(self, home: str, facts: object) -> None:
        """A coordinator's sign of life."""
        self._put(names.coordinator_key(home), msgspec.json.encode(facts), life_s=_SERVES_S)

    def present(self, home: str, kind: type[T]) -> T | None:
        """A coordinator's last sign of life; None where there is none."""
        data = self._take(names.coordinator_key(home))
        return None if data is None else _read(data, kind)

    def wishes(self) -> dict[str, Wish]:
        """What was clicked, and not yet taken, by its place: a job, or a job and "/" with whatever
        tells questions apart that are asked at a time. What is too old is dropped, and so is what
        nobody signed or what was heeded before.
        """
        found = self._typed({names.WISHES: b"hash"}, self._clicked)
        read = {job: self._wish(job, data) for job, data in found.items()}
        now = self._time() if found else 0
        stale = [job for job, wish in read.items() if wish is None or self._is_stale(wish, now)]
        if stale:
            with while_running():
                self._redis.hdel(names.WISHES, *stale)
        return {job: wish for job, wish in read.items() if wish and job not in stale}

    def _clicked(self) -> dict[str, bytes]:
        if self._redis.hlen(names.WISHES) > MOST_WISHES:
            self._redis.delete(names.WISHES)
        found = cast(dict[bytes, bytes], self._redis.hgetall(names.WISHES))
        return {job.decode(errors="replace"): data for job, data in found.items()}

    def _wish(self, job: str, data: bytes) -> Wish | None:
        signed = self._ours(names.wish_place(job), data)
        try:
            return None if signed is None else _read(signed, Wish)
        except BadMessage:
            return None

    def _time(self) -> int:
        with while_running():
            return self._redis.time()[0]

    def _is_stale(self, wish: Wish, now: int) -> bool:
        return wish.token in self._heeded or not -_WISH_S < now - wish.at < _WISH_S

    def take_wish(self, place: str, token: str) -> bool:
        """Makes a wish ours; False if it was withdrawn, or somebody else took it."""
        with while_running():
            taken = bool(self._redis.hdel(names.WISHES, place))
        now = self._heeded[token] = time.monotonic()
        while now - next(iter(self._heeded.values())) > 2 * _WISH_S:
            self._heeded.popitem(last=False)
        return taken

    def answer(self, token: str, told: str | bytes) -> None:
        """Tells who clicked what came of it."""
        data = told.encode() if isinstance(told, str) else told
        self._put(names.answer_key(token), data, life_s=_ANSWER_S)

    def published(self, job: str, kind: type[T]) -> T | None:
        """What was last told of a job, as far as `kind` has it; None where nothing was."""
        data = self._take(names.progress_key(job))
        return None if data is None else _read(data, kind)

    def forget_job(self, job: str) -> None:
        """Nothing of an ended job needs to stay but its last progress."""
        with while_running():
            self._redis.delete(names.results_key(job), names.hold_key(job))


def _read(data: bytes, kind: type[T]) -> T:
    """A value of that kind; `BadMessage` for anything else, however it is made."""
    if len(data) > LARGEST_STATUS:
        raise BadMessage(N_("larger than any valid message"))
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadMessage(N_("unexpected format")) from error
