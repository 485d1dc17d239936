"""A process is killed, or its disk fails, at its Nth system call of a kind, for N = 1, 2, 3, …

The run of N ends when the job has ended; the campaign ends with the first N that the process never
reaches. Needs strace.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torturing.house import House

ROWS = 20
_JOB_S = 120.0

SYNCS = "fsync,fdatasync"
RENAMES = "rename,renameat,renameat2"
WRITES = "write,pwrite64,writev"


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

POINTS = {
    f"{process}-{what}-{name}": Point(process, calls, fault)
    for process in ("coordinator", "worker-0")
    for what, fault in (("kill", KILL), ("full", FULL), ("broken", BROKEN))
    for name, calls in (("sync", SYNCS), ("rename", RENAMES), ("write", WRITES))
}


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
    if shutil.which("strace") is None:
        raise SystemExit("SKIPPED, NOT RUN: crash points need strace, which is not installed")
    point, result = POINTS[name], Result()
    with House(folder, workers=1, endpoint=("--latency", "uniform:0.02:0.2")) as house:
        for number in range(first, most, step):
            result.tried += 1
            if not _one(house, point, number, result):
                break
            result.hit += 1
    return result


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
