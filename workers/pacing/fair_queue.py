"""Requests that wait for their turn, of several jobs, each of which has a share.

Weighted fair queueing: of the jobs that wait, the next call is of the one that had the least so far
for its share. So a job with ten times the share gets ten calls for one of the other, equals get
alike, a new one begins at once, and none waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from jobs.priority import NORMAL
from workers.pending import PendingRequest


class FairQueue:
    """The requests of one model that are ready."""

    def __init__(self) -> None:
        self._jobs: dict[str, deque[PendingRequest]] = {}
        self._shares: dict[str, float] = {}
        self._had: dict[str, float] = {}
        self._now = 0.0
        self._next: str | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def share(self) -> float:
        """The shares of the jobs that wait, together; 1 where none does."""
        return sum(map(self._share, self._jobs)) or 1.0

    def set_share(self, job: str, share: float | None) -> None:
        """What a job gets against others; None: the usual, and it may be forgotten."""
        if share is None:
            self._shares.pop(job, None)
        else:
            self._shares[job] = share

    def _share(self, job: str) -> float:
        return self._shares.get(job, NORMAL)

    def add(self, requests: list[PendingRequest]) -> None:
        """Behind those of the same job that wait."""
        for request in requests:
            self._of(request).append(request)
        self._count += len(requests)

    def add_first(self, request: PendingRequest) -> None:
        """Before those of the same job that wait."""
        self._of(request).appendleft(request)
        self._count += 1

    def _of(self, request: PendingRequest) -> deque[PendingRequest]:
        job = request.job
        if job not in self._jobs:
            self._jobs[job] = deque()
            self._had[job] = max(self._had.get(job, 0.0), self._now)
            self._next = None
        return self._jobs[job]

    def peek(self) -> PendingRequest:
        """Whose turn it is. `IndexError` where nobody waits."""
        if not self._jobs:
            raise IndexError("nobody waits")
        if self._next is None:
            self._next = min(self._jobs, key=self._had.__getitem__)
        return self._jobs[self._next][0]

    def pop(self) -> PendingRequest:
        """Lets the one through whose turn it is."""
        request = self.peek()
        job = request.job
        self._now = self._had[job]
        self._had[job] += 1.0 / self._share(job)
        self._jobs[job].popleft()
        self._count -= 1
        self._drop_empty(job)
        if len(self._jobs) > 1 or job not in self._jobs:
            self._next = None
        return request

    def take_back(self, wanted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        """Removes and returns all of which `wanted` is true."""
        back = [request for queue in self._jobs.values() for request in queue if wanted(request)]
        if back:
            for job in list(self._jobs):
                self._jobs[job] = deque(each for each in self._jobs[job] if not wanted(each))
                self._drop_empty(job)
            self._count -= len(back)
            self._next = None
        return back

    def _drop_empty(self, job: str) -> None:
        """A job of which nothing waits saves up no turns; what it had more than others it keeps."""
        if not self._jobs[job]:
            del self._jobs[job]
        if not self._jobs:
            self._had.clear()
            self._now = 0.0
