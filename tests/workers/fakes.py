"""What stands around a worker's parts, in memory: Redis, the home, the pace, the endpoint."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from jobs.budget import Amount
from jobs.chunk import ChunkClosed, Payload, Terms, Work
from jobs.request_kinds import CHAT
from jobs.result import Call, Result
from jobs.wire import VERSION, Delivery, unpack_bodies, unpack_delivery
from workers.calling.endpoint import Answer, Broken, BrokenKind, Listener, Reply
from workers.pacing.leases import Lease, LeaseRequest

JOB = "job_01jd0000000000000000000000"
OTHER_JOB = "job_01jd1111111111111111111111"
MODEL = "minimax/minimax-m1"
BASE_URL = "http://127.0.0.1:1/api/v1"
PATIENCE_S = 30.0
COST = Decimal("0.0000522948192")


class FakePost:
    """A Redis of which streams and acknowledgements are kept here; `away` has it fail."""

    def __init__(self) -> None:
        self.away = False
        self.silent = False
        self.stream: list[tuple[str, bytes]] = []
        self.acks: dict[str, list[int]] = {}
        self.sends = 0

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        self._look()
        self.sends += 1
        self.stream += entries

    async def acknowledged(self, outbox: str) -> list[int]:
        self._look()
        return self.acks.pop(outbox, [])

    def forget(self) -> None:
        """All that was in it is gone."""
        self.stream.clear()
        self.acks.clear()

    def _look(self) -> None:
        if self.away:
            raise ConnectionError("away")


class FakeHome:
    """Takes deliveries in as the home does: each fact once, whatever comes twice."""

    def __init__(self, post: FakePost) -> None:
        self.post = post
        self.calls: dict[str, Call] = {}
        self.results: dict[tuple[str, int], Result] = {}
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.closed: dict[tuple[str, int], ChunkClosed] = {}
        self.found: list[Any] = []
        self.deliveries: list[Delivery] = []

    def take_in(self, *, acknowledge: bool = True) -> None:
        for _, data in self.post.stream:
            self._apply(unpack_delivery(data), acknowledge=acknowledge)
        self.post.stream.clear()

    def _apply(self, delivery: Delivery, *, acknowledge: bool) -> None:
        assert delivery.version == VERSION
        self.deliveries.append(delivery)
        bodies = unpack_bodies(delivery.bodies)
        for call in delivery.calls:
            self.calls.setdefault(call.id, call)
        for result in delivery.results:
            key = delivery.job, result.ordinal
            if key not in self.results and result.body >= 0:
                self.bodies[key] = bodies[result.body]
            self.results.setdefault(key, result)
        for closed in delivery.closed:
            self.closed.setdefault((delivery.job, closed.chunk), closed)
        self.found += delivery.found
        if acknowledge:
            self.post.acks.setdefault(delivery.outbox, []).append(delivery.sequence)


class FakeKeeper:
    """A shared pace that grants what is asked, up to `slots`; `away` has it fail."""

    def __init__(self, slots: int = 1000) -> None:
        self.slots = slots
        self.pause_s = 0.0
        self.down_s = 0.0
        self.probe = False
        self.away = False
        self.asks: list[LeaseRequest] = []

    async def lift(self, scope: str) -> None:  # noqa: ARG002
        self.pause_s = 0.0

    async def exchange(self, scope: str, ask: LeaseRequest) -> Lease:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError("away")
        self.asks.append(ask)
        return Lease(
            min(ask.wanted, self.slots),
            ask.requests if ask.rpm else -1,
            ask.tokens if ask.tpm else -1.0,
            ask.rub if ask.rub_per_hour else -1.0,
            self.pause_s,
            99,
            self.down_s,
            self.probe,
        )


Script = Callable[[bytes, int], Answer | Awaitable[Answer]]


class FakeEndpoint:
    """Answers a body's n-th call as the script says; `credits_` is the balance, None: no answer."""

    base_url = BASE_URL

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[bytes] = []
        self.times: Counter[bytes] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.credits_: str | None = "100"
        self.asked_credits = 0

    async def call(
        self,
        body: bytes,
        *,
        kind: str = CHAT.url,  # noqa: ARG002
        idle_timeout_s: float | None = None,  # noqa: ARG002
        total_timeout_s: float | None = None,  # noqa: ARG002
        on_headers: Listener | None = None,
    ) -> Answer:
        self.calls.append(body)
        self.times[body] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if on_headers:
                on_headers({"x-generation-id": f"gen-{len(self.calls)}"})
            await asyncio.sleep(0)
            answer = self._script(body, self.times[body])
            return answer if isinstance(answer, Reply | Broken) else await answer
        finally:
            self.in_flight -= 1

    async def credits(self) -> Answer:
        self.asked_credits += 1
        await asyncio.sleep(0)
        if self.credits_ is None:
            return Broken(BrokenKind.TIMEOUT, "silence", 0.0)
        return Reply(200, {}, f'{{"data":{{"credits":{self.credits_}}}}}'.encode(), 0.0)


def completion(cost: Decimal | None = COST, **extra: object) -> Reply:
    """An answer that is paid for."""
    usage: dict[str, object] = {"prompt_tokens": 480, "completion_tokens": 20}
    body = {
        "id": "gen-body",
        "model": MODEL,
        "choices": [{"finish_reason": "stop", "message": {"content": "да"}}],
        "usage": usage,
        **extra,
    }
    text = json.dumps(body)
    if cost is not None:
        text = text.replace('"completion_tokens": 20', f'"completion_tokens": 20, "cost": {cost}')
    return Reply(200, {"x-request-id": "req-1"}, text.encode(), 0.5)


def refusal(status: int, text: str = "no", **headers: str) -> Reply:
    """An error as the endpoint words it."""
    body = json.dumps({"error": {"code": status, "message": text}}).encode()
    return Reply(status, {name.replace("_", "-"): v for name, v in headers.items()}, body, 0.1)


def cut() -> Broken:
    """No whole answer."""
    return Broken(BrokenKind.CUT, "cut", 0.1)


def work(ordinal: int, **changes: Any) -> Work:
    """A request, its ordinal its body."""
    given: dict[str, Any] = {"model": 0, "rub": Decimal("0.5"), "tokens": 1000, **changes}
    return Work(ordinal=ordinal, body=str(ordinal).encode(), **given)


def payload(
    *requests: Work,
    chunk: int = 1,
    job: str = JOB,
    grant: Amount | None = None,
    models: tuple[str, ...] = (MODEL,),
    base_url: str = BASE_URL,
    key: str = "",
    **terms: Any,
) -> Payload:
    """A chunk of these requests."""
    return Payload(
        job, "test", chunk, base_url, key, Terms(**terms), grant or Amount(), models, list(requests)
    )


async def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(patience_s):
        while not true():  # noqa: ASYNC110  conditions of many kinds, in tests
            await asyncio.sleep(0.005)
