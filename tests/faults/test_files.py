"""Files that fail, fill up, change or are odd: F1 to F15.

These need more than a package alone; `docs/faults.md` lists the tests of every line.
Every N of F1 to F3 is tried by `scripts/torture points`.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from batch.reports.output_files import NAMES, check_free, whole_file
from jobs.budget import Amount
from jobs.errors import StorageUnavailable, UsageError
from scripts.auditor import Audit, audit
from scripts.simulator import Simulator
from scripts.torturing import crashpoints
from scripts.torturing.installation import Installation
from scripts.torturing.preload import Crashpoint, has_compiler
from tests.acceptance.conftest import Shell, batch_lines, end_server, ids
from tests.conftest import ROOT, Workdir
from workers.delivery.journal import Ended, Journal, Sent, records

needs_compiler = pytest.mark.skipif(
    not has_compiler(), reason="NOT RUN: crash points need a C compiler"
)
Simulators = Callable[..., Simulator]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own with so much room; skips the test, loudly, where it may not be."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("NOT RUN: mounting a small disk needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"NOT RUN: no small disk can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, option: str) -> None:
    """Gives a small disk another size, or makes it read-only."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Writes until no room is left but `leave` bytes; returns what takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        # Looked at anew each time: others write there, too.
        while _room(folder) > leave:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    return ballast


def _room(folder: Path) -> int:
    """Bytes that are free."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_bsize


def judge(
    shell: Shell,
    simulator: Simulator,
    output: str,
    allowed_twice: int = 0,
    *,
    host_gone: bool = False,
) -> Audit:
    """Holds the three books of the only job against each other."""
    (job,) = (shell.folder / "home" / "jobs").glob("job_*")
    simulator.book()
    return audit(
        simulator.book_path,
        job,
        shell.folder / "in.jsonl",
        shell.folder / output,
        allowed_twice=allowed_twice,
        host_gone=host_gone,
    )


def wait_until(what: str, holds: Callable[[], bool], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.03)


# ---- F1, F2, F3: the disk refuses ------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("worker-0-full-write", 25),
        ("worker-0-broken-sync", 2),
        ("worker-0-kill-write", 40),
        ("coordinator-full-write", 30),
        ("coordinator-broken-syncdir", 3),
        ("coordinator-kill-sync", 5),
    ],
)
def test_f1_f2_f3_after_a_call_of_a_service_that_failed_or_killed_it_all_laws_hold(
    name: str, number: int, tmp_path: Path
) -> None:
    result = crashpoints.run(name, tmp_path, first=number, most=number + 1)

    assert result.broken == []
    assert result.hit == 1


def test_f1_a_worker_whose_scratch_folder_is_full_delivers_what_it_has_and_ends_with_4(
    tmp_path: Path,
) -> None:
    scratch = tmp_path / "scratch" / "worker-0"
    with small_disk(scratch, "5m"), Installation(tmp_path, workers=1) as house:
        wait_until("there is an outbox", lambda: bool(list(scratch.glob("outbox/*/*.log"))))
        ballast = fill(scratch, leave=64 * 1024)
        job = house.submit("in", 150)
        code = house.processes.pop("worker-0").wait(20)
        answered = len(house.simulator.book().billed())
        log = (tmp_path / "worker-0.log").read_text()

        ballast.unlink()
        house.start("worker-0")
        house.wait("in")
        found = house.audit("in", job)

    assert code == 4
    assert 0 < answered < 150
    assert "no space left" in log.lower()
    assert "Traceback" not in log
    assert found.broken == []
    assert (found.completed, found.billed_calls, found.uncertain) == (150, 150, 0)


def test_f1_a_run_whose_home_is_full_ends_with_4_and_resume_completes_it(
    shell: Shell, simulator: Simulators
) -> None:
    endpoint = simulator("--latency", "uniform:0.05:0.3", "--null-cost-share", "0")
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(120))
    with small_disk(shell.folder / "home", "32m") as home:
        running = shell.start("run", "in.jsonl", "-o", "out", "--max-in-flight", "8")
        wait_until("calls are made", lambda: len(endpoint.book().billed()) > 20)
        ballast = fill(home)
        first = running.ends(4)
        ballast.unlink()

        shell("resume", "latest", "--yes")
        found = judge(shell, endpoint, "out", allowed_twice=8)
        end_server(home)

    assert "resume" in first.err
    assert found.broken == []
    assert found.completed == 120


def refuses(one: Journal, record: Sent) -> bool:
    """Whether the disk does not take a record."""
    try:
        one.write(record)
    except StorageUnavailable:
        return True
    return False


def test_f1_a_full_home_of_a_service_is_told_by_all_that_look_at_it(tmp_path: Path) -> None:
    endpoint = ("--latency", "constant:0.3")
    with (
        small_disk(tmp_path / "home", "24m") as home,
        Installation(tmp_path, workers=1, endpoint=endpoint) as house,
    ):
        job = house.submit("in", 150, "--max-in-flight", "8")
        wait_until("calls are made", lambda: len(house.simulator.book().billed()) > 10)
        ballast = fill(home)
        wait_until("the list tells", lambda: "full" in house.run_command("status").stderr)
        one = house.run_command("status", job)
        machine = house.run_command("status", job, "--json")
        doctor = house.run_command("doctor")
        watch = [sys.executable, "-m", "batch", "watch", job, "--json"]
        with subprocess.Popen(watch, env=house.environ(), cwd=ROOT, stdout=-1) as watching:
            first = watching.stdout.readline().decode() if watching.stdout else ""
            watching.terminate()
        ballast.unlink()
        house.wait("in")
        found = house.audit("in", job)

    assert "full" in json.loads(machine.stdout)["attention"]["text"]
    assert "full" in one.stdout
    assert "full" in first
    assert "is full" in doctor.stdout
    assert "free up space on this disk" in doctor.stdout
    assert found.broken == []
    assert (found.completed, found.bought_twice) == (150, 0)


def test_f1_on_a_full_disk_no_call_is_begun_but_there_is_room_for_those_that_end(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "scratch", "5m") as scratch:
        one = Journal(scratch / "outbox" / "box")
        sent = Sent("call", "job", 1, 0, 1, 0, 1.0, "model", Amount())
        ends = [
            Ended(f"call-{n}", msgspec.Raw(msgspec.msgpack.encode("x" * 9999))) for n in range(300)
        ]
        one.write(sent)
        fill(scratch)

        assert any(refuses(one, sent) for _ in range(1000))
        assert not one.is_full
        for record in ends:
            one.write(record)
        assert one.is_full
        one.begin_sync()()
        one.close(empty=False)

        kept = [record for record in records(one.folder) if not isinstance(record, Sent)]
        assert kept == ends


def test_f1_a_worker_on_a_full_disk_does_not_start(shell: Shell, simulator: Simulators) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(3))
    with small_disk(shell.folder / "scratch", "3m") as scratch:
        ended = shell("run", "in.jsonl", code=4, NIGHTSHIFT_SCRATCH=str(scratch))

    assert "No space left on device" in ended.err
    assert not endpoint.book().chats()


# ---- F3, F7, F13: the outputs ------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A house, at rest, with a finished job `in`."""
    folder = tmp_path_factory.mktemp("finished")
    with Installation(folder, workers=1) as house:
        house.submit("in", 30)
        house.wait("in")
    return house


def write_again(
    house: Installation, output: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    """`nightshift results latest -o OUTPUT`, with more in its environment."""
    return house.run_command("results", "latest", "-o", str(output), environ=environ)


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


@needs_compiler
@pytest.mark.parametrize("kind", ["rename", "open", "sync", "syncdir", "write"])
def test_f3_an_output_that_cannot_be_written_is_absent_or_whole(
    kind: str, finished: Installation, tmp_path: Path
) -> None:
    whole = contents(finished.output("in"))
    output = tmp_path / "out"
    output.mkdir()

    for number, error in ((1, errno.EIO), (2, errno.ENOSPC), (3, errno.EIO)):
        crash = Crashpoint(tmp_path, kind, error, number, below=output)
        done = write_again(finished, output, **crash.environ)

        assert done.returncode == 4, done.stderr
        assert "cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
        found = contents(output)
        assert found.items() <= whole.items()
        for name in found:
            (output / name).unlink()
    assert write_again(finished, output).returncode == 0
    assert contents(output) == whole


@pytest.mark.parametrize("kind", ["symlink", "file", "fifo", "device"])
def test_f7_an_output_folder_that_is_none_is_refused_and_left_alone(
    kind: str, tmp_path: Path
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "symlink":
        output.symlink_to(elsewhere)
    elif kind == "file":
        output.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(output)
    else:
        output = Path("/dev/null")

    with pytest.raises(UsageError, match="not a directory"):
        check_free(output)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder", "fifo"])
@pytest.mark.parametrize("name", NAMES)
def test_f7_an_output_whose_name_is_taken_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    place, target = tmp_path / "out" / name, tmp_path / "precious"
    place.parent.mkdir()
    target.write_text("mine")
    if kind == "symlink":
        place.symlink_to(target)
    elif kind == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)

    with pytest.raises(UsageError, match="already exists"):
        check_free(place.parent)
    assert target.read_text() == "mine"


def test_f7_a_link_that_was_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    for trap in (".output.jsonl.part", "output.jsonl"):
        (tmp_path / trap).symlink_to(target)

    with whole_file(tmp_path / "output.jsonl") as file:
        file.write(b"answers")

    assert target.read_text() == "mine"
    assert not (tmp_path / "output.jsonl").is_symlink()
    assert (tmp_path / "output.jsonl").read_bytes() == b"answers"


def half_a_file(place: Path) -> None:
    with whole_file(place) as file:
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_f3_what_stood_there_stays_when_the_new_file_fails(tmp_path: Path) -> None:
    place = tmp_path / "output.jsonl"
    place.write_text("old")

    with pytest.raises(StorageUnavailable, match="No space left"):
        half_a_file(place)

    assert contents(tmp_path) == {"output.jsonl": b"old"}


@needs_compiler
def test_f13_what_a_killed_aggregator_left_is_ignored_and_cleaned(
    finished: Installation, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    write_again(finished, output, **Crashpoint(tmp_path, "sync", 0, 1, below=output).environ)
    left = contents(output)

    assert write_again(finished, output).returncode == 0
    assert left
    assert all(name.startswith(".nightshift-") for name in left)
    assert contents(output) == contents(finished.output("in"))


# ---- F5: read-only ----------------------------------------------------------------------------


def test_f5_a_home_that_is_read_only_or_full_at_the_start_ends_with_4_before_any_call(
    shell: Shell, simulator: Simulators
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(5))
    with small_disk(shell.folder / "home", "256k") as home:
        fill(home)
        full = shell("run", "in.jsonl", code=4)
        shutil.rmtree(home / "jobs", ignore_errors=True)
        remount(home, "ro")
        closed = [shell(*words, code=4) for words in (("run", "in.jsonl"), ("submit", "in.jsonl"))]
        remount(home, "rw")

    assert "No space left" in full.err or "full" in full.err
    for one in closed:
        assert "Read-only file system" in one.err
    assert not endpoint.book().chats()


def test_f5_outputs_on_a_read_only_disk_are_refused_before_any_call(
    shell: Shell, simulator: Simulators
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(5))
    with small_disk(shell.folder / "out", "256k") as out:
        remount(out, "ro")
        ended = shell("run", "in.jsonl", "-o", "out/here", code=4)

    assert "cannot be written" in ended.err
    assert shell.jobs() == []
    assert not endpoint.book().chats()


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "error"),
    [("write", errno.EROFS), ("write", errno.EDQUOT), ("sync", errno.EIO)],
)
def test_f1_f2_f5_a_home_whose_disk_refuses_in_mid_run_loses_and_doubles_nothing(
    kind: str, error: int, tmp_path: Path
) -> None:
    """A full one: `coordinator-full-write` above."""
    with Installation(tmp_path, workers=1, endpoint=("--latency", "uniform:0.05:0.2")) as house:
        house.kill("coordinator")
        number, home = 9 if kind == "write" else 2, tmp_path / "home"
        fails = Crashpoint(tmp_path, kind, error, number, below=home, and_all_after=True)
        house.start("coordinator", environ=fails.environ)
        job = house.submit("in", 60)
        log = tmp_path / "coordinator.log"
        wait_until("the disk refuses", lambda: "cannot be" in log.read_text())
        house.kill("coordinator")
        house.start("coordinator")
        house.wait("in")
        found = house.audit("in", job)

    assert "Traceback" not in log.read_text()
    assert found.broken == []
    assert (found.completed, found.bought_twice) == (60, 0)


# ---- F8: the input changes ---------------------------------------------------------------------


def test_f8_an_input_that_changes_in_mid_run_changes_nothing(tmp_path: Path) -> None:
    ways: dict[str, Callable[[Path], object]] = {
        "edited": lambda path: path.write_text(path.read_text().replace("отзыв", "чужой")),
        "cut": lambda path: os.truncate(path, 100),
        "replaced": lambda path: path.write_text("not even JSON"),
        "gone": lambda path: path.unlink(),
    }
    with Installation(tmp_path, workers=0) as house:
        jobs = {name: house.submit(name, 20) for name in ways}
        originals = {name: house.input(name).read_bytes() for name in ways}
        for name, change in ways.items():
            change(house.input(name))
        house.start("worker-0")
        for name, job in jobs.items():
            house.wait(name)
            house.input(name).write_bytes(originals[name])
            found = house.audit(name, job, 0)

            assert found.broken == [], name
            assert found.completed == 20, name


# ---- F9: packed inputs that are damaged --------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "checksum", "bomb"])
def test_f9_a_packed_input_that_is_damaged_is_refused_before_any_call(
    damage: str, shell: Shell, simulator: Simulators
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    packed = gzip.compress(batch_lines(200).encode())
    spoiled = {
        "cut": packed[: len(packed) // 2],
        "checksum": packed[:-8] + bytes(4) + packed[-4:],
        "bomb": gzip.compress(bytes(2**27)),
    }
    (shell.folder / "in.jsonl.gz").write_bytes(spoiled[damage])

    ended = shell("run", "in.jsonl.gz", "-o", "out", "--yes", code=2)

    assert "byte" in ended.err or damage == "bomb"
    assert shell.jobs() == []
    assert not endpoint.book().chats()


# ---- F14, F15: modes and names -----------------------------------------------------------------


def test_f14_whatever_the_umask_only_the_owner_may_look(
    workdir: Workdir, simulator: Simulators
) -> None:
    workdir.point_at(simulator())
    workdir.write("in.jsonl", batch_lines(5))
    done = subprocess.run(
        [sys.executable, "-m", "batch", "run", "in.jsonl", "-o", "out/here", "--yes"],
        cwd=workdir.folder,
        env=workdir.environ,
        umask=0,
        capture_output=True,
        check=False,
    )
    made = [
        path
        for top in ("home", "out/here")
        for path in (workdir.folder / top, *(workdir.folder / top).rglob("*"))
    ]
    loose = {str(path): oct(path.stat().st_mode) for path in made if path.stat().st_mode & 0o077}

    assert done.returncode == 0, done.stderr
    assert {"job.sqlite", "input.blocks", *NAMES} <= {path.name for path in made}
    assert loose == {}


def test_f15_a_home_and_results_of_any_name_work(shell: Shell, simulator: Simulators) -> None:
    """A folder of one name below a folder of the other: 340 bytes in all."""
    shell.point_at(simulator())
    shell.write("in.jsonl", batch_lines(2))
    odd = ("a b", "two\nlines", "quote'\"$HOME;", "имя", "n" * 255, "-o", "%s {} \x1b[31m")
    output, home = shell.folder.joinpath("out", *odd), shell.folder.joinpath("homes", *odd)

    ended = shell("run", "in.jsonl", "-o", output, NIGHTSHIFT_HOME=str(home))
    end_server(home)

    assert "\x1b" not in ended.err
    assert ids(output / "output.jsonl") == ["r-0", "r-1"]


def test_f15_results_of_a_name_that_is_no_text_are_refused_readably(
    shell: Shell, simulator: Simulators
) -> None:
    """UTF-8 alone fits the job's file; the home may be called anything."""
    shell.point_at(simulator())
    shell.write("in.jsonl", batch_lines(2))
    output, home = (shell.folder / top / os.fsdecode(b"no \xff text") for top in ("out", "homes"))

    refused = shell("run", "in.jsonl", "-o", output, code=2, NIGHTSHIFT_HOME=str(home))
    shell("run", "in.jsonl", "-o", "other", NIGHTSHIFT_HOME=str(home))
    end_server(home)

    assert "UTF-8" in refused.err
    assert ids(shell.folder / "other" / "output.jsonl") == ["r-0", "r-1"]


def test_f15_a_name_of_more_than_255_bytes_is_refused_readably(shell: Shell) -> None:
    shell.write("in.jsonl", batch_lines(2))

    long = shell("run", "in.jsonl", "-o", "n" * 256, code=2)
    home = shell("status", code=4, NIGHTSHIFT_HOME=str(shell.folder / ("n" * 256)))

    assert "File name too long" in long.err
    assert "File name too long" in home.err
