"""Each named point in the code × each fault of the endpoint: a kill while calls go wrong (P20).

A pair is one job of a few requests: of its calls a share is spoiled, and in its midst the worker or
the coordinator dies at the point and is put back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

from redis import Redis

from scripts.torturing.installation import INSIDE, Installation

ROWS = 20
_JOB_S = 120.0
_LATE_S = 5.0
"""A point behind the job's end is met so soon after it."""
_JOURNAL = "workers.delivery.journal:Journal.write"
_FEEDER = "batch.coordinator.feeder:Feeder._send"
_REDIS = "batch.coordinator.redis"
_LEDGER, _REPORTS = "batch.store.delivery_ledger:apply", "batch.reports:write_all"

POINTS = {
    "claimed": ("worker-0", f"{_JOURNAL}:after:Claimed:1"),
    "before-reserved": ("worker-0", f"{_JOURNAL}:before:Sent:7"),
    "reserved": ("worker-0", f"{_JOURNAL}:after:Sent:7"),
    "headers": ("worker-0", f"{_JOURNAL}:after:Heard:3"),
    "before-answered": ("worker-0", f"{_JOURNAL}:before:Ended:5"),
    "answered": ("worker-0", f"{_JOURNAL}:after:Ended:5"),
    "last-answered": ("worker-0", f"{_JOURNAL}:after:Ended:{ROWS}"),
    "before-closed": ("worker-0", f"{_JOURNAL}:before:Closed:1"),
    "closed": ("worker-0", f"{_JOURNAL}:after:Closed:1"),
    "granted": ("coordinator", f"{_FEEDER}:before::1"),
    "payload": ("coordinator", f"{_REDIS}.chunks:Chunks.put_payload:after::1"),
    "fed": ("coordinator", f"{_FEEDER}:after::1"),
    "before-booked": ("coordinator", f"{_LEDGER}:before::1"),
    "booked": ("coordinator", f"{_LEDGER}:after::1"),
    "acknowledged": ("coordinator", f"{_REDIS}.results:Results.acknowledge:after::1"),
    "before-reports": ("coordinator", f"{_REPORTS}:before::1"),
    "reports": ("coordinator", f"{_REPORTS}:after::1"),
}
"""The process that dies, and where, as `inside/sitecustomize.py` reads it."""

FAULTS = {
    "none": (),
    "e1": ("429:retry_after=1",),
    "e2": ("429:retry_after=date:1",),
    "e3": ("429",),
    "e4": ("429:retry_after=garbage",),
    "e5": ("429:meaning=upstream,share=0.8",),
    "e6": ("500", "502:bill=true"),
    "e7": ("wrapped:code=400,status=503,form=nested", "wrapped:code=429,form=nested"),
    "e8": ("529", "503:retry_after=1"),
    "e9": ("408:bill=true", "409"),
    "e10": ("never:seconds=1.5,bill=true",),
    "e11": ("silence:seconds=1.5",),
    "e12": ("whitespace:seconds=1.5,every=0.1",),
    "e13": ("slow:seconds=1",),
    "e14": ("reset:after=0",),
    "e15": ("reset:bill=true",),
    "e16": ("cut", "reset_body"),
    "e17": ("length:off=10", "length:off=-10"),
    "e18": ("truncated",),
    "e19": ("html", "empty", "null", "sse"),
    "e20": ("error200:code=502,cost=true", "error200:code=429", "error200:code=502,form=text"),
}
"""Rules of the simulator, each for a third of the requests once."""


@dataclass
class Result:
    """What came of the pairs. `unmet` are those whose point was never reached."""

    tried: int = 0
    in_flight: int = 0
    bought_twice: int = 0
    unmet: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def run(
    folder: Path,
    points: Iterable[str] = POINTS,
    faults: Iterable[str] = FAULTS,
    *,
    step: int = 1,
) -> Result:
    """Tries every pair of these, or every `step`th."""
    result = Result()
    options = ("--latency", "uniform:0.05:0.3", "--max-in-flight", "12")
    with Installation(folder, workers=1, endpoint=options) as house:
        for point, fault in islice(product(points, faults), 0, None, step):
            _one(house, point, fault, result)
        result.broken += house.leaks()
    return result


def _one(house: Installation, point: str, fault: str, result: Result) -> None:
    name = f"{point}-{fault}"
    process, where = POINTS[point]
    house.kill(process)
    house.deaths.clear()
    # The pace that was found while others were refused is not for this one.
    Redis(port=house.port).flushall()
    told = house.folder / "died"
    house.start(process, environ=_dying(where, told))
    rules = [f"{rule}{'' if ':' in rule else ':'},times_per_request=1" for rule in FAULTS[fault]]
    rules = [rule if "share=" in rule else f"{rule},share=0.3" for rule in rules]
    house.simulator.control("faults", [rule.replace(":,", ":") for rule in rules])
    before = len(house.simulator.book())
    job = house.submit(name, ROWS, "--timeout", "10")
    died = house.outlive(name, job, process, _JOB_S)
    if not died and house.dies(process, _LATE_S):
        house.start(process)
        died = True
    house.wait(name)
    # What is in flight at the very moment may be lost, and nothing before it.
    house.deaths[:] = [(float(told.read_text()), end) for _, end in house.deaths]
    found = house.audit(name, job, house.billed_in_vain(before))
    result.tried += 1
    result.in_flight += found.in_flight
    result.bought_twice += found.bought_twice
    result.broken += [f"{name}: {law}" for law in found.broken]
    if not died:
        result.unmet.append(name)


def _dying(where: str, told: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(INSIDE), "FAILPOINT": where, "FAILPOINT_TOLD": str(told)}
