"""The same requests through Nightshift and through peers, in turns: ratios of CPU and of time.

    scripts/bench pipeline [--requests N] [--rounds N] [--in-flight N] [--peer NAME ...]

CPU is user and system time of all processes of a program, children included; Redis's own is part of
it, since `nightshift run` starts it. The endpoint's is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import ROOT, endpoint, python_with, write_input

PEERS = {"lm-deluge": "lm-deluge==0.0.168"}


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall time, and of CPU over all its processes."""

    wall_s: float
    cpu_s: float


def measure(command: list[str], environ: dict[str, str]) -> Run:
    """Runs a command under a reaper, so that the CPU of all its descendants is counted."""
    program = [sys.executable, str(ROOT / "benchmarks" / "reaper.py"), *command]
    started = time.monotonic()
    done = subprocess.run(program, env=environ, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{done.stderr[-2000:]}")
    return Run(wall, float(done.stderr.rsplit("cpu_s=", 1)[1]))


def ours(folder: Path, url: str, in_flight: int, workers: int) -> Run:
    """`nightshift run`, with a home of its own each time."""
    home = Path(tempfile.mkdtemp(dir=folder))
    environ = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_BASE_URL": url,
        "ROUTERAI_API_KEY": "k",
    }
    command = [sys.executable, "-m", "batch", "run", str(folder / "in.jsonl")]
    options = ["-o", str(home / "out"), "--max-in-flight", str(in_flight), "--workers"]
    return measure([*command, *options, str(workers)], environ)


def peer(name: str, folder: Path, url: str, in_flight: int) -> Run:
    """A peer in an environment of its own."""
    script = ROOT / "benchmarks" / "peers" / f"{name.replace('-', '_')}_run.py"
    arguments = [str(folder / "in.jsonl"), str(folder / "peer.out"), url, str(in_flight)]
    return measure([str(python_with(PEERS[name])), str(script), *arguments], dict(os.environ))


def report(name: str, pairs: list[tuple[Run, Run]], requests: int) -> None:
    """Medians, and the median of the ratios pair by pair."""

    def median(of: Callable[[tuple[Run, Run]], float]) -> float:
        return statistics.median(of(pair) for pair in pairs)

    print(f"{requests:,} requests, {len(pairs)} pairs, medians")
    print(f"  nightshift  {median(lambda p: p[0].cpu_s) / requests * 1000:.3f} ms CPU a request,")
    print(f"              {requests / median(lambda p: p[0].wall_s):.0f} requests/s")
    print(f"  {name:<11} {median(lambda p: p[1].cpu_s) / requests * 1000:.3f} ms CPU a request,")
    print(f"              {requests / median(lambda p: p[1].wall_s):.0f} requests/s")
    print(f"  CPU ratio   {median(lambda p: p[0].cpu_s / p[1].cpu_s):.2f}")
    print(f"  speed ratio {median(lambda p: p[1].wall_s / p[0].wall_s):.2f}")


def main() -> int:
    """Compares in turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peer", action="append", choices=sorted(PEERS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name, endpoint() as url:
        folder = Path(name)
        write_input(folder / "in.jsonl", given.requests)
        for other in given.peer or sorted(PEERS):
            pairs = [
                (
                    ours(folder, url, given.in_flight, given.workers),
                    peer(other, folder, url, given.in_flight),
                )
                for _ in range(given.rounds)
            ]
            report(other, pairs, given.requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
