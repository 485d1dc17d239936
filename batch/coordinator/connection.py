"""A client of Redis at the user's side, and whether the server is there and fit for use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from jobs.errors import ServiceUnavailable, UsageError

TIMEOUT_S = 4.0


def connect(url: str) -> Redis:
    """A client whose commands give up within seconds."""
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def check(url: str) -> str:
    """Whether Redis is there and safe to use; returns its version.

    Raises `ServiceUnavailable` if it does not answer, `UsageError` for a wrong password or an
    eviction policy that may drop messages in silence.
    """
    with as_ours(), closing(connect(url)) as redis:
        redis.ping()
        info = redis.info()
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UsageError(
            f"this Redis drops keys when it is full (maxmemory-policy {policy})",
            hint="set maxmemory-policy noeviction",
        )
    return str(info.get("valkey_version") or info.get("redis_version", "?"))


def end_if_alone(url: str) -> None:
    """Ends a server that nobody else uses, its memory kept in the append-only file."""
    with as_ours(), closing(connect(url)) as redis:
        mine = str(redis.client_id())
        if all(client["id"] == mine for client in redis.client_list()):
            redis.shutdown(nosave=True)


@contextmanager
def as_ours() -> Iterator[None]:
    """Whatever the client raises becomes one of ours."""
    try:
        yield
    except AuthenticationError as error:
        raise UsageError("Redis refuses the password", hint="check NIGHTSHIFT_REDIS_URL") from error
    except (RedisError, OSError) as error:
        raise ServiceUnavailable(
            f"Redis does not answer ({type(error).__name__})",
            hint="nightshift doctor tells what is reachable",
        ) from error
