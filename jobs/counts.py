"""Numbers as they may arrive from outside. The ranges are checked where a message is decoded."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""How many, or which: small enough for SQLite, and for sums over any job."""

Place = Annotated[int, Meta(ge=-1, le=2**53)]
"""Which of a list; -1 for none."""

Seconds = Annotated[float, Meta(ge=0, le=1e12)]
"""A length of time or a Unix time; neither NaN nor infinite."""
