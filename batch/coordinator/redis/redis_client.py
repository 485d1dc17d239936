"""A client of Redis at the user's side, and whether the server is there and fit for use."""

from __future__ import annotations

import errno
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry

from jobs.errors import NightshiftError, ServiceUnavailable, UsageError
from jobs.message import N_, Message
from jobs.redis_url import parse_redis_url

TIMEOUT_S = 4.0
LOOK_S = 2.0
"""Who only looks waits no longer: within five seconds it tells that Redis does not answer."""

_LONGEST_QUOTED = 200


def connect(
    url: str,
    connected: Callable[[AbstractConnection], object] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Redis:
    """A client whose commands give up in time; `connected` has to begin each connection."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        redis_connect_func=connected,
    )


def answers(url: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether a server is there that lets us in."""
    try:
        with as_ours(), closing(connect(url, timeout_s=timeout_s)) as redis:
            redis.ping()
    except NightshiftError:
        return False
    return True


def check(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """Whether Redis is there and fit for use; returns its version.

    Raises `ServiceUnavailable` if it does not answer, or cannot be written to now; `UsageError` for
    what only the user can mend: a password, a right, a certificate, a cluster, an eviction policy.
    """
    with as_ours(parse_redis_url(url).place), closing(connect(url, timeout_s=timeout_s)) as redis:
        redis.ping()
        info = redis.info()
        _check_kind(info)
        redis.set(f"ns:check:{secrets.token_hex(4)}", b"", px=1000)
        redis.eval("return 1", 0)
    return str(info.get("valkey_version") or info.get("redis_version", "?"))


def _check_kind(info: dict[str, Any]) -> None:
    if info.get("cluster_enabled"):
        raise UsageError(
            N_("this Redis is a cluster; related keys would be spread over several servers"),
            hint=N_("use a single server; it may have replicas"),
        )
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        raise ServiceUnavailable(
            N_("this Redis is a read-only replica"),
            hint=N_("use its primary: {primary}", primary=primary),
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UsageError(
            N_(
                "this Redis evicts keys when its memory is full (maxmemory-policy {policy})",
                policy=policy,
            ),
            hint=N_("set maxmemory-policy noeviction"),
        )


def end_if_alone(url: str) -> None:
    """Ends a server that nobody else uses, its memory kept in the append-only file."""
    with as_ours(), closing(connect(url)) as redis:
        mine = str(redis.client_id())
        if all(client["id"] == mine for client in redis.client_list()):
            redis.shutdown(nosave=True)


@contextmanager
def as_ours(place: str = "") -> Iterator[None]:
    """Whatever the client raises becomes one of ours, which names what it is."""
    try:
        yield
    except (RedisError, OSError) as error:
        met = _named(error)
        if place:
            met.message = Message("{why}: {place}", why=met.message, place=place)
        raise met from error


@contextmanager
def while_running() -> Iterator[None]:
    """As `as_ours`, but whatever is met may pass: what is at work waits for it."""
    try:
        with as_ours():
            yield
    except UsageError as error:
        raise ServiceUnavailable(error.message, hint=error.hint) from error


def _named(error: Exception) -> NightshiftError:
    """What was met, in a sentence, and the way out."""
    return (
        _of_tls(error)
        or _of_rights(error)
        or _of_state(error)
        or _of_network(error)
        or ServiceUnavailable(
            N_("unexpected reply from Redis ({reply})", reply=_quoted(error)),
            hint=N_("check NIGHTSHIFT_REDIS_URL"),
        )
    )


def _of_tls(error: Exception) -> NightshiftError | None:
    fault = _cause(error, ssl.SSLError)
    if isinstance(fault, ssl.SSLCertVerificationError):
        return UsageError(
            N_("the TLS certificate of Redis is not trusted ({why})", why=fault.verify_message),
            hint=N_("set its CA: rediss://…?ssl_ca_certs=/path/to/ca.pem"),
        )
    if fault is not None:
        return UsageError(
            N_("the TLS handshake with Redis failed"),
            hint=N_("use redis:// if it has no TLS; a client certificate goes into ssl_certfile"),
        )
    if isinstance(_cause(error, FileNotFoundError), FileNotFoundError):
        return UsageError(
            N_("a certificate file for Redis does not exist"), hint=N_("check NIGHTSHIFT_REDIS_URL")
        )
    return None


def _of_rights(error: Exception) -> NightshiftError | None:
    text = words_of(error)
    if "without any password configured" in text:
        return UsageError(
            N_("NIGHTSHIFT_REDIS_URL has a password, but Redis has none set"),
            hint=N_("set it in Redis (requirepass)"),
        )
    if isinstance(error, NoPermissionError) or text.startswith("NOPERM"):
        return UsageError(
            N_("Redis denies a required permission ({reply})", reply=_quoted(error)),
            hint=N_("grant its user the permissions listed in docs/deployment.md"),
        )
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return UsageError(N_("Redis rejected the password"), hint=N_("check NIGHTSHIFT_REDIS_URL"))
    if "DB index is out of range" in text or "invalid DB index" in text:
        return UsageError(
            N_("Redis has no database with that number"), hint=N_("check NIGHTSHIFT_REDIS_URL")
        )
    if "unknown command" in text.lower():
        return UsageError(
            N_("Redis lacks a required command ({reply})", reply=_quoted(error)),
            hint=N_("allow it, including scripts (EVAL, EVALSHA); requires Redis 6.2+ or Valkey"),
        )
    if "protected mode" in text:
        return UsageError(
            N_("Redis refuses remote connections: it has no password (protected mode)"),
            hint=N_("set a password there, and in NIGHTSHIFT_REDIS_URL"),
        )
    return None


def _of_state(error: Exception) -> NightshiftError | None:
    text = words_of(error)
    if isinstance(error, ReadOnlyError):
        return ServiceUnavailable(
            N_("this Redis is a read-only replica"), hint=N_("check NIGHTSHIFT_REDIS_URL")
        )
    if isinstance(error, OutOfMemoryError):
        return ServiceUnavailable(
            N_("Redis is out of memory"), hint=N_("give it more memory (maxmemory)")
        )
    if isinstance(error, BusyLoadingError):
        return ServiceUnavailable(
            N_("Redis is still loading its dataset from disk"), hint=N_("wait for it")
        )
    if text.startswith(("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN")):
        return UsageError(N_("this Redis is a cluster"), hint=N_("use a single server"))
    if text.startswith("MISCONF"):
        return ServiceUnavailable(N_("Redis cannot write to disk"), hint=N_("free up space there"))
    if "max number of clients" in text:
        return ServiceUnavailable(
            N_("Redis has reached its limit of clients"), hint=N_("raise its maxclients")
        )
    if isinstance(error, InvalidResponse) or text.startswith("Protocol error"):
        return UsageError(
            N_("the server at that address is not Redis"), hint=N_("check NIGHTSHIFT_REDIS_URL")
        )
    return None


def _of_network(error: Exception) -> NightshiftError | None:
    if _cause(error, socket.gaierror) is not None:
        return ServiceUnavailable(
            N_("the host of Redis cannot be resolved"), hint=N_("check NIGHTSHIFT_REDIS_URL")
        )
    fault = _cause(error, OSError)
    if isinstance(fault, OSError) and fault.errno in {errno.ECONNREFUSED, errno.ENOENT}:
        return ServiceUnavailable(
            N_("Redis does not answer: nothing listens there"),
            hint=N_(
                "start it, or fix NIGHTSHIFT_REDIS_URL; if it is unset, an embedded server is used"
            ),
        )
    if isinstance(fault, TimeoutError) and "handshake" in str(fault):
        return ServiceUnavailable(
            N_("Redis does not answer to TLS"),
            hint=N_("use redis:// if it has no TLS; otherwise check its log"),
        )
    if isinstance(fault, TimeoutError):
        return ServiceUnavailable(
            N_("Redis does not answer in time"),
            hint=N_("check its log and load"),
        )
    if "closed by server" in str(error) or isinstance(fault, ConnectionResetError):
        return ServiceUnavailable(
            N_("Redis closed the connection"),
            hint=N_("if it requires TLS, use rediss://; otherwise check its log"),
        )
    return None


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The error of that kind that it came from."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen


def words_of(error: Exception) -> str:
    """The server's own; in a pipeline redis-py puts the command before them, with its values."""
    return str(error).rpartition("caused error: ")[2]


def _quoted(error: Exception) -> str:
    """The server's words; they name a command or a user, and hold no value of ours."""
    words = words_of(error).encode("ascii", "backslashreplace").decode()
    return (words if words.isprintable() else ascii(words))[:_LONGEST_QUOTED] or type(
        error
    ).__name__
