"""A process is killed, or its disk fails, at its Nth system call of a kind, for N = 1, 2, 3, …

Of a service the run of N ends when the job has ended, of a command with the command; the campaign
ends with the first N that the process never reaches. Needs strace.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scripts.torturing.house import House

ROWS = 20
_JOB_S = 120.0

SYNCS = "fsync,fdatasync"
RENAMES = "rename,renameat,renameat2"
WRITES = "write,pwrite64,writev"
CUTS = "ftruncate"
REMOVALS = "unlink,unlinkat,rmdir"
FOLDERS = "mkdir,mkdirat"


@dataclass(frozen=True)
class Point:
    """What is done at the Nth call of one of `calls` by `process`: killed, or it fails so."""

    process: str
    calls: str
    fault: str

    def injection(self, number: int) -> str:
        """The expression for it, as strace wants it."""
        return f"inject={self.calls}:{self.fault}:when={number}"


KILL, FULL, BROKEN = "signal=SIGKILL", "error=ENOSPC", "error=EIO"
_FAULTS = (("kill", KILL), ("full", FULL), ("broken", BROKEN))
_CALLS = (("sync", SYNCS), ("rename", RENAMES), ("write", WRITES), ("cut", CUTS))
_MORE_CALLS = (*_CALLS, ("remove", REMOVALS), ("folder", FOLDERS))

POINTS = {
    f"{process}-{what}-{name}": Point(process, calls, fault)
    for process in ("coordinator", "worker-0")
    for what, fault in _FAULTS
    for name, calls in _CALLS
}
COMMANDS = {
    f"{command}-{what}-{name}": Point(command, calls, fault)
    for command in ("submit", "results")
    for what, fault in _FAULTS
    for name, calls in _MORE_CALLS
}
"""Of `nightshift submit` (P6) and `nightshift results` (P7)."""


@dataclass
class Result:
    """What came of one kind of point."""

    tried: int = 0
    hit: int = 0
    in_flight: int = 0
    bought_twice: int = 0
    broken: list[str] = field(default_factory=list)


def run(name: str, folder: Path, *, first: int = 1, step: int = 1, most: int = 10_000) -> Result:
    """Tries N = first, first + step, … until the process is not reached any more."""
    _check_strace()
    point, result = POINTS[name], Result()
    with House(folder, workers=1, endpoint=("--latency", "uniform:0.02:0.2")) as house:
        for number in range(first, most, step):
            result.tried += 1
            if not _one(house, point, number, result):
                break
            result.hit += 1
        result.broken += house.leaks()
    return result


def run_command(
    name: str, folder: Path, *, first: int = 1, step: int = 1, most: int = 10_000
) -> Result:
    """Tries N = first, first + step, … until the command ends well."""
    _check_strace()
    point, result = COMMANDS[name], Result()
    with House(folder, workers=1, endpoint=("--latency", "uniform:0.02:0.1")) as house:
        trial: _Trial = _Submits(house) if point.process == "submit" else _Results(house)
        for number in range(first, most, step):
            seen = folder / f"n{number}.strace"
            ended = trial.go(f"n{number}", _strace(point, number, seen))
            reached = "(INJECTED)" in seen.read_text(errors="replace") or ended.returncode < 0
            result.tried += 1
            result.hit += reached
            if "Traceback" in ended.stderr:
                result.broken.append(f"{number}: a traceback on standard error")
            result.broken += [f"{number}: {law}" for law in trial.laws(f"n{number}", ended)]
            if not reached:
                break
    return result


class _Trial(Protocol):
    """A command that is run again and again under strace, and what must hold afterwards."""

    def go(self, name: str, under: list[str]) -> subprocess.CompletedProcess[str]: ...

    def laws(self, name: str, ended: subprocess.CompletedProcess[str]) -> Iterator[str]: ...


class _Submits:
    """The job does not exist, or it is whole and ends well; the next to come sweeps up."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._jobs = house.folder / "home" / "jobs"
        self._before: set[str] = set()

    def go(self, name: str, under: list[str]) -> subprocess.CompletedProcess[str]:
        self._before = self._there()
        source = self._house.write_input(name, ROWS)
        return self._house.run_command(
            *("submit", str(source), "-o", str(self._house.output(name))), under=under
        )

    def laws(self, name: str, ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
        new = sorted(self._there() - self._before)
        if len(new) > 1:
            yield f"{len(new)} jobs"
        if ended.returncode == 0 and not new:
            yield "the command ended well, and there is no job"
        for job in new:
            self._house.wait(name)
            yield from self._house.audit(name, job).broken

    def _there(self) -> set[str]:
        return {path.name for path in self._jobs.glob("job_*")}


class _Results:
    """Each file is absent or whole; run again, they are the same to the byte."""

    def __init__(self, house: House) -> None:
        self._house = house
        house.submit("in", ROWS)
        house.wait("in")
        self._whole = _contents(house.output("in"))

    def go(self, name: str, under: list[str]) -> subprocess.CompletedProcess[str]:
        output = str(self._house.output(name))
        return self._house.run_command("results", "latest", "-o", output, under=under)

    def laws(self, name: str, ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
        output = self._house.output(name)
        found = _contents(output)
        for file, content in found.items():
            if not file.startswith(".") and content != self._whole.get(file):
                yield f"{file} is not whole"
        if ended.returncode == 0 and found.keys() != self._whole.keys():
            yield f"the command ended well and left {sorted(found)}"
        for path in output.glob("[!.]*"):
            path.unlink()
        again = self._house.run_command("results", "latest", "-o", str(output))
        if again.returncode or _contents(output) != self._whole:
            yield f"run again, it is not the same: {again.stderr[-200:]}"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def _check_strace() -> None:
    if shutil.which("strace") is None:
        raise SystemExit("SKIPPED, NOT RUN: crash points need strace, which is not installed")


def _one(house: House, point: Point, number: int, result: Result) -> bool:
    """One job with the fault at the Nth call; whether the process came so far."""
    name = f"n{number}"
    _stop(house, point.process)
    seen = house.folder / f"{name}.strace"
    house.start(point.process, under=_strace(point, number, seen))
    job = house.submit(name, ROWS)
    reached = house.outlive(name, job, point.process, _JOB_S)
    house.wait(name)
    # A process may outlive a disk that failed; a fault that it met stands in what strace wrote.
    reached = reached or "(INJECTED)" in seen.read_text(errors="replace")
    found = house.audit(name, job)
    result.in_flight += found.in_flight
    result.bought_twice += found.bought_twice
    result.broken += [f"{number}: {law}" for law in found.broken]
    return reached


def _strace(point: Point, number: int, seen: Path) -> list[str]:
    return [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(seen),
        "-e",
        f"trace={point.calls}",
        "-e",
        point.injection(number),
    ]


def _stop(house: House, process: str) -> None:
    """Ends what runs under strace, and what strace runs."""
    running = house.processes.get(process)
    if running is None:
        return
    subprocess.run(["pkill", "-KILL", "-P", str(running.pid)], check=False)  # noqa: S607
    if running.poll() is None:
        house.kill(process, signal.SIGKILL)
    else:
        house.processes.pop(process)
