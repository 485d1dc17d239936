"""Each part of the way of a request alone, against a yardstick, in turns.

    scripts/bench stations [--requests N] [--rounds N] [--only NAME ...]

Prints requests per second of CPU, and how many times the yardstick's CPU a request costs.
Yardsticks: `orjson.loads` of each line for reading, aiohttp's own session for the call, and
for all else the standard library's `json.loads` and `json.dumps` of an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
import uvloop

from batch import reports
from batch.reading.reader import Defaults, read
from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from benchmarks.environments import ROOT, endpoint, python_with, write_input
from jobs.budget import UNCAPPED, Amount
from jobs.chunk import DONE, ChunkClosed, Payload, Terms, Work
from jobs.job_options import Spec
from jobs.outcome import Billing
from jobs.request import Request
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import (
    Delivery,
    pack_bodies,
    pack_delivery,
    pack_payload,
    unpack_delivery,
    unpack_payload,
)
from workers.calling.endpoint import Endpoint, Reply
from workers.delivery.journal import Sent
from workers.delivery.outbox import Outbox

JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
_ANSWER = json.dumps(
    {
        "id": "gen-1",
        "model": "minimax/minimax-m1",
        "choices": [{"message": {"content": "слово " * 60}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 60, "cost": 0.0000522948192},
    },
    ensure_ascii=False,
).encode()
_CHUNK = 256
_IN_FLIGHT = 64


@dataclass(frozen=True)
class Station:
    """A part: what runs it and its yardstick, each over `requests` and telling its CPU seconds."""

    name: str
    ours: Callable[[], float]
    yardstick: Callable[[], float]
    against: str


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU of this process, all its threads included."""
    started = time.process_time()
    work()
    return time.process_time() - started


class Bench:
    """Lays out what the stations need, once, in a scratch folder."""

    def __init__(self, folder: Path, requests: int, url: str) -> None:
        self._folder = folder
        self._requests = requests
        self._url = url
        self._runs = 0
        self._input = folder / "in.jsonl"
        write_input(self._input, requests)
        self._lines = [item for item in read(self._input, Defaults()) if isinstance(item, Request)]
        self._orjson = python_with("orjson", "orjson==3.11.4")

    def stations(self) -> list[Station]:
        """All of them, in the order in which a request passes."""
        return [
            Station("read and check", self.read, self.orjson, "orjson.loads"),
            Station("store", self.store, self.json, "json"),
            Station("feed", self.feed, self.json, "json"),
            Station("call", self.call, self.aiohttp, "aiohttp"),
            Station("outbox", self.outbox, self.json, "json"),
            Station("aggregate", self.aggregate, self.json, "json"),
            Station("report", self.report, self.json, "json"),
        ]

    # ---- yardsticks ---------------------------------------------------------------------------

    def orjson(self) -> float:
        """Every line through `orjson.loads`, in an interpreter that has it."""
        script = ROOT / "benchmarks" / "peers" / "orjson_lines.py"
        command = [str(self._orjson), str(script), str(self._input)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def json(self) -> float:
        """As many answers through the standard library, both ways."""
        return cpu(lambda: [json.dumps(json.loads(_ANSWER)) for _ in range(self._requests)])

    def aiohttp(self) -> float:
        """As many calls by aiohttp's own session."""

        async def one(session: aiohttp.ClientSession, body: bytes) -> None:
            headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
            async with session.post(
                f"{self._url}/chat/completions", data=body, headers=headers
            ) as response:
                await response.read()

        async def everything() -> None:
            async with aiohttp.ClientSession() as session:
                await _at_once(lambda body: one(session, body), self._bodies())

        return cpu(lambda: uvloop.run(everything()))

    # ---- stations -----------------------------------------------------------------------------

    def read(self) -> float:
        """Bytes of the file to requests."""
        return cpu(lambda: [None for _ in read(self._input, Defaults())])

    def store(self) -> float:
        """Requests to a job on disk."""
        return cpu(lambda: self._publish().close())

    def feed(self) -> float:
        """A job on disk to payloads in chunks, as they leave for Redis."""
        store = self._publish()
        seconds = cpu(lambda: self._feed(store, pack=True))
        store.close()
        return seconds

    def call(self) -> float:
        """Bodies to raw answers, over a real socket."""

        async def everything() -> None:
            client = Endpoint(self._url, "k", max_connections=_IN_FLIGHT)
            await _at_once(client.call, self._bodies())
            await client.close()

        return cpu(lambda: uvloop.run(everything()))

    def outbox(self) -> float:
        """Raw answers to acknowledged deliveries, through the worker's journal on disk."""
        return cpu(lambda: asyncio.run(self._through_outbox()))

    def aggregate(self) -> float:
        """Deliveries as they come from Redis to rows on disk."""
        store, packed = self._delivered()
        seconds = cpu(lambda: _aggregate(store, packed))
        store.close()
        return seconds

    def report(self) -> float:
        """Rows on disk to the four files."""
        store, packed = self._delivered()
        _aggregate(store, packed)
        seconds = cpu(lambda: reports.write_all(store))
        store.close()
        return seconds

    # ---- what they stand on -------------------------------------------------------------------

    def _bodies(self) -> list[bytes]:
        return [request.body for request in self._lines]

    def _publish(self) -> JobStore:
        self._runs += 1
        home = self._folder / f"home-{self._runs}"
        spec = Spec(
            name="bench", source="in.jsonl", output_dir=str(home / "out"), base_url=self._url
        )
        draft = Draft(home / "jobs", JOB)
        for request in self._lines:
            draft.add(request)
        for _ in draft.drop_duplicates():
            pass
        draft.publish(spec, None, 1.0)
        return JobStore(home / "jobs" / JOB)

    def _feed(self, store: JobStore, *, pack: bool) -> list[int]:
        chunks = []
        while waiting := store.queue.waiting(_CHUNK):
            chunk = store.chunks.grant(waiting, UNCAPPED, 2.0)
            chunks.append(chunk.chunk)
            if pack:
                works = [
                    Work(w.ordinal, 0, store.queue.body(w.ordinal), None, w.prompt_bound, 0, 0)
                    for w in waiting
                ]
                payload = Payload(
                    job=JOB,
                    name="bench",
                    chunk=chunk.chunk,
                    base_url=self._url,
                    key="",
                    terms=Terms(),
                    grant=UNCAPPED,
                    models=("minimax/minimax-m1",),
                    requests=works,
                )
                unpack_payload(pack_payload(payload))
        return chunks

    def _delivered(self) -> tuple[JobStore, list[bytes]]:
        store = self._publish()
        chunks = self._feed(store, pack=False)
        packed = []
        for place, chunk in enumerate(chunks):
            rows = range(place * _CHUNK, min((place + 1) * _CHUNK, self._requests))
            packed.append(
                pack_delivery(
                    Delivery(
                        "0123456789",
                        chunk,
                        JOB,
                        [_call(row, chunk) for row in rows],
                        [_result(row, at) for at, row in enumerate(rows)],
                        [ChunkClosed(chunk, DONE, [], {})],
                        [],
                        pack_bodies([_ANSWER for _ in rows]),
                    )
                )
            )
        return store, packed

    async def _through_outbox(self) -> None:
        post = _Post()
        self._runs += 1
        outbox = Outbox(self._folder / f"outbox-{self._runs}", post)
        outbox.start()
        for row in range(self._requests):
            call, model = _call(row, 1), "minimax/minimax-m1"
            outbox.sent(Sent(call.id, JOB, 1, row, 1, 0, 2.0, model, Amount(call.bound, 1000)))
            outbox.heard(call.id, call.generation_id)
            outbox.ended(call.id, Reply(200, {}, _ANSWER, 1.0))
            outbox.put(JOB, call, _result(row, -1), _ANSWER)
            if row % _IN_FLIGHT == 0:
                await asyncio.sleep(0.001)
        await outbox.close(30.0)


class _Post:
    """A home that acknowledges whatever it is sent."""

    def __init__(self) -> None:
        self._sent: list[int] = []

    async def send(self, entries: list[tuple[str, bytes]]) -> None:
        self._sent += [unpack_delivery(data).sequence for _, data in entries]

    async def acknowledged(self, _outbox: str) -> list[int]:
        sent, self._sent = self._sent, []
        return sent


async def _at_once(call: Callable[[bytes], Awaitable[object]], bodies: list[bytes]) -> None:
    """All of them, so many in flight at a time."""
    waiting = iter(bodies)

    async def dispatcher() -> None:
        for body in waiting:
            await call(body)

    await asyncio.gather(*(dispatcher() for _ in range(_IN_FLIGHT)))


def _aggregate(store: JobStore, packed: list[bytes]) -> None:
    for start in range(0, len(packed), 4):
        delivery_ledger.apply(store, [unpack_delivery(data) for data in packed[start : start + 4]])


def _call(row: int, chunk: int) -> Call:
    return Call(
        f"0123456789-{row:08x}",
        row,
        chunk,
        attempt=1,
        sent_at=2.0,
        latency_s=1.5,
        status=200,
        code="",
        billing=Billing.KNOWN,
        cost=Decimal("0.0000522948192"),
        bound=Decimal("0.01"),
        bound_tokens=1000,
        usage=Usage(200, 60),
        generation_id=f"gen-{row}",
        provider="one",
    )


def _result(row: int, body: int) -> Result:
    return Result(
        row,
        state=ResultState.COMPLETED,
        code="",
        message="",
        status=200,
        attempts=1,
        call=f"0123456789-{row:08x}",
        latency_s=1.5,
        finished_at=4.0,
        body=body,
    )


def main() -> int:
    """Measures in turns and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name, endpoint() as url:
        bench = Bench(Path(name), given.requests, url)
        print(f"{'station':<16}{'requests/s':>12}{'times':>8}  against")
        for station in bench.stations():
            if given.only and station.name not in given.only:
                continue
            pairs = [(station.ours(), station.yardstick()) for _ in range(given.rounds)]
            speed = given.requests / statistics.median(ours for ours, _ in pairs)
            ratio = statistics.median(ours / other for ours, other in pairs)
            print(f"{station.name:<16}{speed:>12,.0f}{ratio:>8.2f}  {station.against}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
