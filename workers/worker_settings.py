"""A worker's settings, from its environment alone: the key never travels any other way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jobs.address import DEFAULT_BASE_URL, check_base_url
from jobs.errors import UsageError
from jobs.message import N_, message_of
from jobs.names import SECRET
from jobs.secret import (
    KEY_FILE,
    KEYS,
    POST_SECRET_FILE,
    REDIS_URL,
    extra_headers,
    header_secrets,
    key,
    key_source,
    post_secret,
    secret,
)
from jobs.signing import Seal, Target, fingerprint

INSECURE_HTTP = "NIGHTSHIFT_INSECURE_HTTP"
_KEY = re.compile(r"[!-~]+")
_MOST_CHUNKS = 1024


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is born with. `api_key` is never shown, nor the password in `redis_url`."""

    base_url: str
    scratch: Path
    chunks: int
    redis_url: str = field(repr=False)
    api_key: str = field(repr=False)
    secret: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False, default_factory=dict)
    header_secrets: tuple[str, ...] = field(repr=False, default=())

    @cached_property
    def target(self) -> Target:
        """Whose chunks this worker takes."""
        return Target(self.base_url, fingerprint(self.api_key, self.headers))

    @cached_property
    def seal(self) -> Seal:
        """What proves that a chunk is for it."""
        return Seal(self.secret)


def worker_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """Reads the environment; `UsageError` names what is missing and how to set it."""
    redis_url = secret(environ, REDIS_URL)
    if not redis_url:
        raise UsageError(N_("a worker requires Redis"), hint=N_("set NIGHTSHIFT_REDIS_URL"))
    named = environ.get(POST_SECRET_FILE)
    return WorkerSettings(
        redis_url=redis_url,
        base_url=endpoint_url(environ),
        chunks=_chunks(environ.get("NIGHTSHIFT_OPEN_CHUNKS") or "64"),
        api_key=api_key(environ),
        headers=extra_headers(environ),
        header_secrets=header_secrets(environ),
        scratch=scratch_of(environ),
        secret=post_secret(Path(named).expanduser() if named else _home(environ) / SECRET),
    )


def scratch_of(environ: Mapping[str, str]) -> Path:
    """The folder for what a worker must not lose."""
    scratch = environ.get("NIGHTSHIFT_SCRATCH")
    return Path(scratch).expanduser() if scratch else _home(environ) / "worker"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("NIGHTSHIFT_HOME") or "~/.nightshift").expanduser()


def _chunks(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _MOST_CHUNKS):
        raise UsageError(
            N_("NIGHTSHIFT_OPEN_CHUNKS must be a number from 1 to {most}", most=_MOST_CHUNKS)
        )
    return int(text)


def endpoint_url(environ: Mapping[str, str]) -> str:
    """The endpoint's address; `UsageError` for one that is none or not safe."""
    url = environ.get("NIGHTSHIFT_BASE_URL") or DEFAULT_BASE_URL
    try:
        return check_base_url(url, insecure=_is_on(environ.get(INSECURE_HTTP, "")))
    except ValueError as error:
        raise UsageError(message_of(error), hint=N_("set NIGHTSHIFT_BASE_URL")) from error


def _is_on(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on"}


def api_key(environ: Mapping[str, str]) -> str:
    """The key, of the first of `jobs.secret.KEY_SOURCES` that is set."""
    if source := key_source(environ):
        return _sound(key(environ), source)
    raise UsageError(
        N_("no API key is set"),
        hint=N_(
            "set {variable}, or {file_variable} to a file with it",
            variable=KEYS[0],
            file_variable=KEY_FILE,
        ),
    )


def _sound(key: str, where: str) -> str:
    if not _KEY.fullmatch(key):
        raise UsageError(
            N_("{where} does not contain a valid key", where=where),
            hint=N_("a key is one word of ASCII"),
        )
    return key
