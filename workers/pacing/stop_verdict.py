"""What is believed of an answer that would concern more than its request: a verdict over time.

    answered ────────────────────────→ key, address and model are well: all doubts end
    stop (key, address, money, model)
      nothing answered yet ──────────→ believed when it came thrice over 2 s
      others are answered meanwhile ─→ it is this request's: refused after a few tries
      else ──────────────────────────→ doubted: asked again, seldom, as in an outage;
                                       believed when so many requests got it over so long
    429, 503 for a model, and nothing else ──→ the same, with more patience
    refused alike in a row ──────────→ believed by their number

Who is believed stops the job, or the requests of one model where others of the job are answered.
Where only a request or two are left and they had their tries before the last resume, it is theirs:
a resume does not meet the same request again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.chunk import Terms
from jobs.message import N_
from jobs.outcome import Answered, Outcome, Refused, Retry, RetryKind, Stop
from jobs.pause_reasons import PauseReason
from workers.pending import Apart, PendingRequest

NO_MODEL = "endpoint.model_not_found"
BLOCKED = "endpoint.blocked"

AT_FIRST = 3
AT_FIRST_S = 2.0
"""What comes so often over so long before anything was answered is believed."""

MOST_APART = 15
"""So often a request may get what others do not, while they are answered."""

_MOST_APART = {NO_MODEL: 1, BLOCKED: 3}
"""Fewer where that is likely to be so: a firewall reads each text."""

MOST_THROTTLED_APART = 40

TRIES = 2
"""So many calls in earlier chunks are tries of its own, before the last resume."""

_PATIENCE = {
    "endpoint.redirect": 10,
    "endpoint.wrong_address": 10,
    "endpoint.certificate": 10,
    "endpoint.blocked": 10,
    "endpoint.rate_limited": 10,
    "endpoint.in_flight_budget": 10,
    "endpoint.overloaded": 120,
    "endpoint.down": 120,
}
"""Of `stop_after_s`: an address is rebuilt within minutes, and what is busy is so for hours."""

_BUSY = frozenset({"endpoint.overloaded", "endpoint.down"})
_OF_A_MODEL = frozenset({NO_MODEL, "endpoint.no_quota", "endpoint.rate_limited", *_BUSY})


@dataclass
class _Streak:
    """What came again and again since `since`, with nothing answered between."""

    since: float
    count: int = 0
    promised: float = 0.0
    rows: set[int] = field(default_factory=set)


@dataclass
class _Alike:
    code: str = ""
    count: int = 0


class Judge:
    """Remembers, for each job and model here, what was answered and what came instead."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answered: dict[tuple[str, str], float] = {}
        self._streaks: dict[tuple[str, str, str], _Streak] = {}
        self._alike: dict[tuple[str, str], _Alike] = {}

    def has_answered(self, request: PendingRequest) -> bool:
        """Whether anything was answered within the request's job, as far as is known here."""
        return self._knows(request, "")

    def forget(self, job: str) -> None:
        """Nothing of the job is here any more."""
        self._answered = {key: at for key, at in self._answered.items() if key[0] != job}
        self._streaks = {key: one for key, one in self._streaks.items() if key[0] != job}
        self._alike = {key: one for key, one in self._alike.items() if key[0] != job}

    def judge(self, request: PendingRequest, outcome: Outcome, *, in_flight: int) -> Outcome:
        """The outcome, or what is to be made of it; calls `in_flight` are those of the job."""
        match outcome:
            case Answered():
                self._well(request)
                return outcome
            case Refused() if outcome.code == NO_MODEL:
                return self._weigh(request, _stop_for(outcome, PauseReason.MISCONFIGURED))
            case Refused():
                return self._count_alike(request, outcome, in_flight)
            case Retry() if outcome.kind is RetryKind.THROTTLED:
                return self._wait(request, outcome)
            case Stop():
                return self._weigh(request, outcome)
        return outcome

    def _well(self, request: PendingRequest) -> None:
        place = request.job, request.model
        self._answered[place] = self._clock()
        self._alike.pop(place, None)
        if self._streaks:
            self._streaks = {key: one for key, one in self._streaks.items() if key[:2] != place}

    # ---- what would stop the job --------------------------------------------------------------

    def _weigh(self, request: PendingRequest, stop: Stop) -> Outcome:
        terms, streak = request.chunk.payload.terms, self._note(request, stop.reason, stop.code)
        request.doubted = self._apart(request, request.doubted, model_only=stop.code == NO_MODEL)
        if stop.is_sure or not self._knows(request, stop.code):
            often = min(AT_FIRST, terms.stop_after_rows)
            lasts = self._clock() - streak.since >= min(AT_FIRST_S, terms.stop_after_s)
            if streak.count >= often and lasts:
                return self._believed(request, streak, stop)
            return _doubted(stop, at_first=True)
        most = _MOST_APART.get(stop.code, MOST_APART)
        alone = stop.code == BLOCKED and len(streak.rows) == 1 and streak.count > most
        if alone or request.doubted.times >= most:
            code = "endpoint.forbidden" if stop.code == BLOCKED else stop.code
            return Refused(code, stop.message, stop.charge)
        if not self._persists(streak, terms, stop.code):
            return _doubted(stop)
        return self._believed(request, streak, stop)

    def _knows(self, request: PendingRequest, code: str) -> bool:
        """Whether key and address, or the model if it is about that, answered within this job."""
        job = request.job
        if code == NO_MODEL:
            return (job, request.model) in self._answered
        return request.chunk.payload.terms.answered or any(key[0] == job for key in self._answered)

    def _note(self, request: PendingRequest, reason: str, code: str, after: float = 0.0) -> _Streak:
        key = (request.job, request.model, reason)
        now, terms = self._clock(), request.chunk.payload.terms
        streak = self._streaks.setdefault(key, _Streak(now))
        streak.count += 1
        streak.rows.add(request.work.ordinal)
        if now - streak.since <= _patience(terms, code):
            streak.promised = max(streak.promised, now + after)
        return streak

    def _apart(self, request: PendingRequest, before: Apart, *, model_only: bool) -> Apart:
        """Counts it if others were answered since this request last got it."""
        job = request.job
        last = max(
            (
                at
                for key, at in self._answered.items()
                if key == (job, request.model) or (key[0] == job and not model_only)
            ),
            default=float("-inf"),
        )
        return Apart(before.times + (last > before.at > 0), self._clock())

    def _persists(self, streak: _Streak, terms: Terms, code: str) -> bool:
        now = self._clock()
        lasts = now - streak.since >= _patience(terms, code) and now >= streak.promised
        return lasts and streak.count >= terms.stop_after_rows

    def _believed(self, request: PendingRequest, streak: _Streak, stop: Stop) -> Outcome:
        """A stop, or the end of one of the few requests that are left."""
        if self._is_its_own(request, streak):
            return Refused(stop.code, stop.message, stop.charge)
        return _of_model(stop, self._scope(request, streak, stop.code))

    def _is_its_own(self, request: PendingRequest, streak: _Streak) -> bool:
        """Whether others were answered, and only few get this, which had their tries before."""
        terms = request.chunk.payload.terms
        few = len(streak.rows) < terms.stop_after_rows or len(streak.rows) >= terms.left
        had_its_tries = request.doubted.times > 0 or request.work.attempts >= TRIES
        return few and had_its_tries and self.has_answered(request)

    def _scope(self, request: PendingRequest, streak: _Streak, code: str) -> str:
        """The model, where it is about that, or others of the job are answered meanwhile."""
        job = request.job
        others = (at for key, at in self._answered.items() if key[0] == job)
        alone = code in _OF_A_MODEL or any(at > streak.since for at in others)
        return request.model if alone else ""

    # ---- what asks to wait --------------------------------------------------------------------

    def _wait(self, request: PendingRequest, retry: Retry) -> Outcome:
        terms = request.chunk.payload.terms
        reason = _reason_of(retry.code)
        streak = self._note(request, reason, retry.code, retry.after or 0.0)
        request.throttled = self._apart(request, request.throttled, model_only=True)
        if request.throttled.times >= MOST_THROTTLED_APART:
            return Refused(retry.code, retry.message, retry.charge)
        if not self._persists(streak, terms, retry.code):
            return retry
        return self._believed(
            request, streak, Stop(reason, retry.code, retry.message, retry.charge)
        )

    # ---- refusals of requests -----------------------------------------------------------------

    def _count_alike(self, request: PendingRequest, refused: Refused, in_flight: int) -> Outcome:
        """Refusals come sooner than answers, so they must also outnumber the calls in flight."""
        job, most = request.job, request.chunk.payload.terms.max_refusals
        alike = self._alike.setdefault((job, request.model), _Alike())
        if alike.code != refused.code:
            alike.code, alike.count = refused.code, 0
        alike.count += 1
        if not 0 < most <= alike.count or alike.count <= in_flight:
            return refused
        text = N_(
            "{count} consecutive requests failed with the same error: {words} (--retry"
            " failed retries them, --max-refusals 0 turns this pause off)",
            count=alike.count,
            words=refused.message,
        )
        return Stop(PauseReason.MISCONFIGURED, refused.code, text, refused.charge)


def _patience(terms: Terms, code: str) -> float:
    return terms.stop_after_s * _PATIENCE.get(code, 1)


def _reason_of(code: str) -> PauseReason:
    if code in _BUSY:
        return PauseReason.ENDPOINT_DOWN
    if code in {"endpoint.insufficient_balance", "endpoint.key_limit", "endpoint.in_flight_budget"}:
        return PauseReason.INSUFFICIENT_BALANCE
    return PauseReason.RATE_LIMITED


def _stop_for(refused: Refused, reason: PauseReason) -> Stop:
    return Stop(reason, refused.code, refused.message, refused.charge)


def _of_model(stop: Stop, model: str) -> Stop:
    return Stop(stop.reason, stop.code, stop.message, stop.charge, model)


def _doubted(stop: Stop, *, at_first: bool = False) -> Retry:
    return Retry(RetryKind.DOUBTED, stop.code, stop.message, stop.charge, at_first=at_first)
