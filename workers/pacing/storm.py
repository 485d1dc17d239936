"""Refusals that are not of the one request: a model that is gone, a parameter that all have.

Each alone is that request's end. Alike in a row, with no answer between, they are a fault of the
job: it pauses, with the endpoint's words, instead of being refused to its last line. Some gateways
lock a key after twenty refusals in a minute, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.outcome import Answered, Outcome, Refused, Stop
from jobs.states import PauseReason

NO_MODEL = "endpoint.model_not_found"
MISSING_MODEL = 3
"""So many answers in a row that there is no such model are believed for all of its requests."""


@dataclass
class _Streak:
    code: str = ""
    count: int = 0


class Storms:
    """Counts, for each job and model, the refusals of one code since the last answer."""

    def __init__(self) -> None:
        self._streaks: dict[tuple[str, str], _Streak] = {}

    def judge(
        self, job: str, model: str, outcome: Outcome, *, most: int, in_flight: int
    ) -> Outcome:
        """The outcome, or a `Stop` if its like came too often.

        `most` in a row are too many, 0: none are. Refusals come sooner than answers, so they must
        outnumber the calls `in_flight`, whose ends are not known yet.
        """
        if isinstance(outcome, Answered):
            self._streaks.pop((job, model), None)
        if not isinstance(outcome, Refused):
            return outcome
        streak = self._streaks.setdefault((job, model), _Streak())
        if streak.code != outcome.code:
            streak.code, streak.count = outcome.code, 0
        streak.count += 1
        if outcome.code == NO_MODEL:
            enough = streak.count >= MISSING_MODEL
            text = outcome.message
        else:
            enough = 0 < most <= streak.count and streak.count > in_flight
            text = (
                f"{streak.count} requests in a row were refused alike: {outcome.message}"
                " (--retry-failed sends these again, --max-refusals 0 never pauses for it)"
            )
        if not enough:
            return outcome
        return Stop(PauseReason.MISCONFIGURED, outcome.code, text, outcome.charge)

    def forget(self, job: str) -> None:
        """Nothing of the job is here any more."""
        for key in [key for key in self._streaks if key[0] == job]:
            del self._streaks[key]
