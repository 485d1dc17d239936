"""Headers that an endpoint wants beside the key: where their values come from, and what may be one.

    NAME=VALUE           the value itself: for what is no secret
    NAME=@FILE           what a file holds, which nobody else may read
    NAME=env:VARIABLE    what a variable of the environment holds
    NAME=                leaves out a header that is sent by itself, such as Authorization

Only these words travel from process to process. The values are read where a call is made; of a job
the home and Redis know the names alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from jobs.errors import InvalidValue, UsageError
from jobs.message import N_

VARIABLE = "NIGHTSHIFT_HEADER"
"""Where a process finds its headers, one a line."""

MOST = 32
_LONGEST = 8192
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[\t !-~]*")
_OURS = frozenset(
    {
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type"),
        *("expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Those that decide how a request is framed and an answer is read."""

_SECRET_WORDS = frozenset(
    {"apikey", "auth", "authorization", "cookie", "credential", "credentials", "key", "password"}
    | {"secret", "signature", "token"}
)
_SECRET_VALUE = re.compile(r"(?:bearer|basic) |(?:sk|pk|gsk|xai)-\w", re.IGNORECASE)


def parse(text: str) -> tuple[str, str]:
    """Name and source of one header; `ValueError` tells what is wrong, never with the value."""
    name, found, source = text.partition("=")
    name, source = name.strip(), source.strip()
    if not found or not _NAME.fullmatch(name):
        raise InvalidValue(N_("a header is given as NAME=VALUE, NAME=@FILE or NAME=env:VARIABLE"))
    if name.lower() in _OURS:
        raise InvalidValue(N_("the header {name} cannot be set", name=name))
    return name, source


def is_open_secret(text: str) -> bool:
    """Whether a secret stands in the words themselves, where every process list shows it."""
    name, source = parse(text)
    if not source or source.startswith(("@", "env:")):
        return False
    return bool(_SECRET_WORDS & set(re.split(r"[-_.]", name.lower()))) or bool(
        _SECRET_VALUE.match(source)
    )


def is_secret(text: str) -> bool:
    """Whether a header's value is to be seen by nobody: it stands elsewhere, or is an open one."""
    return parse(text)[1].startswith(("@", "env:")) or is_open_secret(text)


def names(texts: Iterable[str]) -> tuple[str, ...]:
    """The names alone, in lower case and sorted."""
    return tuple(sorted({parse(text)[0].lower() for text in texts}))


def resolve(
    texts: Iterable[str], environ: Mapping[str, str], read: Callable[[str], str]
) -> dict[str, str]:
    """The values by name; empty ones leave a header out. `read` gives the content of a file.

    `UsageError` for a variable that is not set and for what no header can be.
    """
    found = {}
    for text in texts:
        try:
            name, source = parse(text)
        except ValueError as error:
            raise UsageError(N_("--header: {why}", why=error)) from None
        found[name] = _sound(name, _value(name, source, environ, read))
    if len(found) > MOST:
        raise UsageError(N_("--header: more than {most} headers", most=MOST))
    return found


def _value(name: str, source: str, environ: Mapping[str, str], read: Callable[[str], str]) -> str:
    if source.startswith("@"):
        return read(source[1:])
    if not source.startswith("env:"):
        return source
    variable = source.removeprefix("env:")
    if not environ.get(variable, "").strip():
        raise UsageError(
            N_(
                "the header {name} is read from {variable}, which is not set",
                name=name,
                variable=variable,
            )
        )
    return environ[variable].strip()


def _sound(name: str, value: str) -> str:
    if len(value) > _LONGEST or not _VALUE.fullmatch(value):
        raise UsageError(N_("the value of the header {name} must be one line of ASCII", name=name))
    return value


def lines(text: str) -> list[str]:
    """What `NIGHTSHIFT_HEADER` holds, header by header."""
    return [line.strip() for line in text.splitlines() if line.strip()]
