"""The address of a Redis: read once, strictly, and told to redis-py and to Celery alike.

Each of them reads an address in its own way, and passes over what it does not understand: a
database that is no number, an option in the query, a certificate that is to be verified.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from jobs.errors import UsageError
from jobs.message import N_, Message

DEFAULT_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")
_TLS = (
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
)
_YES = frozenset({"true", "t", "yes", "y", "1"})


@dataclass(frozen=True)
class RedisUrl:
    """An address, in its parts. `host` is empty for a socket, `path` for a host."""

    scheme: str
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """Where it is, for people; without the password."""
        return self.path or f"{_bracketed(self.host)}:{self.port}"

    @property
    def is_remote(self) -> bool:
        """Whether what passes between here and there leaves this machine."""
        return not self.path and not _is_loopback(self.host)

    @property
    def is_plain(self) -> bool:
        """Whether it passes unencrypted."""
        return self.scheme == "redis"

    @property
    def is_verified(self) -> bool:
        """Whether a stranger cannot stand in the server's place unnoticed, as far as TLS tells."""
        asked = self.tls.get("ssl_cert_reqs", "required") != "none"
        return self.scheme != "rediss" or (asked and self._checks_names)

    @property
    def _checks_names(self) -> bool:
        return self.tls.get("ssl_check_hostname", "true").lower() in _YES

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in who can reach it."""
        return not self.password and "ssl_certfile" not in self.tls

    @property
    def is_safe(self) -> bool:
        """Whether it may be used unasked: others can neither come in nor stand in its place."""
        return self.is_verified and not (self.is_remote and self.is_open)

    def redis_py(self) -> str:
        """As redis-py takes it."""
        asked = dict(self.tls)
        if self.scheme == "rediss":
            asked = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true", **asked}
        if self.path:
            asked["db"] = str(self.database)
            return f"unix://{self._login()}{quote(self.path)}?{urlencode(asked)}"
        return f"{self._with_host()}?{urlencode(asked)}" if asked else self._with_host()

    def celery(self) -> tuple[str, dict[str, object] | None]:
        """As Celery takes it: `broker_url` and `broker_use_ssl`, which verifies nothing if None."""
        if self.path:
            socket = quote(self.path)
            return f"redis+socket://{self._login()}{socket}?virtual_host={self.database}", None
        if self.is_plain:
            return self._with_host(), None
        asked: dict[str, object] = {"ssl_cert_reqs": "required", **self.tls}
        asked["ssl_check_hostname"] = self._checks_names
        if "ssl_min_version" in asked:
            asked["ssl_min_version"] = int(str(asked["ssl_min_version"]))
        return self._with_host(), asked

    def _with_host(self) -> str:
        where = f"{_bracketed(self.host)}:{self.port}/{self.database}"
        return f"{self.scheme}://{self._login()}{where}"

    def _login(self) -> str:
        if not (self.username or self.password):
            return ""
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"


def parse_redis_url(text: str) -> RedisUrl:
    """The address; `UsageError` names what is wrong with it, and never quotes a password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL is not the address of a Redis")) from None
    if parts.scheme not in _SCHEMES or port == 0:
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL is not the address of a Redis"))
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    username = unquote(parts.username or "") or asked.pop("username", "")
    password = unquote(parts.password or "") or asked.pop("password", "")
    database = _database(asked.pop("db", ""), "" if parts.scheme == "unix" else parts.path)
    _check_options(parts.scheme, asked)
    if parts.scheme == "unix" and parts.path in {"", "/"}:
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL names no socket"))
    on_socket = parts.scheme == "unix"
    return RedisUrl(
        parts.scheme,
        host="" if on_socket else unquote(parts.hostname or "localhost"),
        port=port or DEFAULT_PORT,
        path=unquote(parts.path) if on_socket else "",
        database=database,
        username=username,
        password=password,
        tls=asked,
    )


def _check_options(scheme: str, asked: Mapping[str, str]) -> None:
    known = _TLS if scheme == "rediss" else ()
    if strange := sorted(set(asked) - set(known)):
        name = "".join(each for each in strange[0] if each.isalnum() or each == "_")[:40]
        if scheme == "redis" and name in _TLS:
            raise _flaw(
                N_("NIGHTSHIFT_REDIS_URL has {name}, which applies only to rediss://", name=name)
            )
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL has an unknown option {name}", name=name))
    if asked.get("ssl_cert_reqs", "required") not in {"required", "optional", "none"}:
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL has an ssl_cert_reqs that is none: required"))
    if not asked.get("ssl_min_version", "0").isdecimal():
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL has an ssl_min_version that is no number"))


def _database(asked: str, path: str) -> int:
    text = asked or path.strip("/")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise _flaw(N_("NIGHTSHIFT_REDIS_URL names a database that is no number"))
    return int(text or 0)


def _flaw(message: Message) -> UsageError:
    hint = N_("write redis://:password@host:6379/0, rediss://… or unix:///path/to/socket")
    return UsageError(message, hint=hint)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in {"localhost", "localhost."}
