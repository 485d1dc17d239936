"""Tokens of a call, as the endpoint counted them."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Counts of tokens; `cached`, `written` are parts of `prompt`, `reasoning` of `completion`.

    The endpoint's counts may be odd (a prompt of 0 with a total of 18 was seen), so no sums are
    asserted here.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0

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
