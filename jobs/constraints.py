"""Numbers as they may arrive from outside. The ranges are checked where a message is decoded."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""How many, or which: small enough for SQLite, and for sums over any job."""

Tokens = Annotated[int, Meta(ge=0, le=2**40)]
"""Tokens of a call: more is not told in earnest, and sums over eight million calls still fit."""

Place = Annotated[int, Meta(ge=-1, le=2**53)]
"""Which of a list; -1 for none."""

Seconds = Annotated[float, Meta(ge=0, le=1e12)]
"""A length of time or a Unix time; neither NaN nor infinite."""

Latency = Annotated[float, Meta(ge=0, le=1e6)]
"""How long a call took: eleven days at most. What looks at each of its minutes relies on it."""
