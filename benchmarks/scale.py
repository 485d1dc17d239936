"""A small and a large job through `nightshift run`: what grows with the file, and what does not.

    scripts/bench scale [--small N] [--large N] [--in-flight N] [--workers N]

Memory is the proportional set size (PSS) of each process at its peak, sampled (Linux). Disk is what
the finished job takes in the home, against its input and its outputs together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import ROOT, counts, endpoint, environ_for, write_input
from benchmarks.processes import pss, tree

_SAMPLE_S = 0.5


@dataclass
class Figures:
    """One run: seconds since its start, bytes, and the peak of each role in kB."""

    checked_s: float = 0.0
    first_call_s: float = 0.0
    ended_s: float = 0.0
    whole_s: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)
    together: int = 0
    disk: int = 0
    in_and_out: int = 0


def measure(folder: Path, requests: int, in_flight: int, workers: int) -> Figures:
    """Runs a job of so many requests to its end."""
    source, home, out = folder / "in.jsonl", folder / "home", folder / "out"
    write_input(source, requests)
    figures = Figures()
    with endpoint() as url:
        environ = {**environ_for(home, url), "PYTHONPATH": str(ROOT)}
        options = ["--max-in-flight", str(in_flight), "--workers", str(workers), "--yes"]
        command = [sys.executable, "-m", "batch", "run", str(source), "-o", str(out), *options]
        started = time.monotonic()
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
            heard = threading.Thread(target=_listen, args=(process, figures, started))
            heard.start()
            while process.poll() is None:
                _sample(process.pid, figures)
                if not figures.first_call_s and counts(url)["calls"]:
                    figures.first_call_s = time.monotonic() - started
                time.sleep(_SAMPLE_S)
            heard.join()
        figures.whole_s = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"the run ended with exit code {process.returncode}")
    figures.disk = _size(home / "jobs")
    figures.in_and_out = source.stat().st_size + _size(out)
    return figures


def _listen(process: subprocess.Popen[str], figures: Figures, started: float) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        now = time.monotonic() - started
        if line.startswith("job_"):
            figures.checked_s = now
        elif line.startswith("completed"):
            figures.ended_s = now


def _sample(root: int, figures: Figures) -> None:
    together: dict[str, int] = {}
    for pid, role in tree(root).items():
        size = pss(pid)
        figures.peaks[role] = max(figures.peaks.get(role, 0), size)
        together[role] = together.get(role, 0) + size
    figures.together = max(figures.together, sum(together.values()))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Measures both, and prints one beside the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    found = []
    for requests in (given.small, given.large):
        with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name:
            found.append(measure(Path(name), requests, given.in_flight, given.workers))
    small, large = found
    print(f"{'':<34}{given.small:>12,}{given.large:>12,}   ratio")
    for label, attribute in (
        ("checked and stored after, s", "checked_s"),
        ("first call after, s", "first_call_s"),
        ("ended after, s", "ended_s"),
        ("exit after, s", "whole_s"),
    ):
        _print(label, getattr(small, attribute), getattr(large, attribute), digits=1)
    for role in large.peaks:
        _print(f"memory of {role}, MB", small.peaks.get(role, 0) / 1e3, large.peaks[role] / 1e3)
    _print("memory together, MB", small.together / 1e3, large.together / 1e3)
    _print(
        "disk, times input + output",
        small.disk / small.in_and_out,
        large.disk / large.in_and_out,
        2,
    )
    return 0


def _print(label: str, small: float, large: float, digits: int = 0) -> None:
    ratio = large / small if small else float("nan")
    print(f"{label:<34}{small:>12,.{digits}f}{large:>12,.{digits}f}{ratio:>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
