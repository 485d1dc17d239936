"""A look at a job from outside: its row on disk, and what its coordinator last told of it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import click

from batch import embedded
from batch.coordinator.post import Post
from batch.settings import Settings
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.trouble import Trouble
from batch.watching.progress import Progress, progress_of
from jobs.errors import NightshiftError


class Glance:
    """Looks at jobs of a home. Without Redis it knows less, and nothing fails."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._configured = settings.redis_url
        self._post: Post | None = None

    def at(self, job: JobRow, rate: float = 0.0, refusals: int = 0) -> Progress:
        """The job as it stands; with a coordinator at work, also what is under way."""
        progress = progress_of(job, rate, refusals=refusals)
        if job.ended or not self._home.is_coordinated(job.id):
            return progress
        told = self._told(job.id)
        if not told or told.get("state") != progress.state:
            return progress
        return replace(
            progress,
            rate=told["rate"],
            left_s=told["left_s"],
            in_flight=told["in_flight"],
            workers=told["workers"],
            refusals=told["refusals"],
            done_at=told.get("done_at"),
            late=told.get("late", False),
            down_s=told["down_s"],
            reason=told["reason"],
            reason_text=told["reason_text"],
            trouble=Trouble(**told["trouble"]) if told.get("trouble") else progress.trouble,
        )

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

    def _told(self, job_id: str) -> dict[str, Any]:
        try:
            if self._post is None:
                url = self._configured or embedded.find(self._home.folder)
                if url is None:
                    return {}
                self._post = Post(url)
            return self._post.published(job_id)
        except (NightshiftError, ValueError):
            # Not there, or not of our making.
            return {}


def tell_programs(home: Home, settings: Settings, job_id: str) -> None:
    """How a job stands, as one line of JSON on standard output."""
    with (
        closing(Glance(home, settings)) as glance,
        closing(home.open(job_id, read_only=True)) as store,
    ):
        click.echo(json.dumps(glance.all_of(store), ensure_ascii=False))
