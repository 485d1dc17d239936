"""Processes that are killed, stopped, starved or started twice: P1 to P20.

These need more than a package alone; `docs/faults.md` lists the tests of every line.
`scripts/torture` has the long ones: `kills`, `points`, `pairs`, `window`.
"""

from __future__ import annotations

import ast
import hashlib
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch.reports.output_files import NAMES
from batch.store.home import Home
from jobs.celery_settings import VISIBILITY_S, celery_settings
from scripts.simulator import Simulator
from scripts.torturing import crashpoints
from scripts.torturing.crashpoints import Point
from scripts.torturing.installation import SOON_LOST, Installation
from scripts.torturing.preload import Crashpoint, build, has_compiler
from tests.acceptance.conftest import Shell, batch_lines, read_lines
from tests.conftest import ROOT, Workdir
from tests.journals import open_calls

needs_compiler = pytest.mark.skipif(
    not has_compiler(), reason="NOT RUN: crash points need a C compiler"
)
Simulators = Callable[..., Simulator]


def wait_until(what: str, holds: Callable[[], bool], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.02)


def killing(folder: Path, kind: str, number: int, below: Path) -> dict[str, str]:
    """What kills a process at its Nth call of a kind below a path."""
    return Crashpoint(folder, kind, 0, number, below=below).environ


# ---- killed ------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("number", [4, 6])
def test_p1_a_worker_killed_while_it_connects_costs_no_row(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(crashpoints.POINTS, "connect", Point("worker-0", "connect", 0))

    result = crashpoints.run("connect", tmp_path, first=number, most=number + 1)

    assert result.broken == []
    assert result.hit == 1


@needs_compiler
def test_p6_a_submitter_killed_at_a_write_leaves_no_job_or_one_that_completes(
    tmp_path: Path,
) -> None:
    left = 0
    with Installation(tmp_path, workers=1) as house:
        home = Home(tmp_path / "home")
        for kind, numbers in (
            ("write", (1, 5, 15)),
            ("sync", (1, 2, 3)),
            ("syncdir", (1,)),
            ("rename", (1,)),
            ("open", (4,)),
        ):
            for number in numbers:
                before = set(home.job_ids())
                name = f"{kind}{number}"
                house.input(name).write_text(batch_lines(4, first=100 * left + number))
                words = ("submit", str(house.input(name)), "-o", str(house.output(name)))
                dying = killing(tmp_path, kind, number, tmp_path)
                code = house.run_command(*words, environ=dying).returncode
                new = set(home.job_ids()) - before
                assert len(new) <= 1
                assert new or code, name
                if new:
                    left += 1
                    house.wait(name)
                    assert len(read_lines(house.output(name) / "output.jsonl")) == 4
        # The next to come sweeps up.
        job = house.submit("last", 4)
        house.wait("last")

        assert house.audit("last", job).broken == []
        assert [path.name for path in home.jobs_folder.glob(".*draft")] == []
        assert len(house.simulator.book().billed()) == 4 * left + 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A house, at rest, with a finished job `in`."""
    with Installation(tmp_path_factory.mktemp("finished"), workers=1) as house:
        house.submit("in", 30)
        house.wait("in")
    return house


@needs_compiler
@pytest.mark.parametrize("kind", ["rename", "sync", "syncdir", "write", "open", "remove"])
def test_p7_an_aggregator_killed_at_any_step_leaves_whole_files_and_runs_again(
    kind: str, finished: Installation, tmp_path: Path
) -> None:
    whole = {name: (finished.output("in") / name).read_bytes() for name in NAMES}
    output = tmp_path / "out"
    output.mkdir()
    again = ("results", "latest", "-o", str(output))

    for number in range(1, 5):
        finished.run_command(*again, environ=killing(tmp_path, kind, number, output))

        for name in NAMES:
            if (output / name).exists():
                assert (output / name).read_bytes() == whole[name]
                (output / name).unlink()
    assert finished.run_command(*again).returncode == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == whole


@contextmanager
def memory_group() -> Iterator[Path]:
    """A group of processes whose memory can be limited; skips loudly where none may be made."""
    group = Path(f"/sys/fs/cgroup/memory/nightshift-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"NOT RUN: no memory group can be made here: {error.strerror}")
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        wait_until("the group is empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_p11_a_worker_that_the_kernel_kills_for_its_memory_costs_its_calls_in_flight_at_most(
    tmp_path: Path,
) -> None:
    options = ("--latency", "uniform:0.3:0.8")
    with memory_group() as group, Installation(tmp_path, workers=1, endpoint=options) as house:
        worker = house.processes["worker-0"]
        (group / "cgroup.procs").write_text(str(worker.pid))
        job = house.submit("in", 60, "--max-in-flight", "10")
        wait_until("calls are made", lambda: len(house.simulator.book().billed()) > 10)
        # From now on it has room for little more; then comes an answer of 60 MB.
        taken = int((group / "memory.usage_in_bytes").read_text())
        (group / "memory.limit_in_bytes").write_text(str(taken + 2**22))
        house.simulator.control("faults", ["huge:bytes=60000000,times=1"])
        died = house.dies("worker-0", 30)
        house.start("worker-0")
        house.wait("in")
        # While the kernel looks for room the worker reads nothing: what was answered in that time,
        # however long it is, was in flight when it dies.
        found = house.audit("in", job, allowed_twice=10)

    assert died
    assert worker.wait() == -signal.SIGKILL
    assert found.broken == []
    assert found.completed == 60
    assert 0 < found.bought_twice <= 10


@pytest.mark.timeout(180)  # three deaths, three starts, three leases
def test_p12_a_row_that_always_kills_its_worker_is_set_aside_after_three_deaths(
    tmp_path: Path,
) -> None:
    poison, deaths, met = "in: отзыв 2", 0, set[int]()
    with Installation(tmp_path, workers=1, endpoint=("--latency", "constant:0.5")) as house:
        # Others are in flight beside it whenever the worker dies.
        job = house.submit("in", 16, "--max-in-flight", "5", "--chunk-size", "4")
        store = Home(tmp_path / "home").open(job, read_only=True)
        while store.job().left and deaths < 10:
            asked = house.simulator.book().in_flight()
            new = {call.call for call in asked if _asks(call.body_hash, house, poison)} - met
            met |= new
            if new:
                house.kill("worker-0")
                house.start("worker-0")
                deaths += 1
            time.sleep(0.02)
        failed = store.db.execute("SELECT ordinal, code FROM results WHERE state = 'failed'")
        ends, row = [tuple(each) for each in failed], store.job()
        store.close()
        billed = len(house.simulator.book().billed())

    assert deaths == 3
    assert ends == [(2, "system.poison_row")]
    assert (row.completed, row.failed) == (15, 1)
    assert billed <= 16 + 3 * 5


def _asks(digest: str, house: Installation, text: str) -> bool:
    """Whether a call of the book has the body of the input line with this text."""
    for line in house.input("in").read_text().splitlines():
        if text in line:
            body = line[line.index('"body": ') + 8 : -1]
            return hashlib.sha256(body.encode()).hexdigest() == digest
    return False


# ---- stopped, and clocks -----------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_p13_answers_of_a_worker_that_slept_past_its_lease_are_kept_with_their_costs(
    tmp_path: Path,
) -> None:
    """Others have bought the same meanwhile: both are paid for, one is shown."""
    options = ("--latency", "uniform:0.5:1.5", "--max-in-flight", "16")
    with Installation(tmp_path, workers=2, endpoint=options, constants=SOON_LOST) as house:
        # When it wakes, its calls are past their time too.
        job = house.submit("in", 80, "--timeout", "15")
        workers = ("worker-0", "worker-1")
        wait_until("calls are made", lambda: len(house.simulator.book().billed()) > 8, 60)
        scratch = tmp_path / "scratch"
        sleeper = max(workers, key=lambda worker: open_calls(scratch / worker / "outbox"))
        house.processes[sleeper].send_signal(signal.SIGSTOP)
        house.wait("in")
        first = len(house.at_home(job, "SELECT id FROM calls"))
        house.processes[sleeper].send_signal(signal.SIGCONT)
        billed = len(house.simulator.book().billed())
        wait_until(
            "all that was billed is in the ledger",
            lambda: len(house.at_home(job, "SELECT id FROM calls")) == billed,
            120,
        )
        wait_until("outputs tell it", lambda: house.audit("in", job, billed).broken == [], 20)
        found = house.audit("in", job, billed)

    assert (found.completed, found.uncertain) == (80, 0)
    assert found.bought_twice == billed - 80 > 0
    assert first < billed


@pytest.fixture
def wall_clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file with the seconds by which a clock is wrong, and the environment that makes it so."""
    if not has_compiler():
        pytest.skip("NOT RUN: a clock can be put wrong only where there is a C compiler")
    library = build("wallclock", tmp_path)
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("l", 0))
    return clock, {"LD_PRELOAD": str(library), "WALLCLOCK_FILE": str(clock)}


@pytest.mark.timeout(150)
def test_p14_jumps_of_every_clock_on_the_wall_lose_no_chunk_and_repeat_no_call(
    wall_clock: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """Server, coordinator and worker have a clock that is put back and forward in mid-run."""
    clock, environ = wall_clock
    options = ("--latency", "uniform:0.3:1", "--max-in-flight", "10")
    with Installation(tmp_path, workers=0, endpoint=options) as house:
        for name in ("coordinator", "server"):
            house.kill(name)
        for name in ("server", "coordinator", "worker-0"):
            house.start(name, environ=environ)
        job = house.submit("in", 150, "--budget-rub", "100")
        for number, jump in enumerate((-3600, 3600, 31_536_000, -3600, 0), start=1):
            book = house.simulator.book
            wait_until("it goes on", lambda: len(book().billed()) > 24 * number, 60)  # noqa: B023
            with clock.open("r+b") as file:  # in place: it is mapped
                file.write(struct.pack("l", jump))
        house.wait("in")
        found = house.audit("in", job)
        lost = house.at_home(job, "SELECT chunk FROM chunks WHERE state = 'lost'")
        ((span,),) = house.at_home(job, "SELECT max(sent_at) - min(sent_at) FROM calls")

    assert found.broken == []
    assert (found.completed, found.bought_twice, found.uncertain) == (150, 0, 0)
    assert lost == []
    # The clock did jump.
    assert isinstance(span, float)
    assert span > 30_000_000


def test_p14_no_decision_of_leases_pace_and_patience_reads_the_wall_clock() -> None:
    for path in (
        "batch/coordinator/reconcile.py",
        "workers/pacing/leases.py",
        "workers/pacing/limiter.py",
        "workers/pacing/dispatcher.py",
        "workers/pacing/backoff.py",
    ):
        tree = ast.parse((ROOT / path).read_text())
        reads = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in {"time", "now", "utcnow"}
        ]

        assert reads == [], path


# ---- started twice, or wrongly -----------------------------------------------------------------


def test_p15_a_second_coordinator_or_run_on_a_home_is_refused_and_calls_nobody(
    shell: Shell, simulator: Simulators
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(3))
    job = shell("submit", "in.jsonl").out.strip()
    lock = Home(shell.folder / "home").lock()

    for words in (("coordinator",), ("run", "in.jsonl")):
        refused = shell(*words, code=2)

        assert "another nightshift process is running" in refused.err
    lock.release()

    assert Home(shell.folder / "home").job_ids() == [job]
    assert not endpoint.book().chats()


def test_p16_there_are_no_limits_whose_order_could_be_wrong() -> None:
    settings = celery_settings("redis://localhost/0")

    assert not {name for name in settings if "time_limit" in name}
    assert settings["broker_transport_options"]["visibility_timeout"] == VISIBILITY_S  # type: ignore[index]
    # A message that comes back earlier than its chunk ends finds it taken.


@pytest.mark.timeout(120)  # it goes on slowly
def test_p17_with_few_descriptors_nothing_fails_and_the_rest_waits(
    workdir: Workdir, simulator: Simulators
) -> None:
    endpoint = simulator("--latency", "constant:0.3", "--null-cost-share", "0")
    workdir.point_at(endpoint)
    workdir.write("in.jsonl", batch_lines(150))
    done = subprocess.run(
        [sys.executable, "-m", "batch", "run", "in.jsonl", "-o", "out", "--yes"],
        cwd=workdir.folder,
        env=workdir.environ,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        check=False,
    )

    assert done.returncode in (0, 3, 4), done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode:
        again = workdir.run("resume", "latest", "--yes")
        assert again.returncode == 0, again.stderr
    assert len(read_lines(workdir.folder / "out" / "output.jsonl")) == 150
    assert len(endpoint.book().billed()) == 150
