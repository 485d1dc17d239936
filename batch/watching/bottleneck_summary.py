"""By what a job is bound: summed up over its workers, and told in a sentence."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from batch.language import _, number
from jobs.bottleneck import Bound
from jobs.job_options import Limits
from jobs.message import N_, NOTHING, Message
from jobs.money import plain

_WINDOW_S = 60.0
_LEAST = 0.3
"""Of the time a job is bound by what it waits for longer than this share."""

_BEHIND_S = 4.0
"""What a worker tells is as old as two heartbeats at most."""

_SHORTEST_S = 5.0
"""Nothing is said of less."""

Waited = Mapping[str, float]
"""Seconds by cause."""


ANOTHERS = {
    Bound.RPM: N_("another job's limit of requests per minute"),
    Bound.TPM: N_("another job's limit of tokens per minute"),
    Bound.MAX_IN_FLIGHT: N_("another job's limit of concurrent calls"),
    Bound.RUB_PER_HOUR: N_("another job's limit of roubles per hour"),
}
"""What a limit is called where the job has none of that kind itself."""


class BoundBy(msgspec.Struct, frozen=True):
    """What requests wait for, and for which share (0 to 1) of the last minute they did. `enough`:
    a limit of the job's own that would hold it up less, as an option takes it.
    """

    cause: Bound
    share: float
    enough: str = ""

    @property
    def is_anothers(self) -> bool:
        """Whether it is a limit that only other jobs have: for all that share the endpoint, the key
        and the model, the lowest counts.
        """
        return self.cause in ANOTHERS and not self.enough

    @property
    def meaning(self) -> Message:
        """What is waited for."""
        return ANOTHERS[self.cause] if self.is_anothers else self.cause.rule.meaning

    @property
    def cure(self) -> Message:
        """What would help, before `command`."""
        return NOTHING if self.is_anothers else self.cause.rule.cure

    def command(self, job: str) -> str:
        """What would help, to be run; "" where no command would."""
        command = "" if self.is_anothers else self.cause.rule.command
        return command.format(job=job, enough=self.enough)

    def as_json(self, job: str) -> dict[str, object]:
        """For programs."""
        return {
            "cause": self.cause.value,
            "text": str(self.meaning),
            "share": round(self.share, 3),
            "enough": self.enough,
            "remedy": self.command(job),
        }


class WaitMeter:
    """Of one job. Workers tell sums over the models that it has there now: they fall when one is
    done, and rise by all that was waited for there, for other jobs too, when one comes.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, float]] = {}
        self._lately: deque[tuple[float, int, dict[str, float]]] = deque()
        self.kept: dict[str, float] = defaultdict(float)
        """What was not written down yet."""

    def note(self, now: float, told: Mapping[str, Waited]) -> dict[str, float]:
        """What each worker tells at `now` (seconds); what was waited since the last time."""
        new: dict[str, float] = defaultdict(float)
        most = now - self._lately[-1][0] + _BEHIND_S if self._lately else 0.0
        for worker, waits in told.items():
            before = self._told.get(worker)
            for cause, seconds in waits.items():
                was = before.get(cause, 0.0) if before is not None else seconds
                new[cause] += min(max(seconds - was, 0.0), most)
        self._told = {worker: dict(waits) for worker, waits in told.items()}
        known = {cause: spent for cause, spent in new.items() if spent > 0 and cause in _CAUSES}
        _add(self.kept, known)
        self._lately.append((now, len(told), known))
        while now - self._lately[0][0] > _WINDOW_S:
            self._lately.popleft()
        return known

    def bound(self, limits: Limits) -> BoundBy | None:
        """What held the job up most within the last minute; None where nothing did for long.
        `limits` are the job's own.
        """
        spent: dict[str, float] = defaultdict(float)
        for _at, _workers, waits in self._lately:
            _add(spent, waits)
        if not spent:
            return None
        seconds, cause = max((seconds, cause) for cause, seconds in spent.items())
        workers = max(workers for _at, workers, _waits in self._lately)
        ran = (self._lately[-1][0] - self._lately[0][0]) * workers
        share = min(seconds / ran, 1.0) if ran >= _SHORTEST_S else 0.0
        return BoundBy(Bound(cause), share, _enough(limits, cause)) if share >= _LEAST else None


def _add(to: dict[str, float], more: Waited) -> None:
    for cause, seconds in more.items():
        to[cause] += seconds


_CAUSES = frozenset(each.value for each in Bound)


def _enough(limits: Limits, cause: str) -> str:
    """Twice the limit: how much more the endpoint bears is only known once it was asked for."""
    limit = getattr(limits, cause, None)
    return "" if limit is None else plain(2 * Decimal(limit))


def told(bound: BoundBy, job: str) -> str:
    """`bound by the job's limit of tokens per minute (93 % of the last minute); raise it: …`."""
    text = _("bound by {what}").format(what=seen(bound))
    helps = " ".join(filter(None, (_(bound.cure), bound.command(job))))
    return f"{text}; {helps}" if helps else text


def seen(bound: BoundBy) -> str:
    """`the job's limit of tokens per minute (93 % of the last minute)`."""
    share = number(round(100 * bound.share))
    what = _(bound.meaning)
    return _("{what} ({share} % of the last minute)").format(what=what, share=share)
