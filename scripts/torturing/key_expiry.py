"""Whether every key that we leave in Redis has an end of its life."""

from __future__ import annotations

from contextlib import closing, suppress

from redis import Redis
from redis.exceptions import RedisError

_FOR_EVER = -1
"""What Redis tells of a key without an end."""


def endless_keys(port: int) -> list[str]:
    """Our keys that would stay for ever; none where the server does not answer.

    Celery's own are its queue, which goes when it is empty, and a name for each queue.
    """
    with closing(Redis(port=port, socket_timeout=2)) as redis, suppress(RedisError, OSError):
        keys = [*redis.scan_iter("ns:*", count=1000)]
        return sorted(key.decode() for key in keys if redis.ttl(key) == _FOR_EVER)
    return []
