"""What the environment says, for the commands at the user's side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jobs.errors import UsageError
from jobs.secret import POST_SECRET_FILE, REDIS_URL, key_source, read_secret, secret

DEFAULT_BASE_URL = "https://routerai.ru/api/v1"
DEFAULT_HOME = "~/.nightshift"
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
        redis_url=_redis_url(secret(environ, REDIS_URL)),
        key_source=key_source(environ),
        secret_file=Path(secret_file).expanduser() if secret_file else None,
    )


def _redis_url(text: str) -> str | None:
    if not text:
        return None
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port)
    except ValueError:
        known = False
    if not known:
        # It is not quoted: there may be a password in it.
        raise UsageError(
            "NIGHTSHIFT_REDIS_URL is not the address of a Redis",
            hint="write redis://:password@host:6379/0, rediss://… or unix:///path/to/socket",
        )
    return text


def log_level(environ: Mapping[str, str], default: str) -> str:
    """The level that NIGHTSHIFT_LOG names, as `logging` knows it."""
    level = environ.get("NIGHTSHIFT_LOG", "").strip().upper() or default
    if level not in _LEVELS:
        raise UsageError(f"NIGHTSHIFT_LOG is {level!r}; it may be {', '.join(_LEVELS)}")
    return level


def check_key(settings: Settings) -> None:
    """`UsageError` where the worker would find no key."""
    if settings.key_source is None:
        raise UsageError(
            "no API key is set",
            hint="set ROUTERAI_API_KEY, or NIGHTSHIFT_API_KEY_FILE to a file with it",
        )
    if settings.key_source.endswith("_FILE"):
        read_secret(os.environ[settings.key_source], settings.key_source, os.environ)
