"""How many requests make a chunk. Arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST, USUAL, LARGEST = 8, 256, 512
_CHUNKS_OF_A_JOB = 64

MOST_BYTES = 2 * 2**20
"""Bodies of a chunk: a worker holds some dozens of chunks, and so does Redis."""

CHUNKS_PER_WORKER = 32
"""Chunks that are out for each worker, shared out among the jobs of its endpoint.

A worker opens twice as many at once, so that a job that comes later finds room at once.
"""

LASTING_S = 60.0
"""What a worker holds should last about so long: all of it comes back when a job is paused."""

UNKNOWN_OUTPUT = 4096
"""Tokens of an answer, for the pace alone, where nothing bounds it."""


@dataclass(frozen=True)
class Pulse:
    """How a job goes at one worker: requests per second, calls in flight, and how many times the
    usual latency the slowest answers take.
    """

    rate: float
    in_flight: float
    spread: float


def chunk_size(requests: int, wanted: int | None, pulse: Pulse | None = None) -> int:
    """Requests per chunk of a job of so many, by what the user wanted or what is measured.

    Large ones spread Celery's price; small ones share among workers, and come back soon. A slow
    answer holds its chunk open, so that what is open must outnumber the calls in flight:
    open chunks x requests per chunk >= in flight x slowest / usual.
    """
    if wanted:
        return wanted
    size = USUAL
    if pulse is not None and pulse.rate > 0:
        lasting = min(pulse.rate * LASTING_S / CHUNKS_PER_WORKER, USUAL)
        size = math.ceil(max(lasting, pulse.in_flight * pulse.spread / CHUNKS_PER_WORKER))
    return max(SMALLEST, min(size, LARGEST, -(-requests // _CHUNKS_OF_A_JOB)))
