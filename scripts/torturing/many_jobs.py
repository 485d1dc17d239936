"""Many small jobs at once, each with a cap of its own, while their workers are killed (L8)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from scripts.torturing.campaigns import Campaign
from scripts.torturing.installation import Installation, dice

ROWS = 60
_ASKED_RUB = Decimal("0.06")
"""What a request of these jobs costs."""

_REST = ("paused", "completed")
_PATIENCE_S = 240.0


@dataclass
class ManyJobs:
    """What came of it: `met` caps were reached, `rub` ₽ were billed in all."""

    jobs: int = 0
    met: int = 0
    kills: int = 0
    calls: int = 0
    rub: Decimal = Decimal(0)
    broken: list[str] = field(default_factory=list)


def run(folder: Path, jobs: int, seed: int) -> ManyJobs:
    """Submits them, kills workers until all rest, and holds the endpoint's book against each."""
    found, chance = ManyJobs(), dice(seed)
    endpoint = ("--latency", "lognormal:0.5:0.5:4", "--max-in-flight", "200")
    with Installation(folder, workers=3, endpoint=endpoint) as house:
        caps = {
            f"job{n}": ROWS * _ASKED_RUB * chance.randint(100, 1200) / 1000 for n in range(jobs)
        }
        ids = {
            name: house.submit(name, ROWS, "--budget-rub", str(cap)) for name, cap in caps.items()
        }
        campaign = Campaign(house, ROWS, seed)
        deadline = time.monotonic() + _PATIENCE_S
        while not all(_rests(house, job) for job in ids.values()):
            if time.monotonic() > deadline:
                found.broken.append("some jobs do not come to rest")
                break
            campaign.kill_workers()
            time.sleep(chance.uniform(6, 12))
        house.simulator.wait_idle(30)
        for name, job in ids.items():
            audit = house.audit(name, job, cap=caps[name], finished=False)
            found.jobs += 1
            found.calls += audit.billed_calls
            found.rub += audit.endpoint_rub
            found.met += house.at_home(job, "SELECT state FROM job")[0][0] == "paused"
            found.broken += [f"{name}: {law}" for law in audit.broken if law.startswith("L8")]
        found.kills = campaign.tally.blows.total()
    return found


def _rests(house: Installation, job: str) -> bool:
    return house.at_home(job, "SELECT state FROM job")[0][0] in _REST
