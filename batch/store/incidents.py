"""What troubled a job, as it is stored with the job. No words of an endpoint: they may quote."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Trouble(msgspec.Struct, frozen=True):
    """What it was (a code of `batch.watching.latest_incidents`), when last (Unix s), how often."""

    code: str
    at: float
    times: int = 1


_decoder = msgspec.json.Decoder(tuple[Trouble, ...])


def packed(troubles: Sequence[Trouble]) -> str:
    """As JSON."""
    return msgspec.json.encode(troubles).decode()


def unpacked(text: str) -> tuple[Trouble, ...]:
    """From JSON; an empty text is none."""
    return _decoder.decode(text) if text else ()
