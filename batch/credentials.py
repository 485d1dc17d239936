"""Secrets at the user's side: the post's, and the API key for questions that cost nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from batch.settings import Settings
from jobs.errors import StorageUnavailable, UsageError
from jobs.names import SECRET
from jobs.seal import Seal, fingerprint
from jobs.secret import key, post_secret


def secret_file(settings: Settings, home: Path) -> Path:
    """The file of the post's secret: the configured one, else the home's own, made if absent."""
    if settings.secret_file is not None:
        return settings.secret_file
    path = home / SECRET
    if not path.exists():
        _make(path)
    return path


def post_seal(settings: Settings, home: Path) -> Seal:
    """What signs and verifies all that passes Redis; `UsageError` for a secret that is not one."""
    return Seal(post_secret(secret_file(settings, home)))


def api_key(environ: Mapping[str, str]) -> str:
    """The API key; empty where none is set, or none that can be read: workers say what is wrong."""
    try:
        return key(environ)
    except UsageError:
        return ""


def key_fingerprint(environ: Mapping[str, str]) -> str:
    """Tells which API key is set here; empty where `api_key` is."""
    found = api_key(environ)
    return fingerprint(found) if found else ""


def _make(path: Path) -> None:
    """Whole or not at all, and by one of any number of commands that start at once."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    except OSError as error:
        raise StorageUnavailable(
            f"the data directory {path.parent} cannot be used: {error.strerror}",
            hint="set NIGHTSHIFT_HOME to a writable directory on a local disk",
        ) from error
