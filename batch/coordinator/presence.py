"""What the workers tell of themselves, seen from one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Presence:
    """`workers` serve the job's endpoint, `busy` of them have a chunk of it.

    `down_s` is for how long the endpoint has not answered it. `limits` are calls in flight that the
    endpoint bears, by the pace that is shared; `refused` counts the refusals of each chunk by code;
    `lag_s` is how long the oldest result waits to come home.
    """

    workers: int = 0
    busy: int = 0
    in_flight: int = 0
    down_s: float = 0.0
    limits: dict[str, int] = field(default_factory=dict)
    refused: dict[int, Counter[str]] = field(default_factory=dict)
    lag_s: float = 0.0


def presence_of(job: str, base_url: str, workers: Iterable[dict[str, Any]]) -> Presence:
    """`workers` as `Post.workers` finds them."""
    there = [worker for worker in workers if worker.get("base_url") == base_url]
    here = [worker["jobs"][job] for worker in there if job in worker.get("jobs", {})]
    lanes = [lane for worker in there for lane in worker.get("limits", ())]
    return Presence(
        workers=len(there),
        busy=len(here),
        in_flight=sum(standing.get("in_flight", 0) for standing in here),
        down_s=max((standing.get("down_s", 0.0) for standing in here), default=0.0),
        limits={lane["scope"]: lane["limit"] for lane in lanes if lane.get("limit")},
        refused={
            int(chunk): Counter(codes)
            for standing in here
            for chunk, codes in standing.get("refused", {}).items()
        },
        lag_s=max((worker.get("outbox_lag_s", 0.0) for worker in there), default=0.0),
    )
