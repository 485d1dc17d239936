"""What last troubled a job: refusals, outages, workers that died, a disk or a Redis that was away.

Told in codes and figures alone: what an endpoint says may quote a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from batch.language import _, ngettext, number
from batch.store.incidents import Trouble
from jobs.message import N_

OUTAGE = "endpoint.outage"
WORKER_SILENT = "worker.silent"
WORKER_DIED = "worker.died"
DISK = "home.unusable"
REDIS = "redis.away"
FAULT = "nightshift.fault"

OTHER = "other"
"""In place of a code that is one of too many."""

MEANINGS = {
    "endpoint.blocked": N_("blocked by a firewall"),
    "endpoint.lost_body": N_("the endpoint reported an incomplete request"),
    "endpoint.bad_request": N_("the endpoint rejected the request"),
    "endpoint.context_length": N_("context length exceeded"),
    "endpoint.model_not_found": N_("model not found"),
    "endpoint.not_found": N_("no provider available for the request"),
    "endpoint.moderation": N_("the prompt was flagged by moderation"),
    "endpoint.forbidden": N_("forbidden by the endpoint (HTTP 403)"),
    "endpoint.too_large": N_("the request is too large"),
    "endpoint.unprocessable": N_("the endpoint cannot process the request (HTTP 422)"),
    "endpoint.refused": N_("the endpoint rejected the request"),
    "endpoint.answer_too_large": N_("the response is too large"),
    "endpoint.rate_limited": N_("rate limited (HTTP 429)"),
    "endpoint.overloaded": N_("overloaded (HTTP 503)"),
    "endpoint.no_quota": N_("the rate limit for this model is 0"),
    "endpoint.in_flight_budget": N_("the gateway's limit on unsettled spending was reached"),
    "endpoint.conflict": N_("the endpoint asked to retry"),
    "endpoint.request_timeout": N_("the endpoint timed out"),
    "endpoint.5xx": N_("server error (HTTP 5xx)"),
    "endpoint.down": N_("bad gateway"),
    "endpoint.unreachable": N_("the endpoint is unreachable"),
    "endpoint.stale": N_("an idle connection was closed"),
    "endpoint.local_limit": N_("the worker's host is out of resources"),
    "endpoint.cut": N_("the connection was dropped"),
    "endpoint.timeout": N_("timed out"),
    "endpoint.unexpected": N_("unknown error"),
    "endpoint.bad_body": N_("invalid response"),
    "endpoint.empty": N_("empty answer"),
    "endpoint.failed_midway": N_("the model stopped with an error"),
    "endpoint.key_rejected": N_("the key was rejected"),
    "endpoint.insufficient_balance": N_("the account balance is used up"),
    "endpoint.key_limit": N_("the key's own limit was reached"),
    "endpoint.redirect": N_("the endpoint redirects elsewhere"),
    "endpoint.wrong_address": N_("wrong address: not an API"),
    "endpoint.certificate": N_("invalid TLS certificate"),
    "system.poison_row": N_("the outcome of its calls is unknown"),
    OUTAGE: N_("the endpoint did not respond"),
    WORKER_SILENT: N_("lost contact with a worker; its remaining requests are sent again"),
    WORKER_DIED: N_("a worker was killed; its remaining requests are sent again"),
    DISK: N_("the job's files were not usable"),
    REDIS: N_("Redis did not respond"),
    FAULT: N_("internal error"),
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
