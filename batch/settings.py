"""What the environment says, for the commands at the user's side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from jobs.errors import UsageError

DEFAULT_BASE_URL = "https://routerai.ru/api/v1"
DEFAULT_HOME = "~/.nightshift"
KEY_FILE = "NIGHTSHIFT_API_KEY_FILE"
SECRET_FILE = "NIGHTSHIFT_POST_SECRET_FILE"  # noqa: S105  a name, no secret
KEYS = (KEY_FILE, "ROUTERAI_API_KEY", "OPENAI_API_KEY")
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
    secret = environ.get(SECRET_FILE, "").strip()
    source = next((name for name in KEYS if environ.get(name, "").strip()), None)
    return Settings(
        home=Path(environ.get("NIGHTSHIFT_HOME") or DEFAULT_HOME).expanduser(),
        redis_url=_redis_url(environ.get("NIGHTSHIFT_REDIS_URL", "").strip()),
        key_source=source,
        secret_file=Path(secret).expanduser() if secret else None,
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
    if settings.key_source == KEY_FILE:
        path = Path(os.environ[KEY_FILE]).expanduser()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise UsageError(
                f"the key file {path} cannot be read", hint="correct NIGHTSHIFT_API_KEY_FILE"
            )


def load_dotenv_file(folder: Path) -> None:
    """Puts what `.env` of a folder says into the environment, where nothing says so yet."""
    path = folder / ".env"
    try:
        found = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({type(error).__name__})", hint="mend it, or move it away"
        ) from None
    for name, value in found.items():
        if value is not None:
            os.environ.setdefault(name, value)
