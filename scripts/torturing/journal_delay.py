"""How long an answer is in a worker's memory alone: from its last byte to the journal (P3).

A SIGKILL within it loses the answer; after it, none does. What else runs on the machine must not
count, so the worker has a real-time priority where it may have one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scripts.torturing.installation import INSIDE, Installation

_LATENCY = ("--latency", "uniform:0.5:1.5", "--max-in-flight", "64")


def run(folder: Path, rows: int) -> list[float]:
    """Seconds of each answer of a job of so many requests, ascending."""
    seconds = folder / "seconds.txt"
    with Installation(folder, workers=0, endpoint=_LATENCY) as house:
        environ = {"PYTHONPATH": str(INSIDE), "STOPWATCH": str(seconds)}
        house.start("worker-0", under=_first_of_all(), environ=environ)
        house.submit("in", rows)
        house.wait("in")
    return sorted(map(float, seconds.read_text().split()))


def _first_of_all() -> list[str]:
    if os.geteuid() or shutil.which("chrt") is None:
        print("NOT RUN at a real-time priority, which needs root and chrt: other work counts")
        return []
    return ["chrt", "--fifo", "1"]
