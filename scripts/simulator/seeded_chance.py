"""Chance that can be repeated: it depends on the seed, the request body and the attempt alone."""

import hashlib
from random import Random


def draw(seed: int, digest: bytes, attempt: int, what: str) -> float:
    """A number in [0, 1) for the question `what` about this call."""
    return _mixed(seed, digest, attempt, what) / 2**64


def dice(seed: int, digest: bytes, attempt: int, what: str) -> Random:
    """Dice for the question `what` about this call."""
    return Random(_mixed(seed, digest, attempt, what))  # noqa: S311 - repeatable on purpose


def _mixed(seed: int, digest: bytes, attempt: int, what: str) -> int:
    key = b"%d/%d" % (seed, attempt)
    mixed = hashlib.blake2b(digest + what.encode(), digest_size=8, key=key)
    return int.from_bytes(mixed.digest(), "big")
