"""A look at a job from outside: its row on disk, and what its coordinator last told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeVar

import click
import msgspec

from batch import embedded
from batch.coordinator.post import Post
from batch.coordinator.sign import Sign, board_name
from batch.credentials import post_seal
from batch.dialogue.manned import lack_of_workers
from batch.dialogue.quality import quality_json
from batch.money.savings import copies_json, reused_of
from batch.settings import Settings
from batch.store.home import Home
from batch.store.jobstore import JobRow, JobStore
from batch.store.trouble import Trouble
from batch.watching.attention import NO_COORDINATOR, NO_SERVER, SILENT, Attention
from batch.watching.progress import Progress, progress_of
from jobs.errors import NightshiftError
from jobs.heartbeat import Wait
from jobs.lifecycle import is_at_rest
from jobs.states import JobState

_STALE_S = 5.0
"""A coordinator that is well tells how a job stands twice a second."""

_ASK_AGAIN_S = 2.0
"""Of many jobs only the first waits for a Redis that does not answer."""

T = TypeVar("T")


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
    at: float = 0.0


class Glance:
    """Looks at jobs of a home. Without Redis it knows less, and nothing fails."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        self._post: Post | None = None
        self._wrong = ""
        self._asked_at = -_ASK_AGAIN_S

    def at(self, job: JobRow, rate: float = 0.0, refusals: int = 0) -> Progress:
        """The job as it stands; with a coordinator at work, also what is under way."""
        progress = progress_of(job, rate, refusals=refusals)
        if job.ended:
            return progress
        if not self._home.is_coordinated(job.id):
            return progress if is_at_rest(job) else self._attend(progress, NO_COORDINATOR)
        told = self._asked(lambda post: post.published(job.id, Told))
        if told is not None and told.state == progress.state:
            known = msgspec.structs.asdict(told)
            del known["at"]
            progress = replace(progress, **{**known, "trouble": told.trouble or progress.trouble})
        if self._wrong:
            return self._attend(progress, self._wrong)
        return self._heard(progress, told.at if told else 0.0)

    def _heard(self, progress: Progress, at: float) -> Progress:
        """Redis answered, and has a word of that moment of the coordinator, which is at work."""
        now, well_at = time.time(), self._home.well_at()
        if now - max(at, self._home.touched(progress.job)) < _STALE_S:
            return progress
        present = self._asked(lambda post: post.present(board_name(self._home), Sign))
        if ailment := present and present.ailing.get(progress.job):
            return self._attend(progress, ailment.text, ailment.since, at)
        silent = now - well_at > _STALE_S
        return self._attend(progress, SILENT, well_at, at) if silent else progress

    def _attend(
        self, progress: Progress, text: str, since: float = 0.0, at: float = 0.0
    ) -> Progress:
        """`since` is when it was found; without, when a coordinator was last well, or wrote."""
        touched = self._home.touched(progress.job)
        since = since or max(self._home.well_at(), touched)
        return replace(progress, attention=Attention(text, since, max(at, touched)))

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

    def _asked(self, ask: Callable[[Post], T | None]) -> T | None:
        """What Redis answers; None where it does not, and what is wrong then is kept."""
        if self._wrong and time.monotonic() - self._asked_at < _ASK_AGAIN_S:
            return None
        try:
            post = self._connected()
            self._wrong = "" if post else NO_SERVER
            return ask(post) if post else None
        except (NightshiftError, ValueError) as error:
            self._wrong = error.message if isinstance(error, NightshiftError) else str(error)
            return None
        finally:
            self._asked_at = time.monotonic()

    def _connected(self) -> Post | None:
        if self._post is None:
            url = self._settings.redis_url or embedded.find(self._home.folder)
            if url is not None:
                self._post = Post(url, post_seal(self._settings, self._home.folder))
        return self._post


def worst(jobs: Iterable[Progress]) -> list[Progress]:
    """Of those that need attention one for each trouble, of which the oldest is shown."""
    found: dict[str, Progress] = {}
    for job in sorted(jobs, key=lambda each: each.attention.shown_at if each.attention else 0):
        if job.attention:
            found.setdefault(job.attention.text, job)
    return list(found.values())


def facts_of(store: JobStore) -> dict[str, Any]:
    """What programs are told beside of a job that does not change by itself, and why."""
    job, refusals = store.job(), store.refusals()
    return {
        "refusals_by_code": refusals,
        "output_dir": job.spec.output_dir,
        "invalid": job.invalid,
        "model": job.spec.model,
        "base_url": job.spec.base_url,
        **quality_json(store),
        "reused": copies_json(reused_of(store)),
        **store.why().as_json(),
    }


def tell_programs(home: Home, settings: Settings, job_id: str) -> None:
    """How a job stands, as one line of JSON on standard output."""
    with (
        closing(Glance(home, settings)) as glance,
        closing(home.open(job_id, read_only=True)) as store,
    ):
        click.echo(json.dumps(glance.all_of(store), ensure_ascii=False))
