"""Jobs made by the store's own means, what workers say of them, and a post that is only memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from batch.coordinator.redis.data_loss_watch import Memory
from batch.coordinator.redis.flower_inbox import Wish
from batch.coordinator.redis.result_streams import READ_AT_ONCE, Mail
from batch.store.chunks import OpenChunk
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import DONE, ChunkClosed, Payload, ReturnReason
from jobs.errors import BadMessage, ServiceUnavailable
from jobs.job_options import Spec
from jobs.message import Message
from jobs.outcome import Billing
from jobs.prices import ModelPrice, Offer, PriceList, Rates
from jobs.request import Fault, Request
from jobs.result import Call, Result, ResultState
from jobs.signing import Target
from jobs.usage import Usage
from jobs.wire import Begin, Delivery, Found, Permit, pack_bodies, pack_delivery, unpack_delivery
from jobs.worker_heartbeat import WorkerStatus

JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
OTHER = "job_01k2abcdefghjkmnpqrstvwxyz"
MODEL = "minimax/minimax-m1"
BASE_URL = "http://127.0.0.1:1/api/v1"
ANSWER = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "да"}, "finish_reason": "stop"}]},
    ensure_ascii=False,
).encode()


def request(line: int, **change: Any) -> Request:
    """A valid line of the input."""
    facts = {
        "line": line,
        "custom_id": f"r-{line}",
        "model": MODEL,
        "body": b'{"messages":[],"n":%d}' % line,
        "messages": 1,
        "max_output": 100,
    }
    return Request(**{**facts, **change})


def spec(folder: Path, **wish: Any) -> Spec:
    """A spec whose outputs go to `out` beside the home."""
    return Spec(
        **{
            "name": "reviews",
            "source": "reviews.jsonl",
            "output_dir": str(folder / "out"),
            "base_url": BASE_URL,
            **wish,
        }
    )


def prices(rub: str = "0.001", *models: str, taken_at: float = 1.0) -> PriceList:
    """So much a token, in and out, and nothing else."""
    rates = Rates(Decimal(rub), Decimal(rub))
    listed = {model: ModelPrice(model, (Offer("", rates),)) for model in models or (MODEL,)}
    return PriceList(taken_at, BASE_URL, "0" * 64, listed)


def publish(
    folder: Path,
    requests: int | Iterable[Request] = 4,
    *,
    job: str = JOB,
    faults: Iterable[Fault] = (),
    priced: PriceList | None = None,
    dedupe: str = "",
    **wish: Any,
) -> JobStore:
    """A job in the home `folder`; its store must be closed by the caller, or left to the test."""
    draft = Draft(folder / "jobs", job, dedupe=dedupe)
    lines = range(1, requests + 1) if isinstance(requests, int) else requests
    for line in lines:
        draft.add(line if isinstance(line, Request) else request(line))
    for fault in faults:
        draft.refuse(fault)
    draft.drop_copies()
    draft.publish(spec(folder, **wish), priced, 1000.0)
    return JobStore(folder / "jobs" / job)


def feed(store: JobStore, requests: int = 4, grant: Amount = UNCAPPED) -> OpenChunk:
    """The next chunk, as the feeder would have it."""
    return store.chunks.grant(store.queue.waiting(requests), grant, 1001.0)


def again(store: JobStore) -> JobStore:
    """The same job, as another process finds it on the disk."""
    return JobStore(store.folder)


def waiting(store: JobStore, limit: int = 100) -> list[int]:
    """The ordinals of the requests that wait, in their order."""
    return [each.ordinal for each in store.queue.waiting(limit)]


def call(
    ordinal: int,
    chunk: int = 1,
    *,
    id: str = "",  # noqa: A002
    cost: str | None = "0.5",
    bound: str | None = "2",
    **change: Any,
) -> Call:
    """A call that cost `cost` ₽, or nobody knows what."""
    facts: dict[str, Any] = {
        "attempt": 1,
        "sent_at": 1002.0,
        "latency_s": 1.5,
        "status": 200,
        "code": "",
        "billing": Billing.UNKNOWN if cost is None else Billing.KNOWN,
        "cost": None if cost is None else Decimal(cost),
        "bound": None if bound is None else Decimal(bound),
        "bound_tokens": 300,
        "usage": None if cost is None else Usage(20, 5),
    }
    return Call(id or f"box-{chunk}-{ordinal}", ordinal, chunk, **{**facts, **change})


def result(ordinal: int, chunk: int = 1, *, code: str = "", **change: Any) -> Result:
    """A request's end: completed, or failed with a code."""
    facts: dict[str, Any] = {
        "state": ResultState.FAILED if code else ResultState.COMPLETED,
        "code": code,
        "message": f"says {code}" if code else "",
        "status": 400 if code else 200,
        "attempts": 1,
        "call": f"box-{chunk}-{ordinal}",
        "latency_s": 1.5,
        "finished_at": 1004.0,
    }
    return Result(ordinal, **{**facts, **change})


def delivery(
    calls: Iterable[Call] = (),
    results: Iterable[Result] = (),
    closed: Iterable[ChunkClosed] = (),
    found: Iterable[Found] = (),
    *,
    bodies: list[bytes] | None = None,
    job: str = JOB,
    sequence: int = 1,
    outbox: str = "box",
) -> Delivery:
    """A delivery; each result gets its answer, in order, unless `bodies` says which."""
    results = list(results)
    if bodies is None:
        bodies = [ANSWER for each in results]
        results = [msgspec.structs.replace(r, body=place) for place, r in enumerate(results)]
    return Delivery(
        *(outbox, sequence, job, list(calls), results, list(closed), list(found)),
        pack_bodies(bodies),
    )


def answered(chunk: OpenChunk, *ordinals: int, cost: str = "0.5", **change: Any) -> Delivery:
    """A worker's word that it is done with a chunk, all of it answered, or these."""
    mine = [ordinal for ordinal, _, _ in chunk.requests]
    done = list(ordinals or mine)
    back = [(ordinal, 1, 0) for ordinal in mine if ordinal not in done]
    return delivery(
        [call(ordinal, chunk.chunk, cost=cost) for ordinal in done],
        [result(ordinal, chunk.chunk) for ordinal in done],
        [closing(chunk.chunk, back)],
        **change,
    )


def closing(
    chunk: int,
    back: Iterable[tuple[int, int, int]] = (),
    reason: ReturnReason = DONE,
    refusals: dict[str, int] | None = None,
    calls: int = 0,
) -> ChunkClosed:
    """A worker is done with a chunk."""
    return ChunkClosed(chunk, reason, list(back), refusals or {}, calls, "box")


def statuses(facts: dict[str, Any]) -> WorkerStatus:
    """What a worker tells of itself."""
    return msgspec.convert(facts, WorkerStatus, strict=False, str_keys=True)


LOST = "lost"
T = TypeVar("T")


class FakePost:
    """Redis as the coordinator uses it, in memory. `away` makes every command fail."""

    def __init__(self) -> None:
        self.away = False
        self.fails: set[str] = set()
        self.mark = "server-1"
        self.fences: set[str] = set()
        self.remembers = -1
        self.connections = 1
        self.payloads: dict[tuple[str, int], Payload] = {}
        self.claimed: dict[tuple[str, int], str] = {}
        self.asks: dict[str, list[Begin]] = {}
        self.permitted: dict[tuple[str, int], str] = {}
        self.opened: dict[tuple[str, int], Amount] = {}
        self.streams: dict[str, list[bytes]] = {}
        self.acknowledged: list[tuple[str, int]] = []
        self.held: dict[str, str] = {}
        self.told: dict[str, dict[str, object]] = {}
        self.ranks: dict[str, float] = {}
        self.series: dict[str, bytes] = {}
        self.coordinators: dict[str, Any] = {}
        self.serves: dict[str, str] = {}
        self.wished: dict[str, Wish] = {}
        self.answers: dict[str, str | bytes] = {}
        self.answers_live_s: dict[str, int] = {}
        self.events: dict[str, Any] = {}
        self.foreign = 0
        self.present: list[dict[str, Any]] = []
        self.waiting = 0

    @property
    def chunks(self) -> FakePost:
        """It is all subjects of `CoordinatorRedis` in one."""
        return self

    memory = results = status = clicks = chunks

    def _command(self, name: str) -> None:
        if self.away or name in self.fails:
            raise ServiceUnavailable(Message("Redis does not answer"))

    def vouch(self, fence: str, _count: int, server: str) -> Memory:
        self._command("vouch")
        whole = server == self.mark and fence in self.fences
        return Memory(whole, self.mark, self.remembers)

    def begin_fence(self, fence: str, _old: str) -> None:
        self._command("begin_fence")
        self.fences = {fence}
        self.wished.clear()

    def laid_down(self) -> dict[str, set[int]]:
        self._command("laid_down")
        return {job: {c for j, c in self.payloads if j == job} for job, _ in self.payloads}

    def forget_payloads(self, job: str, chunks: set[int]) -> None:
        self._command("forget_payloads")
        for chunk in chunks:
            del self.payloads[job, chunk]

    def lose(self, job: str, chunk: int, *, surely: bool = False) -> bool:
        self._command("lose")
        if not surely and self.claimed.get((job, chunk), LOST) not in (LOST, "done"):
            return False
        self.claimed[job, chunk] = LOST
        self.payloads.pop((job, chunk), None)
        return True

    def permit(self, job: str, permits: dict[int, Permit]) -> None:
        self._command("permit")
        self.permitted |= {(job, chunk): permit.attempt for chunk, permit in permits.items()}
        self.opened |= {(job, chunk): permit.opened for chunk, permit in permits.items()}

    def put_payload(self, payload: Payload) -> None:
        self._command("put_payload")
        self.payloads[payload.job, payload.chunk] = payload
        self.waiting += 1

    def forget_chunks(self, job: str, chunks: list[int]) -> None:
        self._command("forget_chunks")
        for chunk in chunks:
            self.payloads.pop((job, chunk), None)
            self.claimed.pop((job, chunk), None)

    def queued(self, _target: Target) -> int:
        self._command("queued")
        return self.waiting

    def hold(self, job: str, reason: str) -> None:
        self._command("hold")
        self.held[job] = reason

    def unhold(self, job: str) -> None:
        self._command("unhold")
        self.held.pop(job, None)

    def check_hold(self, _job: str) -> None:
        self._command("check_hold")

    def read(self, jobs: list[str], _wait_s: float) -> list[Mail]:
        self._command("read")
        return [self._mail(job) for job in jobs if self.streams.get(job) or self.asks.get(job)]

    def _mail(self, job: str) -> Mail:
        entries = self.streams.get(job, [])[:READ_AT_ONCE]
        found = []
        for entry in entries:
            try:
                found.append(unpack_delivery(entry))
            except BadMessage:
                continue
        mine = [each for each in found if each.job == job]
        return Mail(job, entries, mine, len(entries) - len(mine), self.asks.get(job, []))

    def acknowledge(self, mail: Mail) -> None:
        self._command("acknowledge")
        self.acknowledged += [(each.outbox, each.sequence) for each in mail.deliveries]
        left = [e for e in self.streams.get(mail.job, []) if e not in mail.entries]
        self.streams[mail.job] = left
        self.asks.pop(mail.job, None)

    def workers(self) -> list[WorkerStatus]:
        self._command("workers")
        named: dict[str, list[int]] = {}
        for (job, chunk), by in self.claimed.items():
            if by not in (LOST, "done"):
                named.setdefault(job, []).append(chunk)
        return [statuses(each) for each in (*self.present, *([{"open": named}] if named else []))]

    def publish(self, job: str, progress: dict[str, object], rank: float) -> None:
        self._command("publish")
        msgspec.json.encode(progress)
        self.told[job] = progress
        self.ranks[job] = rank

    def published(self, job: str, kind: type[T]) -> T | None:
        self._command("published")
        told = self.told.get(job)
        return None if told is None else msgspec.convert(told, kind, strict=False)

    def publish_series(self, job: str, series: bytes) -> None:
        self._command("publish_series")
        self.series[job] = series

    def told_series(self, job: str) -> bytes:
        self._command("told_series")
        return self.series.get(job, b"")

    def serve(self, home_id: str, coordinator: str) -> bool:
        self._command("serve")
        return self.serves.setdefault(home_id, coordinator) == coordinator

    def publish_events(self, job: str, events: object) -> None:
        self._command("publish_events")
        self.events[job] = msgspec.to_builtins(events)

    def be_present(self, home: str, facts: object) -> None:
        self._command("be_present")
        self.coordinators[home] = facts

    def wishes(self) -> dict[str, Wish]:
        self._command("wishes")
        return dict(self.wished)

    def take_wish(self, job: str, _token: str) -> bool:
        self._command("take_wish")
        return self.wished.pop(job, None) is not None

    def answer(self, token: str, told: str | bytes, *, life_s: int = 60) -> None:
        self._command("answer")
        self.answers[token], self.answers_live_s[token] = told, life_s

    def forget_job(self, job: str) -> None:
        self._command("forget_job")
        self.streams.pop(job, None)
        self.held.pop(job, None)

    # ---- the worker's side ------------------------------------------------------------------

    def send(self, *deliveries: Delivery) -> None:
        """A worker's outbox delivers."""
        for each in deliveries:
            self.streams.setdefault(each.job, []).append(pack_delivery(each))

    def take(
        self, job: str, chunk: int, worker: str = "host:1:box", *, begins: bool = True
    ) -> Payload:
        """A worker takes a chunk, and asks whether it may begin it."""
        self.claimed[job, chunk] = worker
        if begins:
            ask = Begin(chunk, worker.rpartition(":")[2], "token")
            self.asks.setdefault(job, []).append(ask)
        self.waiting -= 1
        return self.payloads[job, chunk]


class FakeSender:
    """Messages that would go to the queue."""

    def __init__(self) -> None:
        self.chunks: list[int] = []
        self.fence = ""
        self.shares: list[float] = []
        self.lookups: list[tuple[int, str, str]] = []
        self.fails = False

    def run_chunk(
        self, _job: str, _name: str, _target: Target, chunk: int, _rows: int, share: float
    ) -> None:
        if self.fails:
            raise ServiceUnavailable(Message("Redis does not accept messages"))
        self.chunks.append(chunk)
        self.shares.append(share)

    def look_up(
        self, _job: str, _name: str, _target: Target, calls: list[tuple[int, str, str]], _rate: str
    ) -> None:
        self.lookups += calls
