"""A look at a job from outside: its row on disk, and what its coordinator last told of it."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import click
import msgspec

from batch import embedded
from batch.coordinator.post import Post
from batch.credentials import post_seal
from batch.dialogue.manned import lack_of_workers
from batch.dialogue.terminal import duration, safe
from batch.language import _, again
from batch.settings import Settings
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.trouble import Trouble
from batch.watching.progress import Progress, progress_of
from jobs.errors import NightshiftError
from jobs.heartbeat import Wait
from jobs.states import JobState

_STALE_S = 5.0
"""A coordinator that is well tells how a job stands twice a second."""


class Told(msgspec.Struct, frozen=True):
    """What a coordinator tells of a job that only it knows."""

    state: JobState
    rate: float
    left_s: float | None
    in_flight: int
    workers: int | None
    refusals: int
    down_s: float
    reason: str
    reason_text: str
    done_at: float | None = None
    late: bool = False
    trouble: Trouble | None = None
    wait: Wait | None = None
    at: float = math.inf


class Glance:
    """Looks at jobs of a home. Without Redis it knows less, and nothing fails."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        self._post: Post | None = None
        self._wrong = ""

    def at(self, job: JobRow, rate: float = 0.0, refusals: int = 0) -> Progress:
        """The job as it stands; with a coordinator at work, also what is under way."""
        progress, self._wrong = progress_of(job, rate, refusals=refusals), ""
        if job.ended or not self._home.is_coordinated(job.id):
            return progress
        told = self._told(job.id)
        if told is None or told.state != progress.state:
            return progress
        known = msgspec.structs.asdict(told)
        del known["at"]
        return replace(progress, **{**known, "trouble": told.trouble or progress.trouble})

    def all_of(self, store: JobStore) -> dict[str, Any]:
        """What programs are told of one job; amounts are exact strings in ₽."""
        refusals = sum(store.refusals().values())
        return {**self.at(store.job(), refusals=refusals).as_json(), **facts_of(store)}

    def close(self) -> None:
        """Drops the connection."""
        if self._post:
            self._post.close()

    def lack_of_workers(self, job: JobRow) -> str:
        """Why no worker runs the job, though a coordinator would have it run; empty else."""
        if self._wrong or not self._home.is_coordinated(job.id):
            return ""
        with suppress(NightshiftError, ValueError):
            if post := self._connected():
                return lack_of_workers(job, post.workers(), post.strangers)
        return ""

    def silence(self, job: JobRow) -> str:
        """What kept the coordinator's word from us at the last look, and how old what is shown
        is; empty if nothing did.
        """
        if not self._wrong:
            return ""
        age = duration(max(0.0, time.time() - self._home.touched(job.id)))
        told = _("{trouble}; what is shown is {age} old")
        return told.format(trouble=safe(again(self._wrong)), age=age)

    def _told(self, job_id: str) -> Told | None:
        try:
            post = self._connected()
            told = post.published(job_id, Told) if post else None
        except (NightshiftError, ValueError) as error:
            self._wrong = error.message if isinstance(error, NightshiftError) else str(error)
            return None
        if post is None:
            self._wrong = "the embedded server does not answer"
        elif told is not None and time.time() - told.at > _STALE_S:
            self._wrong = "the coordinator has told nothing new for a while"
        return told

    def _connected(self) -> Post | None:
        if self._post is None:
            url = self._settings.redis_url or embedded.find(self._home.folder)
            if url is not None:
                self._post = Post(url, post_seal(self._settings, self._home.folder))
        return self._post


def facts_of(store: JobStore) -> dict[str, Any]:
    """What programs are told beside of a job that does not change by itself, and why."""
    job, refusals = store.job(), store.refusals()
    return {
        "refusals_by_code": refusals,
        "output_dir": job.spec.output_dir,
        "invalid": job.invalid,
        "model": job.spec.model,
        "base_url": job.spec.base_url,
        **store.why().as_json(),
    }


def tell_programs(home: Home, settings: Settings, job_id: str) -> None:
    """How a job stands, as one line of JSON on standard output."""
    with (
        closing(Glance(home, settings)) as glance,
        closing(home.open(job_id, read_only=True)) as store,
    ):
        click.echo(json.dumps(glance.all_of(store), ensure_ascii=False))
