"""Tokens of a call, as the endpoint counted them."""

from __future__ import annotations

import msgspec

from jobs.constraints import Tokens


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Counts of tokens; `cached`, `written` are parts of `prompt`, `reasoning` of `completion`.

    The endpoint's counts may be odd (a prompt of 0 with a total of 18 was seen), so no sums are
    asserted here.
    """

    prompt: Tokens = 0
    completion: Tokens = 0
    cached: Tokens = 0
    written: Tokens = 0
    reasoning: Tokens = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.written + other.written,
            self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        """All billed tokens."""
        return self.prompt + self.completion
