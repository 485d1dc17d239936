"""What a call is expected to need of the tokens per minute and the roubles per hour.

What a request can need at most is known, and is a multiple of what it needs in truth. A pace by the
bound would leave most of a limit unused, so the share that answers really used is learned. When a
call ends, the difference to what it took is settled. Only what was taken before anything was
learned is settled by what is known now: tokens given back in full would be a burst in one minute of
what was saved in another. (Of an hour's roubles they are what they are.)
"""

from __future__ import annotations

from typing import NamedTuple

ENOUGH = 16
"""After so many answers their mean counts for something."""

_MEMORY = 512.0
"""Answers that the mean is taken over, about."""


class UsageEstimate(NamedTuple):
    """What a call took: `weight` is its bound in tokens, `guessed` says that little was known."""

    weight: int
    tokens: float
    rub: float
    guessed: bool = False


NO_USAGE = UsageEstimate(0, 0.0, 0.0)


class UsageEstimator:
    """Tokens and roubles that one token of a bound stands for, by the last few hundred answers."""

    def __init__(self) -> None:
        self._answers = 0
        self._tokens = _Mean()
        self._rub = _Mean()

    def estimate(self, weight: int, most_rub: float) -> UsageEstimate:
        """What a call with these bounds is expected to need; 0 ₽ where there is no bound."""
        rub = most_rub if self._rub.value is None else weight * self._rub.value
        tokens = weight if self._tokens.value is None else weight * self._tokens.value
        return UsageEstimate(weight, tokens, rub, self._answers < ENOUGH)

    def learn(self, weight: int, tokens: int | None, rub: float | None) -> None:
        """An answer of a call with this bound used so much, where it is known."""
        self._answers += 1
        if tokens is not None:
            self._tokens.add(weight, tokens)
        if rub is not None:
            self._rub.add(weight, rub)

    def settle(
        self, estimate: UsageEstimate, tokens: int | None, rub: float | None
    ) -> tuple[float, float]:
        """What is still to be paid, in tokens and roubles; below zero what comes back."""
        taken = estimate.tokens
        if estimate.guessed:
            taken = min(taken, self.estimate(estimate.weight, 0.0).tokens)
        return (
            0.0 if tokens is None else tokens - taken,
            0.0 if rub is None else rub - estimate.rub,
        )


class _Mean:
    """Of what was used per token of the bounds, fading."""

    def __init__(self) -> None:
        self._used = self._of = 0.0

    @property
    def value(self) -> float | None:
        return self._used / self._of if self._of else None

    def add(self, weight: int, used: float) -> None:
        fade = 1.0 - 1.0 / _MEMORY
        self._used = self._used * fade + used
        self._of = self._of * fade + max(weight, 1)
