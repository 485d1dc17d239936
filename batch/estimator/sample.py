"""Some hundreds of requests, evenly spread over a file of any length, and their shapes.

Every nth request is kept; when there are too many, every second of them goes, and n doubles. So
the file's length need not be known, and the work does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from batch.estimator.character_counts import Shape, shape_of
from jobs.request import Request

MOST = 1024
"""Samples of a file, at most."""


@dataclass(frozen=True)
class Sample:
    """A request that stands for others. `size` is the bound of its prompt, in tokens."""

    model: str
    max_output: int | None
    size: int
    shape: Shape


@dataclass(frozen=True)
class Crowd:
    """All requests to one model: how many, and the sum of their prompts' bounds."""

    requests: int
    size: int


class Sampler:
    """Sees every request; `samples` are those kept, by ordinal."""

    def __init__(self, shape: Callable[[bytes], Shape] = shape_of) -> None:
        self._shape = shape
        self._every = 1
        self.samples: dict[int, Sample] = {}

    def see(self, ordinal: int, request: Request) -> None:
        """Takes a request in or passes it over."""
        if ordinal % self._every:
            return
        self.samples[ordinal] = Sample(
            request.model, request.max_output, request.prompt_bound, self._shape(request.body)
        )
        if len(self.samples) > MOST:
            self._every *= 2
            self.samples = {
                place: sample for place, sample in self.samples.items() if not place % self._every
            }

    def packed(self) -> Iterator[tuple[int, bytes]]:
        """What is stored with a job: ordinals and shapes."""
        for ordinal, sample in self.samples.items():
            yield ordinal, msgspec.msgpack.encode(sample.shape)
