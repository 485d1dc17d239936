"""Secrets at the user's side: the post's, and the API key for questions that cost nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from batch.settings import Settings
from jobs import headers
from jobs.address import DEFAULT_BASE_URL
from jobs.errors import StorageUnavailable, UsageError
from jobs.message import N_
from jobs.names import SECRET
from jobs.secret import (
    CATALOG_HEADER,
    CATALOG_KEY,
    extra_headers,
    header_secrets,
    key,
    post_secret,
    secret,
)
from jobs.signing import Seal, fingerprint


class Pass(NamedTuple):
    """What opens an endpoint to questions. `secrets` are what nobody may see of it."""

    key: str
    headers: dict[str, str]
    secrets: tuple[str, ...]


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


def catalog_url(environ: Mapping[str, str]) -> str:
    """The endpoint whose catalogue a coordinator that runs as a service may open; "" for none.

    Its jobs may be for several endpoints, and what opens one is not shown to another.
    """
    names = (CATALOG_KEY, f"{CATALOG_KEY}_FILE", CATALOG_HEADER)
    url = environ.get("NIGHTSHIFT_BASE_URL") or DEFAULT_BASE_URL
    return url.rstrip("/") if any(environ.get(name, "").strip() for name in names) else ""


def pass_for(base_url: str, environ: Mapping[str, str]) -> Pass:
    """The key and the headers; of a coordinator as a service those that are for the catalogue.

    `UsageError` for a secret that cannot be read.
    """
    found, variable = api_key(environ), headers.VARIABLE
    if not (found or environ.get(variable)) and catalog_url(environ) == base_url:
        found, variable = secret(environ, CATALOG_KEY), CATALOG_HEADER
    return Pass(found, extra_headers(environ, variable), header_secrets(environ, variable))


def key_fingerprint(environ: Mapping[str, str]) -> str:
    """Tells which API key is set here, and which headers; empty where neither is."""
    return fingerprint(api_key(environ), extra_headers(environ))


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
            N_("the data directory {folder} cannot be used: {why}", folder=path.parent, why=error),
            hint=N_("set NIGHTSHIFT_HOME to a writable directory on a local disk"),
        ) from error
