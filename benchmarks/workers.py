"""Several worker processes against one, each held to a part of a core.

    scripts/bench workers [--workers N] [--share PERCENT] [--requests N] [--rounds N]

A worker fills a core where neither the endpoint nor a limit holds it up, and so do two of them: on
few cores nothing could be seen. So each is stopped (SIGSTOP) for most of every 40 ms, as if it had
a small core of its own; all that they share (server, coordinator, endpoint) goes on unhindered.
Speed is that between a fifth and nine tenths of the calls.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.environments import ROOT, counts, endpoint, environ_for, write_input
from benchmarks.processes import tree

_PERIOD_S = 0.04
_FROM, _TO = 0.2, 0.9


def speed(source: Path, requests: int, url: str, workers: int, share: float) -> float:
    """Calls per second with so many workers, each with that share of a core."""
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as home:
        options = ["--max-in-flight", "256", "--workers", str(workers), "-o", f"{home}/out"]
        command = [sys.executable, "-m", "batch", "run", str(source), "--yes", *options]
        before = counts(url)["calls"]

        def reach(part: float) -> float:
            """When so many of the calls are made; monotonic seconds."""
            while counts(url)["calls"] - before < part * requests:
                if process.poll():
                    raise SystemExit(f"the run ended with exit code {process.returncode}")
                time.sleep(0.01)
            return time.monotonic()

        with subprocess.Popen(
            command, env=environ_for(home, url), cwd=ROOT, stderr=subprocess.DEVNULL
        ) as process:
            # They start unhindered.
            reach(0.05)
            team = [pid for pid, role in tree(process.pid).items() if role == "worker"]
            if len(team) != workers:
                raise SystemExit(f"{len(team)} workers run instead of {workers}")
            with held(team, share):
                began, ended = reach(_FROM), reach(_TO)
        if process.returncode:
            raise SystemExit(f"the run ended with exit code {process.returncode}")
    return (_TO - _FROM) * requests / (ended - began)


@contextmanager
def held(processes: list[int], share: float) -> Iterator[None]:
    """Each of them runs in turns, for that part of the time."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_hold, args=(pid, share, place / len(processes), over.wait))
        for place, pid in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _hold(pid: int, share: float, offset: float, wait: Callable[[float], bool]) -> None:
    wait(offset * _PERIOD_S)
    with suppress(ProcessLookupError):
        while not wait(share * _PERIOD_S):
            os.kill(pid, signal.SIGSTOP)
            wait((1 - share) * _PERIOD_S)
            os.kill(pid, signal.SIGCONT)


def main() -> int:
    """Measures in turns, and prints each round and the median ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=40, help="of a core, for each, in percent")
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name, endpoint() as url:
        source = Path(name) / "in.jsonl"
        write_input(source, given.requests)
        for _ in range(given.rounds):
            one, some = (
                speed(source, given.requests, url, workers, given.share / 100)
                for workers in (1, given.workers)
            )
            ratios.append(some / one)
            print(f"1 worker {one:,.0f}/s, {given.workers} workers {some:,.0f}/s", flush=True)
    print(
        f"{statistics.median(ratios):.2f} x the speed of one, each with {given.share:g} % of a core"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
