"""A large job whose processes are killed: how soon after their start is it under way again?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torturing.installation import Installation

KILLED = (
    ("worker-0",),
    ("coordinator",),
    ("worker-0", "coordinator"),
    ("worker-0", "coordinator", "server"),
)
"""What is killed at once; the server keeps nothing on disk."""

_BUSY = 100
_PATIENCE_S = 300.0


@dataclass
class Result:
    """Seconds from the start of what was killed until a call that was sent later is at home."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    in_flight: int = 0
    bought_twice: int = 0
    broken: list[str] = field(default_factory=list)


def run(folder: Path, rows: int, times: int = 3) -> Result:
    """Kills each of `KILLED` so often in the midst of a job, cancels it and audits it."""
    result = Result()
    options = ("--latency", "uniform:0.2:1.5", "--max-in-flight", "256")
    with Installation(folder, workers=1, endpoint=options) as house:
        job = house.submit("large", rows)
        for names in [names for _ in range(times) for names in KILLED]:
            took = _once(house, job, names)
            result.seconds.setdefault(" and ".join(names), []).append(took)
        house.run_command("cancel", job)
        house.wait("large")
        found = house.audit("large", job, finished=False)
    result.in_flight, result.bought_twice = found.in_flight, found.bought_twice
    result.broken = found.broken
    return result


def _once(house: Installation, job: str, names: Sequence[str]) -> float:
    deadline = time.monotonic() + _PATIENCE_S
    while house.simulator.stats()["in_flight"] < _BUSY and time.monotonic() < deadline:
        time.sleep(0.05)
    house.kill_together(names)
    for name in reversed(names):
        house.start(name)
    back, wall = time.monotonic(), time.time()
    while not house.is_sent_since(job, wall):
        if time.monotonic() > back + _PATIENCE_S:
            raise TimeoutError(f"nothing was sent after {' and '.join(names)} came back")
        time.sleep(0.02)
    return time.monotonic() - back
