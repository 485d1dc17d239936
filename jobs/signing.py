"""What proves that something that passed Redis is of our making, and what tells API keys apart.

Whoever may write to Redis must not be able to spend, to forge results or to hold a job. So all that
makes anyone act carries a keyed digest (BLAKE2b) over the place where it stands and its bytes. The
secret is in files alone; coordinator, workers and Flower of a home have the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from jobs.errors import BadMessage
from jobs.message import N_

LEAST_SECRET = 32
"""Characters of a secret: as many as `openssl rand -hex 16` prints."""

DIALOGUE = 2
"""What coordinator and workers say to each other about a chunk. Raised where programs of the
release before would not understand it: they have another queue then, and leave such chunks alone.
"""

_TAG = 16
_ROUNDS = 100_000


class Target(NamedTuple):
    """Whose calls a job makes: an endpoint's, and the `fingerprint` of a key and of the headers
    beside it; "": not known.
    """

    base_url: str
    key: str


def fingerprint(api_key: str, headers: Mapping[str, str] = {}) -> str:
    """Tells API keys apart, and what goes with them: `KEY`, or `KEY.HEADERS`, each 12 hexadecimal
    digits from which nothing can be found.

    Slow on purpose (some 50 ms): a key that somebody made up by hand could be guessed otherwise.
    """
    key = _digest("key", api_key) if api_key else ""
    lines = sorted(f"{name.lower()}: {value}" for name, value in headers.items())
    return f"{key}.{_digest('headers', chr(10).join(lines))}" if lines else key


def key_of(fingerprint: str) -> str:
    """The part that tells the API key; "" if that is not known."""
    return fingerprint.partition(".")[0]


def joined(here: str, before: str) -> str:
    """The fingerprint of what is set here, and for what is not set here of what was before."""
    (key, _, headers), (old_key, _, old) = here.partition("."), before.partition(".")
    more = headers or old
    return f"{key or old_key}.{more}" if more else key or old_key


def _digest(what: str, secret: str) -> str:
    salt = f"nightshift: which {what}".encode()
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, _ROUNDS, 6).hex()


class Seal:
    """Signs and verifies by one secret."""

    def __init__(self, secret: bytes) -> None:
        key = hashlib.blake2b(secret, digest_size=32, person=b"nightshift post").digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=_TAG)

    def _tag(self, place: str, data: bytes) -> bytes:
        at = place.encode()
        digest = self._keyed.copy()
        # With the length in front, no other pair of place and data has the same bytes.
        digest.update(len(at).to_bytes(4, "big") + at)
        digest.update(data)
        return digest.digest()

    def sign(self, place: str, data: bytes) -> bytes:
        """The data behind its tag. `place` is where it will stand, such as a Redis key."""
        return self._tag(place, data) + data

    def verify(self, place: str, signed: bytes) -> bytes:
        """The data that was signed for this place; `BadMessage` for anything else."""
        data = signed[_TAG:]
        if hmac.compare_digest(signed[:_TAG], self._tag(place, data)):
            return data
        raise BadMessage(N_("the data in Redis is not signed with this secret"))

    def opened(self, place: str, signed: bytes | None) -> bytes | None:
        """The data that was signed for this place; None where nothing is, or somebody else's."""
        try:
            return None if signed is None else self.verify(place, signed)
        except BadMessage:
            return None

    def queue(self, target: Target) -> str:
        """The Celery queue of a target: a worker takes only chunks that are meant for its key and
        headers, of homes whose secret it has.
        """
        where = f"{target.base_url.rstrip('/')} {target.key}"
        return f"chunks.{self._tag(f'queue {DIALOGUE}', where.encode()).hex()[:16]}"
