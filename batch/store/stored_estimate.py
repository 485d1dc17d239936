"""What a job is expected to cost, as it is stored with the job."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from jobs.message import Message

Tokens = tuple[int, int, int]
"""Low, likely, high."""


class Guess(msgspec.Struct, frozen=True):
    """₽ in all: low, likely, high, and the most that it can be; None where no price is known.

    `hours` of work rest on `hours_because`. `basis` is `usual` (no answer was seen yet), `learned`
    (from earlier jobs) or `sample` (from `answers` answers of this job).
    """

    low: Decimal | None = None
    likely: Decimal | None = None
    high: Decimal | None = None
    at_most: Decimal | None = None
    prompt: Tokens = (0, 0, 0)
    output: Tokens = (0, 0, 0)
    hours: float = 0.0
    hours_because: str = ""
    basis: str = "usual"
    answers: int = 0
    hours_data: str = ""

    @property
    def hours_told(self) -> Message:
        """What the hours rest on, for whoever shows it."""
        return Message.read(self.hours_because, self.hours_data)


def packed(guess: Guess) -> str:
    """As JSON, amounts as exact strings."""
    return msgspec.json.encode(guess).decode()


def unpacked(text: str) -> Guess:
    """From JSON; an empty text is no guess."""
    return msgspec.json.decode(text, type=Guess) if text else Guess()
