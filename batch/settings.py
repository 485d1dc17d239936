"""What the environment says, for the commands at the user's side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

DEFAULT_BASE_URL = "https://routerai.ru/api/v1"
DEFAULT_HOME = "~/.nightshift"
_KEYS = ("NIGHTSHIFT_API_KEY_FILE", "ROUTERAI_API_KEY", "OPENAI_API_KEY")


@dataclass(frozen=True)
class Settings:
    """Where the home is, which Redis, and whether there is a key. The key itself stays where it is:
    only workers read it.
    """

    home: Path
    redis_url: str | None
    key_source: str | None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads them; an unset Redis means the embedded one."""
    source = next((name for name in _KEYS if environ.get(name, "").strip()), None)
    return Settings(
        home=Path(environ.get("NIGHTSHIFT_HOME") or DEFAULT_HOME).expanduser(),
        redis_url=environ.get("NIGHTSHIFT_REDIS_URL") or None,
        key_source=source,
    )


def load_dotenv_file(folder: Path) -> None:
    """Puts what `.env` of a folder says into the environment, where nothing says so yet."""
    for name, value in dotenv_values(folder / ".env").items():
        if value is not None:
            os.environ.setdefault(name, value)
