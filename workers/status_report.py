"""What a worker tells of the jobs that run here and of the limits it keeps."""

from __future__ import annotations

import time
from collections import defaultdict

from jobs.worker_heartbeat import MOST_DATA, MOST_SAID, JobStatus, LaneStatus, Wait
from workers.calling.shown_text import own_words
from workers.pacing.dispatcher import Dispatcher
from workers.pending import RunningChunk
from workers.runner import Runner


def job_statuses(runner: Runner) -> dict[str, JobStatus]:
    """For each job that runs here its chunks, calls in flight, and the refusals met so far.

    Refusals are told by chunk: whoever knows a chunk's closing has those of it already.
    """
    jobs: dict[str, list[RunningChunk]] = defaultdict(list)
    for chunk in runner.chunks.values():
        jobs[chunk.payload.job].append(chunk)
    return {
        job: _job_status(chunks, runner.calls.by_job[job], runner.dispatchers.of(chunks))
        for job, chunks in jobs.items()
    }


def limit_statuses(runner: Runner) -> list[LaneStatus]:
    """For each model that is called here what its limiter bears."""
    return [
        LaneStatus(
            scope=each.limiter.scope,
            limit=each.limiter.limit,
            waiting=each.waiting,
            down=each.breaker.is_on,
        )
        for each in runner.dispatchers
    ]


def _job_status(
    chunks: list[RunningChunk], in_flight: int, dispatchers: list[Dispatcher]
) -> JobStatus:
    down_s = max((each.breaker.lasts_s for each in dispatchers), default=0.0)
    return JobStatus(
        chunks=len(chunks),
        in_flight=in_flight,
        refused={chunk.payload.chunk: chunk.refusals for chunk in chunks if chunk.refusals},
        down_s=round(down_s, 3),
        wait=_wait(dispatchers),
        bound=next((each.waits.cause for each in dispatchers if each.waits.cause), ""),
        waits=_waits(dispatchers),
    )


def _waits(dispatchers: list[Dispatcher]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for each in dispatchers:
        for cause, seconds in each.waits.seconds().items():
            spent[cause] += round(seconds, 3)
    return dict(spent)


def _wait(dispatchers: list[Dispatcher]) -> Wait | None:
    """What holds these up longest, if something does, in the endpoint's own words."""
    waits = [
        (each.limiter.told_s, each.limiter.pause_s, each.hindrance)
        for each in dispatchers
        if each.hindrance and each.is_held_up
    ]
    if not waits:
        return None
    told_s, pause_s, said = max(waits, key=lambda wait: wait[0])
    now = time.time()
    words = own_words(said.message, said.body, said.status)
    # One sentence too long would have the home refuse all that this worker tells of itself.
    fits = len(words) <= MOST_SAID and len(words.data) <= MOST_DATA
    return Wait(
        code=said.code,
        said=str(words)[:MOST_SAID],
        data=words.data if fits else "",
        until=now + told_s if told_s else None,
        next_at=now + pause_s if pause_s else None,
    )
