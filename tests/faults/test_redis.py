"""Redis restarts, forgets, refuses, stalls and lies: lines R1 to R20, and what must come of each.

One installation of real processes serves all tests, so none of its processes is started again for
a fault's sake; a line between them and the server can be spoilt. In each test a job is under way
when the fault comes, and another one is submitted when it is over: that is what `recovery` is
measured by. Long faults are shortened as far as the law stays the same: what matters is whether
they outlast a command's time (4 s) and a claim's life (15 s).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError

from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from jobs import names
from jobs.chunk import ChunkClosed, ReturnReason
from jobs.errors import NightshiftError
from jobs.outcome import Billing
from jobs.result import Call
from jobs.signing import Seal, Target, fingerprint
from jobs.wire import Delivery, pack_delivery
from scripts.torturing.installation import KEY, SOON_LOST, Installation, free_port
from scripts.torturing.relay import Relay
from tests.conftest import SEAL

ROWS = 120
RECOVERY_S = 30.0
ENDPOINT = ("--latency", "uniform:0.2:0.6", "--max-in-flight", "24")


class Eavesdropper(threading.Thread):
    """Keeps all that workers ask about the chunks of a job meanwhile; who has a client may."""

    def __init__(self, port: int, job: str) -> None:
        super().__init__(daemon=True)
        self._redis, self._key = Redis(port=port), names.results_key(job)
        self._heard: list[dict[bytes, bytes]] = []
        self._ends = threading.Event()

    def run(self) -> None:
        last: Any = "$"
        while not self._ends.is_set():
            for _, entries in cast(Any, self._redis.xread({self._key: last}, block=100)):
                self._heard += [fields for _, fields in entries if b"a" in fields]
                last = entries[-1][0]

    def __enter__(self) -> list[dict[bytes, bytes]]:
        self.start()
        return self._heard

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()
        self._redis.close()


class Stage:
    """A house whose way to the server leads through a relay, and the job under way on it."""

    def __init__(self, house: Installation, relay: Relay) -> None:
        self.house = house
        self.relay = relay
        self.redis = Redis(port=house.port, socket_timeout=30)
        self.job = ""
        self._count = 0
        self._name = ""

    @property
    def calls(self) -> int:
        """All calls that ever came to the endpoint."""
        return len(self.house.simulator.book().chats())

    @property
    def queue(self) -> str:
        """The Celery queue of the house's endpoint."""
        seal = Seal((self.house.folder / "home" / names.SECRET).read_bytes().strip())
        target = Target(self.house.simulator.base_url, fingerprint(KEY))
        return names.CELERY_PREFIX + seal.queue(target)

    def begin(self, rows: int = ROWS) -> None:
        """Submits a job and returns when some of it is answered."""
        self._born = {name: process.pid for name, process in self.house.processes.items()}
        before = self.calls
        self.job = self._submit(rows)
        self._rows = rows
        until("the job is under way", lambda: self.calls > before + 20)

    @property
    def is_over(self) -> bool:
        """Whether the job's outputs stand."""
        return self.house.is_over(self._name)

    def _submit(self, rows: int) -> str:
        self._count += 1
        self._name = f"job{self._count}"
        return self.house.submit(self._name, rows)

    def end(self) -> float:
        """Now that the fault is over: both jobs end by themselves and all laws hold.

        Not one call was made twice, and nobody was started again. Returns after how many seconds
        a job that was submitted now had ended.
        """
        first, rows, job = self._name, self._rows, self.job
        over = time.monotonic()
        probe = self._submit(20)
        probed = self._name
        until("work goes on", lambda: self.house.is_over(probed), RECOVERY_S)
        seconds = time.monotonic() - over
        self.house.wait(first)
        self._judge(first, job, rows)
        self._judge(probed, probe, 20)
        print(f"recovery {seconds:.1f} s")
        assert self.living() == self._born.keys()
        for name, pid in self._born.items():
            assert name == "server" or self.house.processes[name].pid == pid
        return seconds

    def _judge(self, name: str, job: str, rows: int) -> None:
        found = self.house.audit(name, job, 0)
        assert found.broken == []
        assert (found.rows, found.completed, found.failed) == (rows, rows, 0)
        assert (found.billed_calls, found.bought_twice, found.uncertain) == (rows, 0, 0)

    def living(self) -> set[str]:
        """The processes that run."""
        return {name for name, each in self.house.processes.items() if each.poll() is None}

    def tell(self, *command: str) -> object:
        """A command that the client has no name for."""
        return self.redis.execute_command(*command)  # type: ignore[no-untyped-call]

    def logged(self, name: str) -> str:
        """All that a process said."""
        return (self.house.folder / f"{name}.log").read_text()

    def restart_server(self, number: signal.Signals = signal.SIGKILL, away_s: float = 1.0) -> None:
        """Ends it and puts it back."""
        self.house.kill("server", number)
        time.sleep(away_s)
        self.house.start("server")

    def become(self, folder: Path) -> None:
        """Gives it the memory of a server in this folder, as its replica that is promoted."""
        other = Installation(folder, workers=0)
        other.start("server")
        self.tell("REPLICAOF", "127.0.0.1", str(other.port))
        try:
            until("it has it", lambda: self.redis.info("replication")["master_link_status"] == "up")
        finally:
            other.kill("server")
        self.tell("REPLICAOF", "NO", "ONE")

    def mend(self) -> None:
        """Whatever a test left behind, the next one finds all well."""
        self.relay.delay_s, self.relay.deaf = 0.0, False
        self.relay.hear = lambda _: False
        self.house.server_options = []
        for path in ("dump.rdb", "appendonlydir"):
            with suppress(OSError):
                (self.house.folder / path).rename(self.house.folder / f"{path}.{time.time()}")
        for name in set(self.house.processes) - self.living() - {"server"}:
            self.house.processes.pop(name)
            self.house.start(name)
        if "server" not in self.living():
            self.house.processes.pop("server", None)
            self.house.start("server")
        self.house.processes["server"].send_signal(signal.SIGCONT)
        with suppress(RedisError):
            self.tell("REPLICAOF", "NO", "ONE")
            for key, value in (("maxmemory", "0"), ("appendonly", "no"), ("save", "")):
                self.redis.config_set(key, value)


def until(what: str, holds: Callable[[], bool], patience_s: float = 60) -> float:
    """Returns as soon as it holds, and after how many seconds that was."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < patience_s, f"it never came to this: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    house = Installation(tmp_path_factory.mktemp("house"), workers=1, endpoint=ENDPOINT)
    with Relay(house.port) as relay:
        house.way_to_redis = relay.port
        with house:
            yield Stage(house, relay)


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    shared.mend()
    yield shared
    shared.mend()


# ---- it restarts ---------------------------------------------------------------------------------


def test_r1_a_restart_with_its_memory_kept_costs_no_call(stage: Stage) -> None:
    stage.redis.config_set("appendonly", "yes")
    until("all is in the file", lambda: stage.redis.info("persistence")["aof_current_size"] > 0)
    stage.house.server_options = ["--appendonly", "yes"]
    stage.begin()
    stage.redis.set("a mark", "kept")

    stage.restart_server(signal.SIGTERM)

    until("its memory is back", lambda: stage.redis.get("a mark") == b"kept")
    stage.end()


def test_r2_a_restart_with_nothing_kept_costs_no_call(stage: Stage) -> None:
    stage.begin()

    stage.restart_server(signal.SIGTERM)

    stage.end()


def test_r3_flushall_costs_no_call(stage: Stage) -> None:
    stage.begin()

    stage.redis.flushall()

    stage.end()


def test_r4_kill_after_kill_costs_no_call(stage: Stage) -> None:
    """A hundred of them: `scripts/torture harmless`."""
    stage.begin()

    for _ in range(3):
        stage.restart_server(away_s=0.3)
        time.sleep(0.7)

    stage.end()


def test_r5_a_failover_to_an_empty_replica_costs_no_call(stage: Stage, tmp_path: Path) -> None:
    stage.begin()

    stage.become(tmp_path)

    stage.end()


def test_r5_a_failover_to_a_stale_replica_costs_no_call(stage: Stage) -> None:
    """It has all of a moment ago, the mark of its memory too: nobody can see that it is stale."""
    stage.begin()
    stage.redis.save()
    made = stage.calls
    until("more was done than it knows", lambda: stage.calls > made + 40)

    stage.restart_server(away_s=0)

    stage.end()


@pytest.mark.parametrize("how", ["snapshot", "replica"])
def test_r5_a_server_that_comes_back_older_than_it_was_has_nothing_bought_again(
    how: str, stage: Stage, tmp_path: Path
) -> None:
    """In that memory all three jobs wait: one is over by now, one cancelled, one in progress.

    One worker is at work meanwhile, another is started afterwards. The replica's memory comes to
    the same process, over connections that stay.
    """
    house = stage.house
    house.kill("worker-0", signal.SIGTERM)
    ended, cancelled, going = (f"{name}-{how}" for name in ("ended", "cancelled", "going"))
    sizes = {ended: 40, cancelled: 200, going: 300}
    jobs = {name: house.submit(name, rows) for name, rows in sizes.items()}
    until("all are fed", lambda: all(fed(stage.redis, job) for job in jobs.values()))
    stage.redis.save()
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(house.folder / "dump.rdb", older)
    house.start("worker-0")
    until("one is over", lambda: house.is_over(ended))
    house.command("cancel", jobs[cancelled])
    until("one is cancelled", lambda: house.is_over(cancelled))
    made = stage.calls

    if how == "snapshot":
        shutil.copy(older / "dump.rdb", house.folder)
        stage.restart_server(away_s=0)
    else:
        stage.become(older)
    house.start("worker-1")

    until("work goes on", lambda: stage.calls > made + 20)
    house.wait(going)
    for name, job in jobs.items():
        found = house.audit(name, job, 0)
        assert (found.broken, found.bought_twice) == ([], 0)
        assert found.billed_calls == found.completed
    assert not stage.redis.keys("ns:payload:*")
    house.kill("worker-1", signal.SIGTERM)


def fed(redis: Redis, job: str) -> bool:
    """Whether something of the job waits."""
    return bool(redis.keys(names.payload_key(job, "*")))


# ---- it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "wrong", "well", "told"),
    [
        ("requirepass", "another", "", "Redis rejected the password"),
        ("maxclients", "1", "10000", "Redis has reached its limit of clients"),
    ],
)
def test_r18_a_server_that_lets_nobody_in_for_a_while_ends_nobody_and_is_told_by_name(
    stage: Stage, setting: str, wrong: str, well: str, told: str
) -> None:
    stage.begin(4 * ROWS)

    stage.tell("CONFIG", "SET", setting, wrong)
    stage.relay.reset_all()
    try:
        until("it is told", lambda: told in stage.logged("coordinator"))
        time.sleep(7)  # so long that a worker's patience with what it has in flight is used up
    finally:
        stage.tell("CONFIG", "SET", setting, well)

    stage.end()


def test_r6_a_server_that_turns_read_only_fails_no_request(stage: Stage) -> None:
    stage.begin()

    stage.tell("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(RedisError, match="read only replica"):
        stage.redis.set("x", "y")
    time.sleep(6)
    stage.tell("REPLICAOF", "NO", "ONE")

    stage.end()


def test_r7_a_full_server_slows_the_feeding_and_loses_nothing(stage: Stage) -> None:
    stage.begin()

    stage.redis.config_set("maxmemory", "1")
    with pytest.raises(RedisError, match=r"OOM|maxmemory"):
        stage.redis.set("x", "y")
    until("workers still pop", lambda: stage.redis.llen(stage.queue) == 0, 40)
    time.sleep(5)
    stage.redis.config_set("maxmemory", "0")

    stage.end()


# R8, a server that may drop keys: `acceptance/test_refusals`.


def test_r9_a_server_that_cannot_write_its_disk_is_waited_for(stage: Stage) -> None:
    """A snapshot cannot take the place of a folder; so also where no right is missing, as root.

    The catalogue has a job pause after ten minutes; by the design it waits, and goes on by itself.
    """
    stage.begin()
    stage.redis.config_set("save", "1 1")
    blocked = stage.house.folder / "dump.rdb"
    blocked.mkdir()

    def refuses() -> bool:
        try:
            stage.redis.set("x", "y")
        except RedisError as error:
            return "MISCONF" in str(error)
        return False

    until("it refuses to write", refuses, 20)
    time.sleep(5)
    assert refuses()
    stage.redis.config_set("save", "")
    blocked.rmdir()

    def writes() -> bool:
        with suppress(RedisError):  # it may still be at the attempt before
            stage.redis.bgsave()
        return not refuses()

    until("it writes again", writes)

    stage.end()


def test_r10_a_server_that_loads_its_memory_is_waited_for(stage: Stage) -> None:
    stage.begin()
    for number in range(1500):
        stage.redis.set(f"ballast:{number}", os.urandom(2000), ex=600)
    stage.redis.save()
    slow = ["--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024"]
    stage.house.server_options = slow

    began = time.monotonic()
    stage.restart_server(away_s=0)

    with pytest.raises(RedisError, match="loading"):
        stage.redis.get("x")
    until("it is loaded", lambda: not stage.redis.info("persistence")["loading"])
    assert time.monotonic() - began > 3
    stage.end()


# ---- it is slow, or cut off ----------------------------------------------------------------------


def test_r11_half_a_second_more_per_command_fails_nothing(stage: Stage) -> None:
    stage.relay.delay_s = 0.5
    stage.begin(22)
    until("the job ends all the same", lambda: stage.is_over)
    stage.relay.delay_s = 0.0

    stage.end()


def test_r12_a_server_that_stands_still_for_longer_than_a_claim_lives_costs_no_call(
    stage: Stage,
) -> None:
    """17 s for 60 s: claims live 15 s, and are gone when it wakes."""
    stage.begin()
    stage.house.processes["server"].send_signal(signal.SIGSTOP)
    time.sleep(3)
    made = stage.calls
    until("calls in flight ended", lambda: stage.house.simulator.stats()["in_flight"] == 0)

    time.sleep(14)
    stage.house.processes["server"].send_signal(signal.SIGCONT)

    assert stage.calls >= made
    stage.end()


def test_r13_lost_packets_cost_no_call_and_connections_that_stay_deaf_are_left(
    stage: Stage,
) -> None:
    """17 s for five minutes; and worse: connections of before never hear anything again."""
    stage.begin()

    stage.relay.deaf = True
    time.sleep(17)
    stage.relay.deaf = False

    stage.end()


def test_r13_no_command_blocks_for_longer_than_5_seconds(stage: Stage) -> None:
    url = f"redis://127.0.0.1:{stage.relay.port}/0"
    post, sender = CoordinatorRedis(url, SEAL), Sender(url, SEAL)
    job = "job_01jd0000000000000000000000"
    target = Target("http://127.0.0.1:1/v1", "")
    sender.look_up(job, "test", target, [])
    post.status.workers()
    stage.relay.deaf = True

    def seconds(command: Callable[[], object]) -> float:
        began = time.monotonic()
        with pytest.raises(NightshiftError):
            command()
        return time.monotonic() - began

    with ThreadPoolExecutor() as threads:
        waits = list(
            threads.map(
                seconds,
                (
                    post.status.workers,
                    lambda: post.results.read([job], 0.1),
                    lambda: sender.look_up(job, "test", target, []),
                ),
            )
        )
    stage.relay.deaf = False

    assert max(waits) < 5
    post.close()
    sender.close()


def test_r14_a_hundred_connection_resets_cost_no_call(stage: Stage) -> None:
    stage.begin()
    broken = 0

    while broken < 100:
        broken += stage.relay.reset_all()
        stage.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.1)

    stage.end()


# R15 and R16, messages that come three times or not at all: `test_campaigns`, and
# `test_worker_process` for one chunk.


# ---- it lies -------------------------------------------------------------------------------------


def test_r17_garbage_and_huge_messages_are_dropped_and_counted(stage: Stage) -> None:
    """Pickled and other foreign messages to a worker: `test_worker_process`."""
    stage.begin()
    stream = names.results_key(stage.job)

    stage.redis.rpush(stage.queue, b"\x80\x04garbage", b"[" * 100_000, b"x" * 50 * 2**20)
    for _ in range(3):
        stage.redis.xadd(stream, {"d": b"\x80\x04garbage"})
    stage.redis.xadd(stream, {"other": b"field"})
    stage.redis.xadd(stream, {"d": b"x" * 50 * 2**20})
    for key in stage.redis.scan_iter("ns:acks:*"):
        stage.redis.rpush(key, b"garbage", b"-1", b"99999999999999999999999")

    stage.end()
    assert dropped(stage) == 5
    assert stage.logged("worker-0").count("dropped an invalid message") == 3


def dropped(stage: Stage) -> int:
    """What the coordinator says it dropped of the job's deliveries."""
    lines = [line.split() for line in stage.logged("coordinator").splitlines()]
    mark = f"{stage.job}:"
    return sum(
        int(line[line.index("dropped") + 1]) for line in lines if mark in line and "dropped" in line
    )


# R18, a wrong or missing password: `acceptance/test_refusals` and `test_worker_process`.


def test_r19_forged_deliveries_touch_no_book_and_no_file(stage: Stage) -> None:
    """One that is right in all that can be checked is for the password of Redis to keep away."""
    stage.begin()
    other = "job_01jd0000000000000000000000"
    files = sorted(stage.house.folder.rglob("home/jobs/*"))

    def forge(job: str, ordinal: int, outbox: str = "forged", to: str = "") -> None:
        call = Call(
            *("forged-1", ordinal, 1, 1, 0.0, 0.1, 200, "", Billing.KNOWN),
            cost=Decimal(1),
            bound=Decimal(1),
        )
        closed = ChunkClosed(10**6, ReturnReason("done"), [(ordinal, 1, 0)], {})
        delivery = Delivery(outbox, 1, job, [call], [], [closed], [])
        stage.redis.xadd(names.results_key(to or job), {"d": pack_delivery(delivery)})

    forge(other, 0, to=stage.job)
    forge("../../x", 0, to=stage.job)
    forge(stage.job, 0, outbox="../../x")
    forge(stage.job, 10**9)
    forge(other, 0)

    stage.redis.delete(names.results_key(other))  # nobody else would
    stage.end()
    assert set(files) <= set(stage.house.folder.rglob("home/jobs/*"))
    assert not list(stage.house.folder.rglob(f"*{other}*"))


def test_r20_commands_whose_replies_got_lost_count_once(stage: Stage) -> None:
    """No reservation is kept in Redis; what is: claims, messages, deliveries, acknowledgements."""
    lost: dict[bytes, int] = dict.fromkeys((b"LPUSH", b"XADD", b"XDEL", b"LPOP", b"ns:taken"), 0)

    def hear(data: bytes) -> bool:
        for command, times in lost.items():
            applies = command in data and (command != b"ns:taken" or b"EVALSHA" in data)
            if applies and times < 3:
                lost[command] += 1
                return True
        return False

    stage.relay.hear = hear
    stage.begin()

    stage.end()
    assert set(lost.values()) == {3}
    assert stage.relay.lost_replies >= 10


def test_of_lost_hosts_chunks_all_comes_home_but_what_can_have_been_in_flight(
    tmp_path: Path,
) -> None:
    """Redis forgets while no coordinator runs, before the first worker; a worker dies on taking a
    chunk, another one with 24 calls in flight and with its disk. Asks that it made before are put
    back.
    """
    endpoint = ("--latency", "uniform:0.3:0.6", "--max-in-flight", "24")
    house = Installation(tmp_path, workers=0, endpoint=endpoint, constants=SOON_LOST)
    with Relay(house.port) as relay, closing(Redis(port=house.port)) as redis:
        house.way_to_redis = relay.port
        with house:
            job = house.submit("job", 200, "--budget-rub", "400", "--max-in-flight", "24")
            until("it is fed", lambda: bool(redis.keys("ns:payload:*")))
            fed = len(redis.keys("ns:payload:*"))
            house.kill("coordinator")
            redis.flushall()
            house.start("coordinator")
            until("it is fed anew", lambda: bool(redis.keys("ns:payload:*")))

            def hear(data: bytes) -> bool:
                keys = re.search(
                    rb"EVALSHA.*?(\w{40}).*ns:payload.*(ns:fence:(\w+)).*(ns:voucher:\w+)",
                    data,
                    re.DOTALL,
                )
                # A script that the server has not seen yet takes nothing: it is sent once more.
                known = keys and redis.script_exists(keys[1].decode())[0]
                takes = keys and known and redis.hexists(keys[4], keys[3])
                if takes:
                    house.processes["worker-0"].send_signal(signal.SIGSTOP)
                return bool(takes)

            relay.hear = hear
            house.start("worker-0")
            until("it stands still", lambda: bool(redis.keys("ns:taken:*")))
            house.kill("worker-0")
            relay.hear = lambda _: False
            with Eavesdropper(house.port, job) as asks:
                house.start("worker-1")
                until("it has calls", lambda: len(house.simulator.book().in_flight()) >= 24)
                house.kill("worker-1")
            shutil.rmtree(house.folder / "scratch" / "worker-1")
            for ask in asks:
                redis.xadd(names.results_key(job), cast(Any, ask))
            house.start("worker-0")
            house.wait("job")
            found = house.audit("job", job, cap=Decimal(400))
            ((bound,),) = house.at_home(job, "SELECT max(CAST(bound AS REAL)) FROM calls")
            lost = json.loads((house.output("job") / "cost.json").read_text())["lost"]

    assert fed > 0
    assert len(asks) > 3
    assert found.completed == 200
    assert found.bought_twice <= 24
    at_most = Decimal(lost["at_most_rub"])
    assert found.endpoint_rub <= found.ledger_rub + at_most <= 400
    # Those in flight, and of chunks of 8 the rest of one and the next: all that it had is 200.
    assert isinstance(bound, float)
    assert 24 * bound <= float(at_most) < 2.25 * 24 * bound
