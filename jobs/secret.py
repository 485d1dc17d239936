"""Secrets of a process: where they come from, and that they stay in it.

Every secret may also be given by a file: `<NAME>_FILE` names one that nobody else may read.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Mapping
from pathlib import Path

from jobs import headers
from jobs.errors import UsageError
from jobs.message import N_
from jobs.signing import LEAST_SECRET

KEYS = ("ROUTERAI_API_KEY", "OPENAI_API_KEY")
KEY_FILE = "NIGHTSHIFT_API_KEY_FILE"
KEY_SOURCES = (KEY_FILE, *(each for name in KEYS for each in (f"{name}_FILE", name)))
"""Where the key is looked for, the first first."""

REDIS_URL = "NIGHTSHIFT_REDIS_URL"
CATALOG_KEY = "NIGHTSHIFT_CATALOG_KEY"
CATALOG_HEADER = "NIGHTSHIFT_CATALOG_HEADER"
"""What a coordinator that runs as a service reads the catalogue with, if it is to: the headers one
a line.
"""

POST_SECRET_FILE = "NIGHTSHIFT_POST_SECRET_FILE"  # noqa: S105  a name, no secret

_MOST_BYTES = 64 * 1024


def secret(environ: Mapping[str, str], name: str) -> str:
    """The secret of that name, from its file if one is named; "" where neither is set.

    `UsageError` for a file that cannot be read, or that others can read.
    """
    named = environ.get(f"{name}_FILE", "").strip()
    return read_secret(named, f"{name}_FILE", environ) if named else environ.get(name, "").strip()


def key_source(environ: Mapping[str, str]) -> str | None:
    """The variable that the key comes from; None where there is none."""
    return next((name for name in KEY_SOURCES if environ.get(name, "").strip()), None)


def key(environ: Mapping[str, str]) -> str:
    """The API key, "" where none is set; errors as `secret`."""
    source = key_source(environ)
    if source is None:
        return ""
    value = environ[source].strip()
    return read_secret(value, source, environ) if source.endswith("_FILE") else value


def post_secret(path: Path) -> bytes:
    """What signs all that passes Redis; errors as `secret`, and for one that can be guessed."""
    found = read_secret(str(path), POST_SECRET_FILE, os.environ).encode()
    if len(found) < LEAST_SECRET:
        raise UsageError(
            N_("the secret in {path} is too short", path=path),
            hint=N_("make one: openssl rand -hex 32 > {path}", path=path),
        )
    return found


def read_secret(named: str, variable: str, environ: Mapping[str, str]) -> str:
    """What the file holds that `variable` names; errors as `secret`."""
    path = Path(named).expanduser()
    try:
        # Not to be held up by a pipe of that name.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(
                    N_("{path} is not a regular file", path=path),
                    hint=N_("correct {variable}", variable=variable),
                )
            if found.st_mode & _others(path, environ):
                raise UsageError(
                    N_("others may read the secret file {path}", path=path),
                    hint=N_("chmod 600 {path}", path=path),
                )
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip("\ufeff \t\r\n")
    except OSError as error:
        raise UsageError(
            N_("the secret file {path} cannot be read: {why}", path=path, why=error),
            hint=N_("correct {variable}", variable=variable),
        ) from error


def _others(path: Path, environ: Mapping[str, str]) -> int:
    """A service of systemd reads its credentials by an ACL, whose mask shows as the group's."""
    own = environ.get("CREDENTIALS_DIRECTORY")
    granted = bool(own) and path.parent == Path(own or "")
    return stat.S_IRWXO if granted else stat.S_IRWXG | stat.S_IRWXO


def extra_headers(environ: Mapping[str, str], variable: str = headers.VARIABLE) -> dict[str, str]:
    """The headers that the endpoint wants beside the key; `UsageError` as `headers.resolve`."""
    given = headers.lines(environ.get(variable, ""))
    return headers.resolve(given, environ, lambda path: read_secret(path, "--header", environ))


def header_secrets(environ: Mapping[str, str], variable: str = headers.VARIABLE) -> tuple[str, ...]:
    """Those of their values that nobody may see; errors as `extra_headers`."""
    found = extra_headers(environ, variable)
    given = {headers.parse(each)[0]: each for each in headers.lines(environ.get(variable, ""))}
    return tuple(found[name] for name, text in given.items() if headers.is_secret(text))


def no_core_dumps() -> None:
    """A process that crashes leaves no copy of its memory, keys and prompts in it, on the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
