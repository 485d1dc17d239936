"""Earlier jobs that asked the same, or whose results go to the same place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from batch.reports.answered_table_file import place_beside
from batch.store.home import Home
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.message import N_, Given

_ASKING = (
    *("source", "base_url", "gateway", "model", "model_map", "override_model", "max_tokens"),
    "drop_last_assistant",
    *("skip_invalid", "dedupe", "reuse", "check", "repairs", "escalate"),
    *("service_tier", "max_tokens_field", "endpoint"),
    *("max_attempts", "never_pay_twice", "idle_timeout_s", "total_timeout_s"),
)
"""Fields of a spec that decide what is asked, and how: a job keeps them for good."""


def answered_before(home: Home, spec: Spec) -> list[str]:
    """What is to be said of an earlier job that asked the same; a program is told nothing."""
    if spec.origin is not None:
        return []
    for store in home.stores():
        job = store.job()
        if job.spec.input_digest == spec.input_digest and job.completed:
            text = N_(
                "the same input ran as {job}, with {completed:,} of {requests:,} answered; its"
                " results are in {output_dir}",
                job=job.id,
                completed=job.completed,
                requests=job.requests,
                output_dir=job.spec.output_dir,
            )
            return [text]
    return []


def check_unclaimed(home: Home, job_id: str, spec: Spec, source: Path | BinaryIO) -> None:
    """Refuses a folder that waits for the results of a job that is not over.

    Who starts the same again after a stop means to go on, and would pay for all of it twice; who
    changed something since is told what, for it is not in that job.
    """
    if job_id in spec.output_dir or spec.origin is not None:
        return
    for store in home.stores():
        job = store.job()
        if job.spec.output_dir != spec.output_dir or job.ended:
            continue
        other = ", ".join(
            field for field in _ASKING if getattr(job.spec, field) != getattr(spec, field)
        )
        stands: dict[str, Given] = {
            "output_dir": spec.output_dir,
            "job": job.id,
            "finished": job.finished,
            "requests": job.requests,
        }
        if other:
            text = N_(
                "{output_dir} waits for the results of {job}, of which {finished:,} of"
                " {requests:,} are done; it was submitted with another {other}",
                **stands,
                other=other,
            )
        elif isinstance(source, Path) and source.stat().st_mtime > job.created_at:
            text = N_(
                "{output_dir} waits for the results of {job}, of which {finished:,} of"
                " {requests:,} are done; it was submitted before {source} was changed",
                **stands,
                source=source,
            )
        else:
            text = N_(
                "{output_dir} waits for the results of {job}, of which {finished:,} of"
                " {requests:,} are done",
                **stands,
            )
        hint = N_(
            "continue it: nightshift resume {job}; or choose another --output-dir", job=job.id
        )
        raise UsageError(text, hint=hint)


def is_free(home: Home, place: Path) -> bool:
    """Whether no file stands there, and no job is to write one."""
    if os.path.lexists(place):
        return False
    waiting = (store.job() for store in home.stores())
    return all(job.ended or place_beside(job.spec) != place for job in waiting)
