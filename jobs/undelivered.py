"""What workers on a host have of a job whose results are not in the home yet."""

from __future__ import annotations

import msgspec


class Leftovers(msgspec.Struct, frozen=True):
    """By the names of their `outboxes`: ordinals of requests with a call in flight, or one that was
    when the worker died, and of those that were answered.
    """

    outboxes: list[str]
    in_flight: list[int]
    answered: list[int]
