"""What the environment says, for the commands at the user's side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import UsageError
from jobs.message import N_
from jobs.redis_url import RedisUrl, parse_redis_url
from jobs.secret import POST_SECRET_FILE, REDIS_URL, key_source, read_secret, secret

DEFAULT_HOME = "~/.nightshift"
INSECURE_REDIS = "NIGHTSHIFT_INSECURE_REDIS"
WORKER_PATIENCE = "NIGHTSHIFT_WORKER_PATIENCE"
LEAST_PATIENCE_S = 20
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class Settings:
    """Where the home is, which Redis, and whether there is a key. The key itself stays where it is:
    only workers use it. `secret_file` signs what passes Redis; None: the home has its own.
    """

    home: Path
    redis_url: str | None
    key_source: str | None
    secret_file: Path | None = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads them; an unset Redis means the embedded one. `UsageError` for what makes no sense."""
    secret_file = environ.get(POST_SECRET_FILE, "").strip()
    return Settings(
        home=Path(environ.get("NIGHTSHIFT_HOME") or DEFAULT_HOME).expanduser(),
        redis_url=_redis_url(environ),
        key_source=key_source(environ),
        secret_file=Path(secret_file).expanduser() if secret_file else None,
    )


def _redis_url(environ: Mapping[str, str]) -> str | None:
    text = secret(environ, REDIS_URL)
    if not text:
        return None
    url = parse_redis_url(text)
    if not url.is_safe and not _allows_insecure_redis(environ):
        raise _unsafe(url)
    return url.redis_py()


def _unsafe(url: RedisUrl) -> UsageError:
    if not url.is_verified:
        return UsageError(
            N_("NIGHTSHIFT_REDIS_URL turns off verification of the certificate or its name"),
            hint=N_("set its CA: ssl_ca_certs=/path/to/ca.pem; or allow it: --insecure-redis"),
        )
    return UsageError(
        N_("NIGHTSHIFT_REDIS_URL names a Redis on another machine without a password"),
        hint=N_(
            "set one, and use rediss:// unless the network is private; or, if nobody else can"
            " reach it: --insecure-redis"
        ),
    )


def _allows_insecure_redis(environ: Mapping[str, str]) -> bool:
    """Whether the user takes it upon himself that others may read or write there."""
    return environ.get(INSECURE_REDIS, "").strip().lower() not in {"", "0", "false", "no", "off"}


def worker_patience(environ: Mapping[str, str]) -> float:
    """How long a worker may be silent before its requests are given to others, in seconds."""
    text = environ.get(WORKER_PATIENCE, "").strip() or str(LEAST_PATIENCE_S)
    if not (text.isascii() and text.isdecimal() and LEAST_PATIENCE_S <= int(text) < 10**6):
        raise UsageError(
            N_(
                "{variable} is {text!r}; it must be a number of seconds, {least} or more",
                variable=WORKER_PATIENCE,
                text=text,
                least=LEAST_PATIENCE_S,
            )
        )
    return float(text)


def log_level(environ: Mapping[str, str], default: str) -> str:
    """The level that NIGHTSHIFT_LOG names, as `logging` knows it."""
    level = environ.get("NIGHTSHIFT_LOG", "").strip().upper() or default
    if level not in _LEVELS:
        raise UsageError(
            N_(
                "NIGHTSHIFT_LOG is {level!r}; it may be {levels}",
                level=level,
                levels=", ".join(_LEVELS),
            )
        )
    return level


def check_key(settings: Settings) -> None:
    """`UsageError` where the worker would find no key."""
    if settings.key_source is None:
        raise UsageError(
            N_("no API key is set"),
            hint=N_("set ROUTERAI_API_KEY, or NIGHTSHIFT_API_KEY_FILE to a file with it"),
        )
    if settings.key_source.endswith("_FILE"):
        read_secret(os.environ[settings.key_source], settings.key_source, os.environ)
