"""What a request may take beyond its first call where its answer is checked: bounds, no guesses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batch.estimator.estimate import Size
from batch.tables.pack_sizes import MOST_ROWS, sizes_of
from batch.tables.reask import LONGEST_QUOTE
from jobs.job_options import Spec

_WORDS = 1000
"""Bytes that say what is wrong with an answer, or what a pack is; choices are named besides."""

_MARKS = 16
"""Tokens of a row's marks in a pack, as it is sent, and as it comes back."""

_PACKED_RUNGS = 2


@dataclass
class FollowupBounds:
    """The calls that requests of a job may take beyond one: `packs` with others, `repairs`, and
    one of the model `escalate`. Of `compared` requests, the first that are looked at, `trials` more
    in packs. `words` are bytes that each of them has besides the request.
    """

    repairs: int = 0
    escalate: str | None = None
    packs: int = 0
    compared: int = 0
    trials: int = 0
    words: int = _WORDS

    def beyond(self, size: Size) -> Iterator[Size]:
        """Those of requests that are alike."""
        answer = size.output_bound
        compared = min(self.compared, size.requests)
        self.compared -= compared
        packed = self.packs * size.requests + self.trials * compared
        if packed:
            longer = None if answer is None else answer + _MARKS
            prompt = size.prompt_bound + self.words + _MARKS
            yield size._replace(requests=packed, prompt_bound=prompt, output_bound=longer)
        if self.repairs:
            quote = 4 * LONGEST_QUOTE if answer is None else min(answer, 4 * LONGEST_QUOTE)
            prompt = size.prompt_bound + self.words + quote
            yield size._replace(requests=self.repairs * size.requests, prompt_bound=prompt)
        if self.escalate is not None:
            prompt = size.prompt_bound + len(self.escalate.encode())
            yield size._replace(model=self.escalate, prompt_bound=prompt, pin="")


def climbs_of(spec: Spec, sample: int = 0) -> FollowupBounds:
    """Of a job; `sample` rows are compared in packs first, if any."""
    task = spec.task
    if task is None:
        return FollowupBounds(spec.repairs, spec.escalate) if spec.check else FollowupBounds()
    if not task.checked:
        return FollowupBounds()
    packs = _PACKED_RUNGS if task.pack > 1 or task.auto_pack else 0
    compared = min(sample, MOST_ROWS)
    words = _WORDS + sum(len(f"{choice}, ".encode()) for choice in task.choices)
    trials = len(sizes_of(task, compared)) if packs and compared else 0
    return FollowupBounds(task.repairs, task.escalate, packs, compared, trials, words)
