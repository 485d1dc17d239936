"""How much of the pace a job gets against others: `high`, `normal`, `low`, or a number.

Shares are weights: a job with ten times the share of another is called ten times as often while
both wait, and neither waits for ever. So a small job that is urgent is done within moments, and a
large one beside it goes on.
"""

from __future__ import annotations

from jobs.errors import InvalidValue
from jobs.message import N_

NAMED = {"high": 100.0, "normal": 10.0, "low": 1.0}
NORMAL = NAMED["normal"]
MOST = 1000.0

_FIRST, _USUAL, _LAST = 0, 3, 6
"""Places of a Celery queue on Redis, of which 0 is served first."""


def parse_share(text: str) -> float:
    """The share that a word or a number stands for; `ValueError` for anything else."""
    named = NAMED.get(text.strip().lower())
    if named is not None:
        return named
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= MOST:
        raise InvalidValue(
            N_(
                "{text!r} is not high, normal, low or a number up to {most:.0f}",
                text=text,
                most=MOST,
            )
        )
    return share


def queue_place(share: float) -> int:
    """Which messages are taken first where more chunks wait than workers can open."""
    return _FIRST if share > NORMAL else _USUAL if share == NORMAL else _LAST
