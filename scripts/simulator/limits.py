"""The limits that the server enforces, per key and model.

The real ones are not published, so a client has to find them; these can be changed while the
server runs (`POST /_sim/limits`), which is how an allowance that falls in the night is played.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed; None stands for no limit.

    `rpm` calls and `tpm` tokens (prompt + completion) in any `window` seconds, `max_in_flight`
    calls at once, and `in_flight_budget` roubles for what the calls in flight may still cost.
    `retry_after`: say in the refusal how long to wait. `headers`: publish X-RateLimit-* headers,
    as some gateways do and RouterAI does not.
    """

    rpm: int | None = None
    tpm: int | None = None
    max_in_flight: int | None = None
    in_flight_budget: Decimal | None = None
    window: float = 60.0
    retry_after: bool = True
    headers: bool = False


class ExceededError(Exception):
    """A call was not admitted. `limit` names which, `wait` is seconds until it may fit."""

    def __init__(self, limit: str, wait: float) -> None:
        super().__init__(limit)
        self.limit = limit
        self.wait = wait


@dataclass(slots=True)
class Lane:
    """What one key has under way and has used for one model."""

    calls: deque[float] = field(default_factory=deque)
    tokens: deque[tuple[float, int]] = field(default_factory=deque)
    tokens_used: int = 0
    in_flight: int = 0
    reserved: Decimal = Decimal(0)

    def forget_before(self, moment: float) -> None:
        """Drop what was used up to `moment`."""
        while self.calls and self.calls[0] <= moment:
            self.calls.popleft()
        while self.tokens and self.tokens[0][0] <= moment:
            self.tokens_used -= self.tokens.popleft()[1]

    def use(self, now: float, tokens: int) -> None:
        """Count tokens as used now."""
        self.tokens.append((now, tokens))
        self.tokens_used += tokens


class Gate:
    """Admits calls within the limits, and counts those in flight over all lanes."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.in_flight = 0
        self.max_in_flight = 0
        self._clock = clock
        self._lanes: dict[tuple[str, str], Lane] = {}

    def enter(self, lane_key: tuple[str, str], prompt_tokens: int, bound: Decimal) -> None:
        """Take a place for a call of `prompt_tokens` that costs at most `bound` roubles.

        Raises `ExceededError` when it does not fit.
        """
        now = self._clock()
        lane = self._lane(lane_key, now)
        self._check(lane, now, prompt_tokens, bound)
        lane.calls.append(now)
        lane.use(now, prompt_tokens)
        lane.reserved += bound
        lane.in_flight += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self, lane_key: tuple[str, str], completion_tokens: int, bound: Decimal) -> None:
        """Give the place back, and count what the answer used."""
        now = self._clock()
        lane = self._lane(lane_key, now)
        lane.use(now, completion_tokens)
        lane.reserved -= bound
        lane.in_flight -= 1
        self.in_flight -= 1

    def headers(self, lane_key: tuple[str, str]) -> dict[str, str]:
        """X-RateLimit-* headers of what is left, if they are published."""
        limits, now = self.limits, self._clock()
        if not limits.headers:
            return {}
        lane = self._lane(lane_key, now)
        found: dict[str, str] = {}
        if limits.rpm is not None:
            first = lane.calls[0] if lane.calls else now
            found |= self._told("Requests", limits.rpm, len(lane.calls), first - now)
        if limits.tpm is not None:
            first = lane.tokens[0][0] if lane.tokens else now
            found |= self._told("Tokens", limits.tpm, lane.tokens_used, first - now)
        return found

    def _lane(self, lane_key: tuple[str, str], now: float) -> Lane:
        lane = self._lanes.setdefault(lane_key, Lane())
        lane.forget_before(now - self.limits.window)
        return lane

    def _check(self, lane: Lane, now: float, prompt_tokens: int, bound: Decimal) -> None:
        limits = self.limits
        if limits.max_in_flight is not None and lane.in_flight >= limits.max_in_flight:
            raise ExceededError("in_flight", 1.0)
        if limits.rpm is not None and len(lane.calls) >= limits.rpm:
            raise ExceededError("rpm", self._until_free(lane.calls, now))
        if limits.tpm is not None and lane.tokens_used + prompt_tokens > limits.tpm:
            raise ExceededError("tpm", self._until_free([at for at, _ in lane.tokens], now))
        if limits.in_flight_budget is not None and lane.reserved + bound > limits.in_flight_budget:
            raise ExceededError("in_flight_budget", 1.0)

    def _until_free(self, moments: "deque[float] | list[float]", now: float) -> float:
        return moments[0] + self.limits.window - now if moments else self.limits.window

    def _told(self, what: str, limit: int, used: int, first: float) -> dict[str, str]:
        return {
            f"X-RateLimit-Limit-{what}": str(limit),
            f"X-RateLimit-Remaining-{what}": str(max(0, limit - used)),
            f"X-RateLimit-Reset-{what}": f"{max(0.0, first + self.limits.window):.3f}s",
        }
