"""The limits that some gateways tell in their headers; RouterAI does not.

`x-ratelimit-limit-requests` and `-tokens` (or `x-ratelimit-limit`, of requests) have no unit. It
follows from `…-reset-…`, for when the limit is whole again: `1s`, `6m0s`, `350ms`, seconds, or a
Unix time in s or ms, and from how much `…-remaining-…` says is left.

    more than 60 s                                   a limit of an hour or a day: paces no minute
    less than a minute's limit would need to refill  one of a second (10, and whole again in 1s)
    else                                             one of a minute
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from workers.calling.retry_after import answered_at, span

_NUMBER = re.compile(r"[0-9]{1,12}")
_TOLD = frozenset({"x-ratelimit-limit-requests", "x-ratelimit-limit-tokens"})
_A_SECOND, _A_MINUTE = 1.05, 60.0


class RateLimitHeaders:
    """The limits of one endpoint, key and model, per minute; 0 where none is told."""

    def __init__(self) -> None:
        self.rpm = 0
        self.tpm = 0
        self._longest = {"requests": 0.0, "tokens": 0.0}

    def hear(self, headers: Mapping[str, str], now: float | None = None) -> None:
        """Headers of an answer, names in lower case; `now` is Unix time in seconds: some tell a
        moment, which only a clock on the wall understands.
        """
        plain = "x-ratelimit-limit" in headers
        if not plain and _TOLD.isdisjoint(headers):
            return
        now = answered_at(headers, time.time() if now is None else now)
        rpm = self._limit(headers, "requests", "" if plain else "-requests", now)
        tpm = self._limit(headers, "tokens", "-tokens", now)
        self.rpm = self.rpm if rpm is None else rpm
        self.tpm = self.tpm if tpm is None else tpm

    def _limit(self, headers: Mapping[str, str], what: str, tail: str, now: float) -> int | None:
        text = headers.get(f"x-ratelimit-limit{tail}", "")
        if not _NUMBER.fullmatch(text):
            return None
        limit, reset = int(text), span(headers.get(f"x-ratelimit-reset{tail}", ""), now) or 0.0
        self._longest[what] = max(self._longest[what], reset)
        if self._longest[what] > _A_MINUTE:
            return 0
        left = headers.get(f"x-ratelimit-remaining{tail}", "")
        # The answer itself has used one; what is left may be rounded down by one.
        used = max(1, limit - int(left) - 1) if _NUMBER.fullmatch(left) else 1
        too_soon = 0 < reset * 1.05 < min(used / limit, 1.0) * _A_MINUTE if limit else False
        return limit * 60 if too_soon and self._longest[what] <= _A_SECOND else limit
