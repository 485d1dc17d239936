"""What last troubled a job: refusals, outages, workers that died, a disk or a Redis that was away.

Told in codes and figures alone: what an endpoint says may quote a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from batch.language import _, ngettext, number
from batch.store.trouble import Trouble

OUTAGE = "endpoint.outage"
WORKER_SILENT = "worker.silent"
WORKER_DIED = "worker.died"
DISK = "home.unusable"
REDIS = "redis.away"
FAULT = "nightshift.fault"

OTHER = "other"
"""In place of a code that is one of too many."""

MEANINGS = {
    "endpoint.blocked": "blocked by a firewall",
    "endpoint.lost_body": "the endpoint reported an incomplete request",
    "endpoint.bad_request": "the endpoint rejected the request",
    "endpoint.context_length": "context length exceeded",
    "endpoint.model_not_found": "model not found",
    "endpoint.not_found": "no provider available for the request",
    "endpoint.moderation": "the prompt was flagged by moderation",
    "endpoint.forbidden": "forbidden by the endpoint (HTTP 403)",
    "endpoint.too_large": "the request is too large",
    "endpoint.unprocessable": "the endpoint cannot process the request (HTTP 422)",
    "endpoint.refused": "the endpoint rejected the request",
    "endpoint.answer_too_large": "the response is too large",
    "endpoint.rate_limited": "rate limited (HTTP 429)",
    "endpoint.overloaded": "overloaded (HTTP 503)",
    "endpoint.no_quota": "the rate limit for this model is 0",
    "endpoint.in_flight_budget": "the gateway's limit on unsettled spending was reached",
    "endpoint.conflict": "the endpoint asked to retry",
    "endpoint.request_timeout": "the endpoint timed out",
    "endpoint.5xx": "server error (HTTP 5xx)",
    "endpoint.down": "bad gateway",
    "endpoint.unreachable": "the endpoint is unreachable",
    "endpoint.stale": "an idle connection was closed",
    "endpoint.local_limit": "the worker's host is out of resources",
    "endpoint.cut": "the connection was dropped",
    "endpoint.timeout": "timed out",
    "endpoint.unexpected": "unknown error",
    "endpoint.bad_body": "invalid response",
    "endpoint.empty": "empty answer",
    "endpoint.failed_midway": "the model stopped with an error",
    "endpoint.key_rejected": "the key was rejected",
    "endpoint.insufficient_balance": "the account balance is used up",
    "endpoint.key_limit": "the key's own limit was reached",
    "endpoint.redirect": "the endpoint redirects elsewhere",
    "endpoint.wrong_address": "wrong address: not an API",
    "endpoint.certificate": "invalid TLS certificate",
    "system.poison_row": "the outcome of its calls is unknown",
    OUTAGE: "the endpoint did not respond",
    WORKER_SILENT: "lost contact with a worker; its remaining requests are sent again",
    WORKER_DIED: "a worker was killed; its remaining requests are sent again",
    DISK: "the job's files were not usable",
    REDIS: "Redis did not respond",
    FAULT: "internal error",
    OTHER: "others",
}
"""Of codes of `workers.calling.classifier` and of those above."""

_SPELL_S = 10.0
"""What is met again sooner has not ended meanwhile."""

_JUST_NOW_S = 2.0


_MOST = 20
"""Kinds of trouble that are remembered."""


class Troubles:
    """Of one job. `recent` are those met last, each kind once; the last comes first."""

    def __init__(self) -> None:
        self.recent: tuple[Trouble, ...] = ()

    def recall(self, kept: Iterable[Trouble]) -> None:
        """What was met before, by an earlier coordinator."""
        here = {each.code for each in self.recent}
        self._set([*self.recent, *(each for each in kept if each.code not in here)])

    @property
    def last(self) -> Trouble | None:
        """The last one; None if nothing is known to have gone wrong."""
        return self.recent[0] if self.recent else None

    def count(self, code: str, now: float, times: int) -> None:
        """It was met, by now so many times."""
        self._set([Trouble(code, now, times), *self._others(code)])

    def meet(self, code: str, now: float) -> None:
        """It is there; as long as it is met again and again it is one and the same."""
        before = next((each for each in self.recent if each.code == code), None)
        times = 1
        if before is not None:
            times = before.times + (now - before.at > _SPELL_S)
        self.count(code, now, times)

    def _others(self, code: str) -> list[Trouble]:
        return [each for each in self.recent if each.code != code]

    def _set(self, troubles: list[Trouble]) -> None:
        self.recent = tuple(sorted(troubles, key=attrgetter("at"), reverse=True)[:_MOST])


def told(trouble: Trouble, now: float, ago: str) -> str:
    """A short sentence; `ago` is the time since, in words."""
    what = meaning(trouble.code) or trouble.code
    often = ngettext("{count} time", "{count} times", trouble.times)
    parts = [what, often.format(count=number(trouble.times))] if trouble.times > 1 else [what]
    if now - trouble.at < _JUST_NOW_S:
        when = _("just now")
    else:
        when = (_("last {time} ago") if trouble.times > 1 else _("{time} ago")).format(time=ago)
    return ", ".join([*parts, when])


def meaning(code: str) -> str:
    """A sentence for a code; "" for one that has none."""
    return _(MEANINGS.get(code, ""))
