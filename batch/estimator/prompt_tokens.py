"""Tokens of a prompt from the shape of its request.

tokens ≈ hidden + per message × messages + Σ rate(script) × characters(script)

The seven figures are found by ridge regression: they start at what is usual, with a doubt for
each, and every answer pulls them towards what the endpoint counts. What was seen is kept as sums
(the normal equations), so it adds up over jobs and never grows. Pure Python: seven unknowns.
"""

from __future__ import annotations

import msgspec

from batch.estimator.character_counts import Shape

USUAL = (447.0, 4.0, 0.23, 0.33, 0.5, 0.75, 1.2)
"""Hidden tokens of a call (as others saw them at RouterAI), of a message, of a character each."""

_DOUBT = (300.0, 2.0, 0.08, 0.12, 0.25, 0.3, 0.6)
"""How far from the usual a figure may well lie."""

_SPREAD = 2.5
"""The square of a count's scatter grows with the count: so much for each token of it."""

_SIZE = len(USUAL)


class Fit(msgspec.Struct):
    """What was seen of a model's counting. `seen` counts answers."""

    seen: float = 0.0
    gram: list[float] = msgspec.field(default_factory=lambda: [0.0] * (_SIZE * _SIZE))
    moment: list[float] = msgspec.field(default_factory=lambda: [0.0] * _SIZE)

    def learn(self, shape: Shape, tokens: int) -> None:
        """Takes in one answer: its request's shape, and the prompt's tokens as billed."""
        parts = _parts(shape)
        weight = 1 / (_SPREAD * max(tokens, 1))
        self.seen += 1
        for row, mine in enumerate(parts):
            if mine:
                self.moment[row] += weight * mine * tokens
                for column, other in enumerate(parts):
                    self.gram[row * _SIZE + column] += weight * mine * other

    def add(self, other: Fit, share: float = 1.0) -> None:
        """Takes in what another saw, or a share of it."""
        self.seen += share * other.seen
        self.gram = [mine + share * its for mine, its in zip(self.gram, other.gram, strict=True)]
        self.moment = [
            mine + share * its for mine, its in zip(self.moment, other.moment, strict=True)
        ]

    def figures(self) -> Figures:
        """The seven figures that fit best."""
        trust = [1 / doubt**2 for doubt in _DOUBT]
        rows = [
            [
                *self.gram[place * _SIZE : (place + 1) * _SIZE],
                self.moment[place] + trust[place] * USUAL[place],
            ]
            for place in range(_SIZE)
        ]
        for place in range(_SIZE):
            rows[place][place] += trust[place]
        return Figures(tuple(_solved(rows)))


class Figures(msgspec.Struct, frozen=True):
    """Hidden tokens, tokens per message, tokens per character of each script."""

    rates: tuple[float, ...] = USUAL

    def tokens(self, shape: Shape) -> float:
        """Tokens of the prompt that a request of this shape will be billed for."""
        if shape.counted is not None:
            hidden, message = self.rates[:2]
            return max(hidden, 0.0) + message * shape.messages + shape.counted
        parts = zip(self.rates, _parts(shape), strict=True)
        return max(sum(rate * count for rate, count in parts), 1.0)


def _parts(shape: Shape) -> tuple[float, ...]:
    return (
        1.0,
        float(shape.messages),
        float(shape.latin),
        float(shape.cyrillic),
        float(shape.signs),
        float(shape.cjk),
        float(shape.other),
    )


def _solved(rows: list[list[float]]) -> list[float]:
    """The unknowns of so many equations, each with its right side last. Positive definite."""
    size = len(rows)
    for place in range(size):
        pivot = max(range(place, size), key=lambda row: abs(rows[row][place]))
        rows[place], rows[pivot] = rows[pivot], rows[place]
        for row in range(place + 1, size):
            factor = rows[row][place] / rows[place][place]
            rows[row] = [
                mine - factor * above for mine, above in zip(rows[row], rows[place], strict=True)
            ]
    found = [0.0] * size
    for place in reversed(range(size)):
        known = sum(rows[place][column] * found[column] for column in range(place + 1, size))
        found[place] = (rows[place][size] - known) / rows[place][place]
    return found
