"""The file `.env` of the working folder: convenient, and not to be trusted.

Whoever made the folder may have written it. So it sets nothing but what is ours, it must be the
user's own, what was taken is named, and an address from there meets a key from elsewhere only after
a question.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import click

from batch.cli.terminal import safe, say
from batch.language import _
from jobs import headers
from jobs.errors import UsageError
from jobs.logs import RELAYED
from jobs.message import N_
from jobs.secret import CATALOG_HEADER, CATALOG_KEY, KEYS, header_secrets, key_source

NAME = ".env"

_OURS = re.compile(rf"NIGHTSHIFT_\w+|{'|'.join(KEYS)}")
_NEVER = frozenset(
    {
        *("NIGHTSHIFT_YES", "NIGHTSHIFT_INSECURE_REDIS", "NIGHTSHIFT_INSECURE_HTTP"),
        *("NIGHTSHIFT_TIED", RELAYED, headers.VARIABLE, CATALOG_HEADER),
    }
)
"""Consent is the user's, and not the folder's; a header can name any file and any variable."""

_OF_ALL_JOBS = frozenset(
    {
        "NIGHTSHIFT_BUDGET_RUB_PER_DAY",
        "NIGHTSHIFT_BUDGET_RUB_PER_MONTH",
        "NIGHTSHIFT_BUDGET_ZONE",
    }
)
"""They would raise the caps that the user set, for good."""

_SETTING_CAPS = frozenset({"budget", "coordinator", "run", "serve", "submit"})
"""These do not ignore them: a cap may be meant."""

_NOTIFICATIONS = ("NOTIFY_URL", "NOTIFY_TELEGRAM", "NOTIFY_MAIL", "TELEGRAM_URL", "SMTP_URL")
# A job of a foreign home brings an address of its own.
_PLACES = ("BASE_URL", "REDIS_URL", "HOME")
_ADDRESSES = frozenset(f"NIGHTSHIFT_{name}" for name in (*_PLACES, *_NOTIFICATIONS))
_SECRET_FILE = re.compile(r"NIGHTSHIFT_(?:\w+_)?(?:KEY|URL|SECRET|TOKEN|PASSWORD)_FILE")
_SENT_FILES = frozenset(
    {
        *("NIGHTSHIFT_PROMPT_FILE", "NIGHTSHIFT_SYSTEM_FILE"),
        *("NIGHTSHIFT_SCHEMA", "NIGHTSHIFT_GOLD"),
    }
)
"""What is in them goes to the endpoint."""

_LENT = (
    *("NIGHTSHIFT_NOTIFY_SECRET", "NIGHTSHIFT_TELEGRAM_TOKEN", "NIGHTSHIFT_SMTP_PASSWORD"),
    CATALOG_KEY,
)
_HEADERS = (headers.VARIABLE, CATALOG_HEADER)
_USING_KEYS = frozenset(
    {
        *("run", "submit", "resume", "cancel", "estimate", "preview", "serve"),
        *("worker", "coordinator", "doctor"),
    }
)
_TELLING = ("NIGHTSHIFT_TELEGRAM_", "NIGHTSHIFT_SMTP_")
"""Of jobs that stand still `watch` and `status --watch` tell, and send nothing else."""

_MOST_BYTES = 2**20


class EnvFile:
    """What was taken from the file: `taken` are the names that nothing else had set. `caps` of all
    jobs in it are not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[str] = []
        self.caps: list[str] = []

    def load(self) -> None:
        """Sets what it says and the environment does not; tells on standard error what that is.

        `UsageError` for a file that is not the user's own, or that others can write.
        """
        from dotenv import dotenv_values

        # Nothing is put in for ${NAME}: that would take secrets of the environment into names.
        found = dotenv_values(stream=StringIO(_read_own(self.path)), interpolate=False)
        self.caps = sorted(_OF_ALL_JOBS & found.keys() - os.environ.keys())
        for name, value in found.items():
            if value is not None and name not in os.environ and _is_taken(name):
                os.environ[name] = value
                self.taken.append(name)
        if self.taken:
            told = _("read from {file}: {names}")
            say(told.format(file=safe(str(self.path)), names=safe(", ".join(self.taken))))

    def ask(self, command: str, words: Sequence[str] = ()) -> None:
        """Asks before an address of the file is used with a secret that is not from there, nor
        among the command's `words`; a file elsewhere that it names is one, too.

        `UsageError` where nobody can be asked: --yes agrees to spending, not to this. Also for a
        cap of all jobs in the file, if the command would take one.
        """
        if self.caps and command in _SETTING_CAPS:
            raise UsageError(
                N_("{file} sets {name}, a cap of all jobs", file=self.path, name=self.caps[0]),
                hint=N_("remove it there; set it in the environment, or with nightshift budget"),
            )
        sent = _sent_by(command, words)
        addresses = [name for name in self._addresses() if name.startswith(sent)]
        lent = [name for name in self._lent(words) if name.startswith(sent)] if addresses else []
        if not lent:
            return
        told = _("{file} sets {addresses}").format(
            file=self.path.absolute(), addresses=", ".join(map(_shown, addresses))
        )
        secrets = ", ".join(lent)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                N_("{told}, but {secrets} was set elsewhere", told=told, secrets=secrets),
                hint=N_("set both in the same place: in the environment or in that file"),
            )
        say(safe(told))
        question = _("Use it with {secrets}, which was set elsewhere?")
        click.confirm(question.format(secrets=secrets), abort=True, err=True)

    def _addresses(self) -> list[str]:
        return [n for n in self.taken if n in _ADDRESSES or _SECRET_FILE.fullmatch(n)]

    def _lent(self, words: Sequence[str]) -> list[str]:
        """The secrets in use that are not written in the file itself."""
        used = [name for name in _in_use() if name not in self.taken or name.endswith("_FILE")]
        files = [
            f"{name} ({os.environ[name]})"
            for name in self.taken
            if name in _SENT_FILES and _is_elsewhere(name)
        ]
        return [*used, *files, *(["--header"] if any(map(_is_secret, words)) else [])]


def _sent_by(command: str, words: Sequence[str]) -> tuple[str, ...]:
    """How the names begin of what a command sends somewhere."""
    if command in _USING_KEYS:
        return ("",)
    tells = command == "watch" or (command == "status" and "--watch" in words)
    return _TELLING if tells else ()


def _in_use() -> Iterator[str]:
    if source := key_source(os.environ):
        yield source
    for name in _LENT:
        yield from (each for each in (f"{name}_FILE", name) if os.environ.get(each))
    yield from (name for name in _HEADERS if header_secrets(os.environ, name))


def _is_secret(word: str) -> bool:
    """Whether it may be a secret header: with its flag, or as the word that follows it."""
    with suppress(ValueError):
        return headers.is_secret(word.removeprefix("--header="))
    return False


def _is_elsewhere(name: str) -> bool:
    """Whether a file is not in this folder; links are followed."""
    # Unlike Path.resolve, this takes a link that leads to itself.
    return not Path(os.path.realpath(os.environ[name])).is_relative_to(Path.cwd())


def _is_taken(name: str) -> bool:
    return bool(_OURS.fullmatch(name)) and name not in _NEVER | _OF_ALL_JOBS


def _shown(name: str) -> str:
    """A setting with its value, without a login that may stand in it."""
    value = os.environ[name]
    parts = urlsplit(value)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{name} ({shown if parts.netloc else value})"


def _read_own(path: Path) -> str:
    try:
        # Not to be held up by a pipe of that name.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            _check_own(path, os.fstat(file.fileno()))
            text = file.read(_MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            N_("{path} cannot be read ({kind})", path=path, kind=type(error).__name__),
            hint=N_("fix or remove it"),
        ) from None
    if "\0" in text:
        raise UsageError(N_("{path} contains a null byte", path=path), hint=N_("fix or remove it"))
    return text


def _check_own(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(N_("{path} is not a regular file", path=path), hint=N_("remove it"))
    if found.st_uid != os.geteuid():
        raise UsageError(
            N_("{path} belongs to another user and was ignored", path=path), hint=N_("remove it")
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            N_("{path} is writable by others and was ignored", path=path),
            hint=N_("chmod go-w {path}", path=path),
        )
