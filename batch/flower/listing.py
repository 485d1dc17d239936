"""Which jobs a page shows, and in which order: what is asked for in its address."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from batch.coordinator.redis.published_status import MOST_LISTED
from batch.flower.status_reader import Job
from jobs.money import ZERO, total

PAGE_SIZE = 50
_DAY_S = 24 * 3600.0
_LONGEST_SEARCH = 100
_PREFIX = "job_"

_KEYS: dict[str, Callable[[Job], Any]] = {
    "name": lambda job: job.name.casefold(),
    "state": lambda job: (job.state, job.reason),
    "progress": lambda job: job.share,
    "pace": lambda job: job.rate if job.moves else -1.0,
    "money": lambda job: job.spent_rub,
    "calls": lambda job: job.in_flight if job.moves else -1,
    "failed": lambda job: job.failed,
    "created": lambda job: job.created_at,
}
"""What a list is sorted by; "": what is not over first, then the newest."""

_RISING = frozenset({"name", "state"})
"""Those of which the lowest is looked for first."""


class Query(NamedTuple):
    """What is asked for. `since`: submitted within so many days, "" for ever."""

    state: str = "all"
    q: str = ""
    since: str = ""
    sort: str = ""
    order: str = ""
    page: int = 1

    @classmethod
    def of(cls, given: Callable[[str, str], str]) -> Self:
        """Of an address; what makes no sense there is not asked for."""
        state, since, sort = given("state", "all"), given("since", ""), given("sort", "")
        page, order = given("page", "1"), given("order", "")
        return cls(
            state if state in Listing.KINDS else "all",
            given("q", "")[:_LONGEST_SEARCH],
            since if since in Listing.SPANS else "",
            sort if sort in _KEYS else "",
            order if order in ("up", "down") else "",
            max(int(page), 1) if page.isdecimal() and len(page) < 9 else 1,
        )

    @property
    def is_rising(self) -> bool:
        """Whether the lowest comes first."""
        return (self.order or ("up" if self.sort in _RISING else "down")) == "up"

    def link(self, **change: Any) -> str:
        """The address of a page with something else asked for; of another kind it is the first."""
        wanted = self._replace(page=1)._replace(**change)
        plain = Query()._asdict()
        return "?" + urlencode({k: v for k, v in wanted._asdict().items() if v != plain[k]})

    def by(self, key: str) -> str:
        """The address of the same, sorted by `key`, or the other way round if it is already."""
        turned = ("down" if self.is_rising else "up") if key == self.sort else ""
        return self.link(sort=key, order=turned)

    def sorted_by(self, key: str) -> str:
        """As `aria-sort` has it."""
        if key != self.sort:
            return "none"
        return "ascending" if self.is_rising else "descending"

    def finds(self, job: Job) -> bool:
        """Whether it is one of those."""
        words = self.q.casefold().strip()
        recent = not self.since or job.created_at >= time.time() - int(self.since) * _DAY_S
        # Every id begins alike: a letter of that tells none from another.
        named = words in job.name.casefold() or words in job.job.removeprefix(_PREFIX)
        return recent and (named or (words.startswith(_PREFIX) and job.job.startswith(words)))

    def put_in_order(self, jobs: list[Job]) -> list[Job]:
        """The same jobs."""
        if not self.sort:
            return jobs
        return sorted(jobs, key=_KEYS[self.sort], reverse=not self.is_rising)


class Listing:
    """The jobs of one page of one kind, and figures of all of them. `is_full`: there may be more
    than are listed.
    """

    KINDS = ("all", "running", "paused", "ended")
    SPANS = ("", "1", "7", "30")
    SORTS = ("", *_KEYS)

    def __init__(self, jobs: list[Job], query: Query) -> None:
        found = [job for job in jobs if query.finds(job)]
        of = {
            "all": found,
            "running": [job for job in found if job.runs],
            "paused": [job for job in found if job.rests],
            "ended": [job for job in found if job.ended],
        }
        chosen = query.put_in_order(of[query.state])
        self.counts = {kind: len(some) for kind, some in of.items()}
        self.pages = max(-(-len(chosen) // PAGE_SIZE), 1)
        self.page = min(query.page, self.pages)
        self.query = query
        self.listed, self.is_full = len(jobs), len(jobs) >= MOST_LISTED
        self.is_all = query.state == "all" and not (query.q or query.since)
        self.shown = chosen[(self.page - 1) * PAGE_SIZE : self.page * PAGE_SIZE]
        self.running, self.paused = sum(job.runs for job in jobs), sum(job.rests for job in jobs)
        moving = [job for job in jobs if job.moves]
        self.rate = sum(job.rate for job in moving)
        self.in_flight = sum(job.in_flight for job in moving)
        self.workers = max((job.workers or 0 for job in moving), default=0)
        self.needy = sum(job.needs_action for job in jobs)
        self.spent = total([ZERO, *(job.spent_rub for job in jobs if not job.ended)])
