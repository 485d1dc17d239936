"""A real worker process on a real server; the test plays the coordinator.

The ids name the lines of the catalogue of faults (P1 to P9, P13, P18, F1, R1 to R19, S2, S3).
"""

from __future__ import annotations

import bz2
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
import pytest
from celery import Celery
from redis import Redis

from batch.coordinator.fence import Fence
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.result_streams import Mail
from batch.coordinator.task_publisher import Sender
from batch.flower import celery_app
from batch.store.home import Home
from jobs import names
from jobs.budget import Amount
from jobs.celery_settings import celery_settings
from jobs.chunk import DONE, DRAINED, ChunkClosed, Payload, Terms, Work
from jobs.errors import NightshiftError
from jobs.outcome import Billing
from jobs.remote_control import signed
from jobs.result import Call, Result, ResultState
from jobs.signing import Seal, Target, fingerprint
from jobs.wire import Found, Permit, pack_payload
from scripts.simulator import Simulator
from scripts.simulator.book import Book
from tests.conftest import CANARY, ROOT, SEAL, SECRET, Server
from workers.program import node_name

JOB = "job_01jd0000000000000000000000"
MODEL = "minimax/minimax-m1"
PROMPT = "canary-prompt"
PATIENCE_S = 60.0


def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "that did not come about"
        time.sleep(0.02)


class Vouching(threading.Thread):
    """Vouches for whatever memory the server has, as a coordinator that put it right, and lets the
    first that asks begin a chunk.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._ends = threading.Event()
        self.sender = Sender(server.url, SEAL)
        self.begun: dict[int, str] = {}
        self.start()
        until(lambda: self.sender.fence)

    def run(self) -> None:
        with (
            closing(CoordinatorRedis(self._server.url, SEAL)) as post,
            TemporaryDirectory() as folder,
        ):
            fence = Fence(Home(Path(folder)), post, self.sender)
            while not self._ends.wait(0.05):
                with suppress(NightshiftError):
                    if not fence.holds():
                        fence.renew()
                    for mail in post.results.read([JOB], 0.0):
                        self.permit(post, mail)

    def permit(self, post: CoordinatorRedis, mail: Mail) -> None:
        for ask in mail.asks:
            attempt = self.begun.setdefault(ask.chunk, ask.attempt)
            post.chunks.permit(JOB, {ask.chunk: Permit(attempt, ask.opened)})

    def close(self) -> None:
        self._ends.set()
        self.join()
        self.sender.close()


class Coordinator:
    """Sends chunks and takes results in as the home does, each fact once."""

    def __init__(self, server: Server, base_url: str) -> None:
        self.post = CoordinatorRedis(server.url, SEAL)
        self.sender = Sender(server.url, SEAL)
        self.redis = Redis.from_url(server.url)
        self.target = Target(base_url, fingerprint(CANARY))
        self._vouching = Vouching(server)
        self.calls: dict[str, Call] = {}
        self.results: dict[int, Result] = {}
        self.closed: dict[int, ChunkClosed] = {}
        self.found: list[Found] = []
        self.garbage = 0
        self.forgets = True

    def payload(self, chunk: int, ordinals: range, base_url: str = "", **terms: Any) -> Payload:
        return Payload(
            JOB,
            "test",
            chunk,
            base_url or self.target.base_url,
            self.target.key,
            Terms(**{"max_in_flight": 8, **terms}),
            Amount(),
            (MODEL,),
            [Work(ordinal, 0, body(ordinal), Decimal(5), 5000) for ordinal in ordinals],
        )

    def send(self, chunk: int, ordinals: range, **terms: Any) -> None:
        self.post.chunks.put_payload(self.payload(chunk, ordinals, **terms))
        self.message(chunk)

    def message(self, chunk: int) -> None:
        # A real one sends again what went out before it saw that Redis had forgotten.
        until(lambda: self.redis.exists(names.fence_key(self._vouching.sender.fence)))
        self.sender.fence = self._vouching.sender.fence
        self.sender.run_chunk(JOB, "test", self.target, chunk, 1)

    def read(self) -> None:
        for mail in self.post.results.read([JOB], 0.02):
            self._vouching.permit(self.post, mail)
            self.garbage += mail.garbage
            for delivery in mail.deliveries:
                self.calls |= {call.id: call for call in delivery.calls}
                for result in delivery.results:
                    self.results.setdefault(result.ordinal, result)
                for closed in delivery.closed:
                    self.closed.setdefault(closed.chunk, closed)
                self.found += delivery.found
            self.post.results.acknowledge(mail)
            if self.forgets:
                self.post.chunks.forget_chunks(JOB, list(self.closed))

    def await_closed(self, *chunks: int) -> None:
        def closed() -> bool:
            self.read()
            return self.closed.keys() >= set(chunks)

        until(closed)

    def await_results(self, rows: Iterable[int]) -> None:
        expected = set(rows)

        def there() -> bool:
            self.read()
            return self.results.keys() >= expected

        until(there)
        assert self.results.keys() == expected

    def close(self) -> None:
        self._vouching.close()
        self.post.close()
        self.sender.close()
        self.redis.close()


class Worker:
    """`python -m workers` with a scratch folder of the test's."""

    def __init__(self, folder: Path, server: Server, base_url: str, **environ: str) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        self.scratch = folder / "scratch"
        secret = folder / "secret"
        secret.touch(0o600)
        secret.write_bytes(SECRET)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers"],
                cwd=ROOT,
                env={
                    **{name: each for name, each in os.environ.items() if "NIGHTSHIFT" not in name},
                    "NIGHTSHIFT_REDIS_URL": server.url,
                    "NIGHTSHIFT_BASE_URL": base_url,
                    "NIGHTSHIFT_SCRATCH": str(self.scratch),
                    "NIGHTSHIFT_LOG": "INFO",
                    "NIGHTSHIFT_POST_SECRET_FILE": str(secret),
                    "ROUTERAI_API_KEY": CANARY,
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, patience_s: float = 60) -> int:
        return self.process.wait(patience_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def outboxes(self) -> list[Path]:
        """The folders with what is not yet in the home."""
        return [path for path in (self.scratch / "outbox").iterdir() if path.is_dir()]


class Scene:
    """An endpoint, a server, a coordinator, and workers as they are wanted."""

    def __init__(self, folder: Path, server: Server, endpoint: Simulator) -> None:
        self.folder = folder
        self.server = server
        self.endpoint = endpoint
        self.home = Coordinator(server, endpoint.base_url)
        self.workers: list[Worker] = []

    def worker(self, **environ: str) -> Worker:
        one = Worker(self.folder, self.server, self.endpoint.base_url, **environ)
        self.workers.append(one)
        return one

    def ready(self, count: int = 1) -> None:
        until(lambda: len(self.home.post.status.workers()) >= count)

    def calls(self) -> Book:
        return self.endpoint.book().chats()

    def in_flight(self, count: int) -> None:
        until(lambda: len(self.calls().in_flight()) >= count)

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.home.close()


@pytest.fixture
def scene(
    tmp_path: Path, server: Server, simulator: Callable[..., Simulator]
) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def start(*options: str) -> Scene:
        one = Scene(tmp_path, server, simulator(*options))
        made.append(one)
        return one

    yield start
    for one in made:
        one.close()


def body(ordinal: int) -> bytes:
    message = {"role": "user", "content": f"{PROMPT} {ordinal}"}
    return json.dumps({"model": MODEL, "messages": [message], "max_tokens": 400}).encode()


Scenes = Callable[..., Scene]


def test_r15_a_chunk_delivered_thrice_is_run_once(scene: Scenes) -> None:
    one = scene("--latency", "constant:0.2")
    one.home.send(1, range(20))
    one.home.message(1)
    one.home.forgets = False
    one.worker()
    one.in_flight(1)
    one.home.message(1)
    one.home.await_closed(1)

    # Too late, with the payload still there: it was run.
    one.home.message(1)
    one.home.send(2, range(20, 21))
    one.home.await_closed(2)
    # Later still, when the home has forgotten it.
    one.home.post.chunks.forget_chunks(JOB, [1])
    one.home.message(1)
    one.home.send(3, range(21, 22))
    one.home.await_closed(3)

    assert len(one.calls()) == 22
    assert one.home.results.keys() == set(range(22))
    assert sum(call.cost or 0 for call in one.home.calls.values()) == one.calls().total_billed()


def test_p8_sigterm_lets_calls_end_and_gives_the_rest_back(scene: Scenes) -> None:
    one = scene("--latency", "constant:1")
    worker = one.worker()
    one.home.send(1, range(40))
    one.in_flight(8)

    worker.signal(signal.SIGTERM)
    one.home.await_closed(1)

    assert worker.ended() == 0
    closed = one.home.closed[1]
    assert closed.reason == DRAINED
    assert len(one.home.results) + len(closed.returned) == 40
    assert len(one.home.results) == len(one.calls()) == len(one.calls().billed())
    assert worker.outboxes == []
    assert one.home.post.status.workers() == []


def test_a_worker_that_is_told_to_end_while_it_starts_ends_in_order(scene: Scenes) -> None:
    one = scene()
    for wait in (0.5, 0.7, 0.9, 1.1):
        worker = one.worker()
        time.sleep(wait)
        worker.signal(signal.SIGTERM)
        # Before Celery has set itself up, the process dies of it.
        assert worker.ended() in {0, -signal.SIGTERM}
        assert b"Traceback" not in worker.log.read_bytes()


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGQUIT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGQUIT)],
)
def test_p9_a_second_signal_or_sigquit_cuts_and_books_what_was_in_flight(
    scene: Scenes, signals: tuple[signal.Signals, ...]
) -> None:
    one = scene("--fault", "silence")
    worker = one.worker()
    one.home.send(1, range(20))
    one.in_flight(8)
    # Their headers came.
    until(lambda: logged(worker, b"heard") >= 8)

    for number in signals:
        worker.signal(number)
        time.sleep(0.3)
    one.home.await_closed(1)
    worker.ended()

    assert len(one.home.calls) == 8
    assert {call.billing for call in one.home.calls.values()} == {Billing.UNKNOWN}
    ids = {call.generation_id for call in one.home.calls.values()}
    assert ids == {entry.generation_id for entry in one.calls()}
    assert sorted(r[0] for r in one.home.closed[1].returned) == list(range(20))
    assert sum(r[2] for r in one.home.closed[1].returned) == 8


def logged(worker: Worker, kind: bytes) -> int:
    """How many records of a kind the worker's journal holds."""
    logs = worker.scratch.glob("outbox/*/*.log")
    return sum(path.read_bytes().count(kind) for path in logs)


def test_p4_p5_after_sigkill_answers_are_delivered_and_calls_in_flight_are_booked(
    scene: Scenes,
) -> None:
    one = scene("--latency", "constant:0.3", "--fault", "silence:row=canary-prompt 7")
    first = one.worker()
    one.home.send(1, range(24))
    until(lambda: logged(first, b"ended") >= 12)

    first.kill()
    made = len(one.calls())
    one.worker()
    one.home.await_closed(1)

    back = {r[0] for r in one.home.closed[1].returned}
    assert back | one.home.results.keys() == set(range(24))
    assert not back & one.home.results.keys()
    assert len(one.home.results) >= 12
    assert len(one.calls()) == made
    uncertain = [call for call in one.home.calls.values() if call.billing is Billing.UNKNOWN]
    # Some of them may not have got as far as the endpoint.
    assert made - len(one.home.results) <= len(uncertain) <= 8
    assert any(call.generation_id for call in uncertain)
    # Delivered and acknowledged: it is gone from the disk.
    until(lambda: len(first.outboxes) == 1)


def test_a_worker_that_starts_after_a_dead_one_does_not_wait_for_its_places(scene: Scenes) -> None:
    one = scene("--latency", "constant:60")
    first = one.worker()
    one.home.send(1, range(8))
    one.in_flight(8)
    (places,) = one.home.redis.scan_iter(names.slots_key("*"))
    (dead,) = one.home.redis.hkeys(places)

    first.kill()
    one.worker()
    one.home.send(2, range(8, 16))
    until(lambda: set(one.home.redis.hkeys(places)) - {dead})

    assert dead not in one.home.redis.hkeys(places)
    until(lambda: len(one.calls()) > 8)


def test_r3_flushall_in_mid_run_loses_nothing(scene: Scenes) -> None:
    one = scene("--latency", "uniform:0.1:0.4")
    one.worker()
    one.home.send(1, range(48))
    until(lambda: len(one.calls()) > 8)

    one.home.redis.flushall()
    until(lambda: len(one.calls()) > 24)
    one.home.redis.flushall()

    one.home.await_closed(1)
    # What the server forgot comes again, perhaps after the closing.
    one.home.await_results(range(48))
    assert len(one.calls()) == 48
    assert {result.state for result in one.home.results.values()} == {ResultState.COMPLETED}


def test_r2_r4_a_server_that_comes_back_empty_is_served_without_a_restart(scene: Scenes) -> None:
    one = scene("--latency", "constant:0.3")
    worker = one.worker()
    one.home.send(1, range(30))
    until(lambda: len(one.calls()) > 8)

    one.server.kill()
    time.sleep(1)
    one.server.start()
    one.home.await_closed(1)
    assert one.home.closed[1].reason == DONE
    assert len(one.calls()) == 30

    one.home.send(2, range(30, 40))
    one.home.await_closed(2)

    assert one.home.results.keys() == set(range(40))
    assert len(one.calls()) == 40
    assert worker.process.poll() is None


def test_p13_a_worker_that_slept_past_its_lease_goes_on_only_with_what_is_still_its_own(
    scene: Scenes,
) -> None:
    one = scene("--latency", "constant:0.5")
    worker = one.worker()
    one.home.send(1, range(60))
    one.in_flight(8)

    worker.signal(signal.SIGSTOP)
    made = len(one.calls())
    # As after its lease and the coordinator's patience: the chunk was given up.
    one.home.redis.delete(names.claim_key(JOB, 1), names.payload_key(JOB, 1))
    until(lambda: not one.calls().in_flight())
    worker.signal(signal.SIGCONT)
    one.home.await_closed(1)

    assert one.home.closed[1].reason.code == "lost"
    # Within a beat's time, some more may have left.
    assert len(one.calls()) <= made + 40
    assert len(one.home.results) == len(one.calls())


def test_r17_r19_s3_messages_that_are_not_ours_are_dropped(scene: Scenes) -> None:
    one = scene()
    worker = one.worker()
    one.ready()
    app = Celery("stranger", set_as_current=False)
    app.conf.update(celery_settings(one.server.url))
    queue = SEAL.queue(one.home.target)

    def say(task: str, *args: object, **kwargs: object) -> None:
        app.send_task(task, args=args, kwargs=kwargs, queue=queue)

    touched = one.folder / "touched"
    for job in ("job_1", "../..", f"{JOB}/../x", "", None, 7, [JOB], {"a": 1}, JOB.upper()):
        say(names.RUN_CHUNK, job, 1)
        say(names.LOOK_UP, job, [])
    for chunk in ("one", None, -1, 1.5, True, [1], 10**40):
        say(names.RUN_CHUNK, JOB, chunk)
    for calls in (None, 7, [1], [[1, 2]], [["x", "c", "g"]], [[-1, "c", "g"]], [[1, 2, 3]]):
        say(names.LOOK_UP, JOB, calls)
        signed = SEAL.sign(names.lookup_place(JOB), msgspec.json.encode((calls, "1")))
        say(names.LOOK_UP, JOB, signed.hex())
    say(names.RUN_CHUNK)
    say(names.RUN_CHUNK, JOB, 1, "more", key="more")
    say("nobody.knows.this", JOB, 1)
    say("celery.backend_cleanup")
    one.home.post.chunks.put_payload(
        one.home.payload(50, range(3), base_url="https://example.com/v1")
    )
    say(names.RUN_CHUNK, JOB, 50)
    other = one.home.payload(52, range(3))
    key = names.payload_key(JOB, 51)
    one.home.redis.set(key, SEAL.sign(key, pack_payload(other)))
    say(names.RUN_CHUNK, JOB, 51)
    key = names.payload_key(JOB, 53)
    one.home.redis.set(key, SEAL.sign(key, b"\x28\xb5\x2f\xfd garbage"))
    say(names.RUN_CHUNK, JOB, 53)
    twice = one.home.payload(54, range(3))
    one.home.post.chunks.put_payload(
        Payload(
            *(JOB, "test", 54, *one.home.target, Terms(), Amount(), (MODEL,)),
            [*twice.requests, *twice.requests],
        )
    )
    say(names.RUN_CHUNK, JOB, 54)
    for content_type, data in (
        ("application/x-python-serialize", pickle.dumps(_Touch(touched))),
        ("application/x-yaml", f"!!python/object/apply:os.mknod ['{touched}']".encode()),
        ("application/json", b"{not json"),
        ("application/json", b"[" * 5_000),
    ):
        _raw(app, queue, content_type, data)
    bomb = bz2.compress(b'"%s"' % bytes(2**26))
    _raw(app, queue, "application/json", bomb, compression="application/x-bz2")
    one.home.redis.lpush(f"{names.CELERY_PREFIX}{queue}", b"no message at all")

    one.home.send(1, range(3))
    one.home.await_closed(1)

    assert one.home.results.keys() == {0, 1, 2}
    assert len(one.calls()) == 3
    assert one.home.garbage == 0
    assert worker.process.poll() is None
    assert not touched.exists()
    assert _largest_mib(worker.process.pid) < 500
    app.close()


def _largest_mib(pid: int) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


class _Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self._path),)


def _raw(app: Celery, queue: str, content_type: str, data: bytes, **headers: str) -> None:
    with app.connection_for_write() as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        producer.publish(
            data,
            routing_key=queue,
            exchange="",
            content_type=content_type,
            content_encoding="binary",
            headers={"task": names.RUN_CHUNK, "id": "x", "lang": "py", **headers},
        )


def test_the_remote_shutdown_drains_if_flower_and_nobody_else_asks_for_it(scene: Scenes) -> None:
    one = scene("--latency", "constant:1")
    worker = one.worker()
    one.home.send(1, range(40))
    one.in_flight(8)
    app = Celery("intruder", set_as_current=False)
    app.conf.update(celery_settings(one.server.url))
    flower = celery_app(one.server.url, SEAL, one.home.target)
    ((node, _),) = (flower.control.inspect().ping() or {}).items()

    theirs = signed(Seal(b"whoever came in here"), "shutdown", {}, [node])
    elsewhere = signed(SEAL, "shutdown", {}, ["another"])
    for told in ({}, {"signed": "7"}, {"signed": None}, theirs, elsewhere):
        app.control.broadcast("shutdown", told)
    app.control.broadcast("pool_shrink", {"n": 60})
    until(lambda: worker.log.read_text().count("dropped a remote command") == 6)
    assert worker.process.poll() is None

    flower.control.broadcast("shutdown", destination=[node])
    one.home.await_closed(1)

    assert worker.ended() == 0
    assert one.home.closed[1].reason == DRAINED
    assert len(one.home.results) == len(one.calls())
    assert len(one.home.results) + len(one.home.closed[1].returned) == 40
    app.close()
    flower.close()


def test_lookups_come_home_with_the_exact_cost(scene: Scenes) -> None:
    one = scene("--fault", "usage:form=missing")
    one.worker()
    one.home.send(1, range(2))
    one.home.await_closed(1)
    calls = list(one.home.calls.values())
    assert {call.billing for call in calls} == {Billing.UNKNOWN}

    one.home.sender.look_up(
        JOB,
        "test",
        one.home.target,
        [(call.ordinal, call.id, call.generation_id) for call in calls],
    )

    def found() -> bool:
        one.home.read()
        return len(one.home.found) == 2

    until(found)
    assert sum(each.cost or 0 for each in one.home.found) == one.calls().total_billed()


def test_s2_the_key_is_nowhere_but_in_the_workers_own_memory(scene: Scenes) -> None:
    one = scene("--latency", "constant:0.3", "--fault", "500:call=3")
    worker = one.worker(NIGHTSHIFT_LOG="DEBUG")
    one.home.send(1, range(16))
    one.in_flight(8)
    until(lambda: len(one.home.post.status.workers()))
    stored = [_value(one.home.redis, key) for key in one.home.redis.scan_iter()]
    arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes()
    one.home.await_closed(1)
    worker.signal(signal.SIGTERM)
    one.home.read()
    worker.ended()

    assert len(stored) > 3
    assert CANARY not in repr(stored)
    assert CANARY.encode() not in arguments
    assert CANARY.encode() not in worker.log.read_bytes()
    assert PROMPT.encode() not in worker.log.read_bytes()
    for path in worker.scratch.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


def _value(redis: Redis, key: bytes) -> object:
    kind = cast(bytes, redis.type(key))
    if kind == b"stream":
        return redis.xrange(key)
    reads: dict[bytes, Callable[[], object]] = {
        b"string": lambda: redis.get(key),
        b"hash": lambda: redis.hgetall(key),
        b"list": lambda: redis.lrange(key, 0, -1),
        b"set": lambda: redis.smembers(key),
        b"zset": lambda: redis.zrange(key, 0, -1),
    }
    return key, reads[kind]()


def test_f1_a_disk_that_is_full_ends_the_worker_in_order(scene: Scenes) -> None:
    one = scene("--latency", "constant:0.2")
    worker = one.worker()
    one.home.send(1, range(200))
    until(lambda: logged(worker, b"ended") > 4)

    limit = sum(path.stat().st_size for path in worker.scratch.glob("outbox/*/*.log"))
    subprocess.run(["prlimit", f"--pid={worker.process.pid}", f"--fsize={limit + 100}"], check=True)
    one.home.await_closed(1)

    assert worker.ended() == 4
    assert len(one.home.results) == len(one.calls())
    assert len(one.home.results) + len(one.home.closed[1].returned) == 200
    assert b"outbox" in worker.log.read_bytes()


def test_f12_a_worker_whose_journal_was_deleted_makes_no_further_call(scene: Scenes) -> None:
    one = scene("--latency", "constant:1", "--null-cost-share", "0")
    worker = one.worker()
    one.home.send(1, range(60))
    one.in_flight(8)

    shutil.rmtree(worker.scratch / "outbox")
    left = time.monotonic()
    one.home.await_closed(1)
    ended = worker.ended()

    log = worker.log.read_text()
    assert ended == 4, log
    assert "was deleted while the worker was running" in log
    assert "Traceback" not in log
    calls = list(one.calls())
    assert len(calls) < 60
    assert max(call.received_mono for call in calls) < left + 0.5
    # What was paid for came home all the same, out of the worker's memory.
    assert len(one.home.results) == len(calls)
    assert len(one.home.closed[1].returned) == 60 - len(calls)


def test_containers_that_share_a_hosts_name_are_workers_of_different_names() -> None:
    names = {node_name(name) for name in ("host:1:a1b2c3d4", "host:1:0a0b0c0d")}

    assert names == {"worker-1-a1b2c3d4@host", "worker-1-0a0b0c0d@host"}


def test_a_worker_without_its_settings_says_which(scene: Scenes) -> None:
    one = scene()
    for environ, words in (
        ({"ROUTERAI_API_KEY": ""}, b"no API key"),
        ({"NIGHTSHIFT_REDIS_URL": f"nonsense://{CANARY}"}, b"address of a Redis"),
    ):
        worker = one.worker(**environ)
        assert worker.ended() == 2
        text = worker.log.read_bytes()
        assert words in text
        assert b"Traceback" not in text
        assert CANARY.encode() not in text


def test_r18_a_wrong_password_is_told_at_once_and_not_printed(scene: Scenes) -> None:
    one = scene()
    one.home.redis.config_set("requirepass", "right")
    worker = one.worker(
        NIGHTSHIFT_REDIS_URL=one.server.url.replace("redis://", f"redis://:{CANARY}@")
    )

    assert worker.ended() == 2

    text = worker.log.read_bytes()
    assert b"rejected the password" in text
    assert CANARY.encode() not in text


def test_f11_a_damaged_outbox_is_refused_by_name(scene: Scenes) -> None:
    one = scene("--fault", "silence")
    first = one.worker()
    one.home.send(1, range(10))
    until(lambda: logged(first, b"heard") >= 8)
    first.kill()
    (path,) = first.scratch.glob("outbox/*/*.log")
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes([data[60] ^ 4]) + data[61:])

    second = one.worker()

    assert second.ended() == 4
    assert b"is damaged at byte" in second.log.read_bytes()
    assert path.exists()
