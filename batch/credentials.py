"""Secrets at the user's side: the post's, and of the API key its fingerprint alone."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from batch.settings import KEY_FILE, KEYS, Settings
from jobs.errors import StorageUnavailable, UsageError
from jobs.names import SECRET
from jobs.seal import LEAST_SECRET, Seal, fingerprint

_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


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
    path = secret_file(settings, home)
    secret = _read(path)
    if len(secret) < LEAST_SECRET:
        raise UsageError(
            f"the secret in {path} is too short", hint=f"make one: openssl rand -hex 32 > {path}"
        )
    return Seal(secret)


def key_fingerprint(environ: Mapping[str, str]) -> str:
    """Tells which API key is set here; empty where none is, or none that can be read."""
    source = next((name for name in KEYS if environ.get(name, "").strip()), None)
    if source is None:
        return ""
    key = environ[source].strip()
    if source == KEY_FILE:
        try:
            key = _read(Path(key).expanduser()).decode(errors="replace")
        except UsageError:
            return ""
    return fingerprint(key) if key else ""


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & _OTHERS_MAY:
            raise UsageError(f"others may read the secret file {path}", hint=f"chmod 600 {path}")
        return path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"the secret file {path} cannot be read: {error.strerror}") from error


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
            f"the home {path.parent} cannot be used: {error.strerror}",
            hint="set NIGHTSHIFT_HOME to a folder of a local disk that you may write",
        ) from error
