"""A look at a job from outside: its row on disk, and what its coordinator last told of it."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import click
import msgspec

from batch import embedded
from batch.coordinator.post import Post
from batch.credentials import post_seal
from batch.dialogue.manned import lack_of_workers
from batch.settings import Settings
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.trouble import Trouble
from batch.watching.progress import Progress, progress_of
from jobs.errors import NightshiftError
from jobs.heartbeat import Wait
from jobs.states import JobState


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


class Glance:
    """Looks at jobs of a home. Without Redis it knows less, and nothing fails."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        self._post: Post | None = None

    def at(self, job: JobRow, rate: float = 0.0, refusals: int = 0) -> Progress:
        """The job as it stands; with a coordinator at work, also what is under way."""
        progress = progress_of(job, rate, refusals=refusals)
        if job.ended or not self._home.is_coordinated(job.id):
            return progress
        told = self._told(job.id)
        if told is None or told.state != progress.state:
            return progress
        known = msgspec.structs.asdict(told)
        return replace(progress, **{**known, "trouble": told.trouble or progress.trouble})

    def all_of(self, store: JobStore) -> dict[str, Any]:
        """What programs are told of one job; amounts are exact strings in ₽."""
        job, refusals = store.job(), store.refusals()
        return {
            **self.at(job, refusals=sum(refusals.values())).as_json(),
            "refusals_by_code": refusals,
            "output_dir": job.spec.output_dir,
            "invalid": job.invalid,
            "model": job.spec.model,
            "base_url": job.spec.base_url,
        }

    def close(self) -> None:
        """Drops the connection."""
        if self._post:
            self._post.close()

    def lack_of_workers(self, job: JobRow) -> str:
        """Why no worker runs the job, though a coordinator would have it run; empty else."""
        if not self._home.is_coordinated(job.id):
            return ""
        with suppress(NightshiftError, ValueError):
            if post := self._connected():
                return lack_of_workers(job, post.workers(), post.strangers)
        return ""

    def _told(self, job_id: str) -> Told | None:
        with suppress(NightshiftError, ValueError):
            post = self._connected()
            return post.published(job_id, Told) if post else None
        return None

    def _connected(self) -> Post | None:
        if self._post is None:
            url = self._settings.redis_url or embedded.find(self._home.folder)
            if url is not None:
                self._post = Post(url, post_seal(self._settings, self._home.folder))
        return self._post


def tell_programs(home: Home, settings: Settings, job_id: str) -> None:
    """How a job stands, as one line of JSON on standard output."""
    with (
        closing(Glance(home, settings)) as glance,
        closing(home.open(job_id, read_only=True)) as store,
    ):
        click.echo(json.dumps(glance.all_of(store), ensure_ascii=False))
