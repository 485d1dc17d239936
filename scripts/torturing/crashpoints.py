"""A process is killed, or its disk fails, at its Nth call of a kind, for N = 1, 2, 3, …

Counted are the calls of all threads of the process on files of the house. Of a service a run ends
when the job has ended and the service was stopped, of a command with the command; the campaign ends
when the process does not come so far twice running. Needs a C compiler.
"""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scripts.torturing.installation import SOON_TRIED_AGAIN, Installation
from scripts.torturing.prefork import Prefork
from scripts.torturing.preload import Crashpoint

ROWS = 20
_JOB_S = 120.0
_PASSES = 2
"""So many runs that the fault does not meet end a campaign: no two runs make the same calls."""

_FAULTS = {"kill": 0, "full": errno.ENOSPC, "broken": errno.EIO}
_KINDS = ("sync", "syncdir", "write", "open", "rename", "cut", "remove", "mkdir")


@dataclass(frozen=True)
class Point:
    """What is done at the Nth call of a kind by `process`: it is killed, or the call fails so."""

    process: str
    kind: str
    error: int


SERVICES = {
    f"{process}-{fault}-{kind}": Point(process, kind, error)
    for process in ("coordinator", "worker-0")
    for fault, error in _FAULTS.items()
    for kind in _KINDS
}
COMMANDS = {
    f"{command}-{fault}-{kind}": Point(command, kind, error)
    for command in ("submit", "results")
    for fault, error in _FAULTS.items()
    for kind in _KINDS
}
"""Of `nightshift submit` (P6) and `nightshift results` (P7)."""
POINTS = SERVICES | COMMANDS


@dataclass
class Result:
    """What came of one kind of point."""

    tried: int = 0
    hit: int = 0
    in_flight: int = 0
    bought_twice: int = 0
    broken: list[str] = field(default_factory=list)


class _Trial(Protocol):
    """What is done under a crash point, again and again, and what must hold afterwards."""

    def go(self, name: str, crash: Crashpoint) -> Iterator[str]:
        """The laws that are broken."""


def run(
    name: str,
    folder: Path,
    *,
    first: int = 1,
    step: int = 1,
    most: int = 10_000,
    nursery: Prefork | None = None,
) -> Result:
    """Tries N = first, first + step, … until the process does not come so far."""
    point, result, passes = POINTS[name], Result(), 0
    endpoint = ("--latency", "uniform:0.02:0.2")
    with Installation(
        folder, workers=1, endpoint=endpoint, nursery=nursery, constants=SOON_TRIED_AGAIN
    ) as house:
        trial = _trial(house, point, result)
        for number in range(first, most, step):
            crash = Crashpoint(folder, point.kind, point.error, number, below=folder)
            broken = [*trial.go(f"n{number}", crash)]
            result.tried += 1
            result.hit += crash.is_reached
            result.broken += [f"{name} {number}, {crash.struck}: {law}" for law in broken]
            passes += not crash.is_reached
            if passes == _PASSES:
                break
        result.broken += house.leaks()
    return result


def _trial(house: Installation, point: Point, result: Result) -> _Trial:
    if point.process == "submit":
        return _Submits(house)
    if point.process == "results":
        return _Results(house)
    return _Serves(house, point, result)


class _Serves:
    """A job while a service fails: it is put back if it dies, and stopped in the end."""

    def __init__(self, house: Installation, point: Point, result: Result) -> None:
        self._house = house
        self._point = point
        self._result = result
        house.kill(point.process)

    def go(self, name: str, crash: Crashpoint) -> Iterator[str]:
        house, process = self._house, self._point.process
        log = house.folder / f"{process}.log"
        house.deaths.clear()
        told = log.stat().st_size if log.exists() else 0
        house.start(process, environ=crash.environ)
        job = house.submit(name, ROWS)
        house.outlive(name, job, process, _JOB_S)
        house.wait(name)
        # Who ends because of its disk has kept what it was answered; a kill has its very moment.
        deaths = [] if self._point.error else [(crash.at, end) for _, end in house.deaths]
        house.deaths[:] = deaths
        house.kill(process, signal.SIGTERM)
        found = house.audit(name, job)
        self._result.in_flight += found.in_flight
        self._result.bought_twice += found.bought_twice
        yield from found.broken
        if b"Traceback" in log.read_bytes()[told:]:
            yield "a traceback in the log"
        if process == "coordinator":
            _forget(house, job)


class _Submits:
    """The job does not exist, or it is whole and ends well; the next to come sweeps up."""

    def __init__(self, house: Installation) -> None:
        self._house = house
        self._jobs = house.folder / "home" / "jobs"

    def go(self, name: str, crash: Crashpoint) -> Iterator[str]:
        before = self._there()
        source = self._house.write_input(name, ROWS)
        ended = self._house.run_command(
            *("submit", str(source), "-o", str(self._house.output(name))), environ=crash.environ
        )
        new = sorted(self._there() - before)
        yield from _tracebacks(ended)
        if len(new) > 1:
            yield f"{len(new)} jobs"
        if ended.returncode == 0 and not new:
            yield "the command ended well, and there is no job"
        for job in new:
            self._house.wait(name)
            yield from self._house.audit(name, job).broken
            _forget(self._house, job)

    def _there(self) -> set[str]:
        return {path.name for path in self._jobs.glob("job_*")}


class _Results:
    """Each file is absent or whole; run again, they are the same to the byte."""

    def __init__(self, house: Installation) -> None:
        self._house = house
        house.submit("in", ROWS)
        house.wait("in")
        self._whole = _contents(house.output("in"))

    def go(self, name: str, crash: Crashpoint) -> Iterator[str]:
        output = self._house.output(name)
        ended = self._house.run_command(
            "results", "latest", "-o", str(output), environ=crash.environ
        )
        yield from _tracebacks(ended)
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


def _forget(house: Installation, job: str) -> None:
    """Who looks into every job that there is would never come to an end of its calls."""
    shutil.rmtree(house.folder / "home" / "jobs" / job)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def _tracebacks(ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
    if "Traceback" in ended.stderr:
        yield "a traceback on standard error"
