"""Who asks: API keys of the server, and how much each may ask."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from batch.api.api_errors import ApiError
from batch.store.registry import KeyRow, Registry

NOBODY = ""
"""The tenant of a server without keys."""

_PREFIX = "sk-ns-"
_SECRET = "whsec_"  # noqa: S105  what a secret begins with
_MOST_KEPT = 10_000


def new_key() -> str:
    """256 bits of chance."""
    return _PREFIX + secrets.token_urlsafe(32)


def new_webhook_secret() -> str:
    """In the form of Standard Webhooks."""
    return _SECRET + base64.b64encode(secrets.token_bytes(24)).decode()


def digest_of(key: str) -> str:
    """What is kept of a key. It is all chance, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def tenant_of(registry: Registry, authorization: str, *, keyless: bool) -> str:
    """The tenant whose key was sent; `ApiError` for none and for a wrong one.

    `keyless`: as long as no key was ever made, any will do.
    """
    scheme, _, key = authorization.strip().partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise ApiError(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization"
            " header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )
    keys = registry.keys()
    if not keys and keyless and not registry.keys(revoked=True):
        # All the same: a page in a browser cannot send this header without asking first.
        return NOBODY
    found = _fitting(keys, digest_of(key))
    if found is None:
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
    return found.name


def _fitting(keys: list[KeyRow], digest: str) -> KeyRow | None:
    """All are compared, each in constant time."""
    found = None
    for row in keys:
        if hmac.compare_digest(row.digest, digest):
            found = row
    return found


@dataclass
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """Requests per minute of whoever, with as many at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, who: str) -> None:
        """`ApiError` 429 with the time to wait if they ask too often."""
        now = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = _Bucket(self._most, now)
            if len(self._buckets) > _MOST_KEPT:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._most / 60)
        bucket.at = now
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) * 60 / self._most
            raise ApiError(
                429,
                "Rate limit reached for requests.",
                code="rate_limit_exceeded",
                kind="rate_limit_error",
                headers={"retry-after": str(math.ceil(wait))},
            )
        bucket.tokens -= 1
