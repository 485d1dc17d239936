"""Names of the environment that begin with NIGHTSHIFT_ and mean nothing: most are typing errors.

A cap that is misspelt would let a night run without one, so what may be meant as a cap is refused.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Collection, Iterable, Iterator, Mapping

import click

from batch.language import _
from jobs.errors import UsageError
from jobs.message import N_

PREFIX = "NIGHTSHIFT_"

SETTINGS = frozenset(
    PREFIX + name
    for name in (
        *("HOME", "REDIS_URL", "INSECURE_REDIS", "BASE_URL", "LANG", "LOG", "SCRATCH"),
        *("OPEN_CHUNKS", "API_KEY_FILE", "POST_SECRET_FILE", "FLOWER_PASSWORD", "FLOWER_PORT"),
        *("TELEGRAM_TOKEN", "TELEGRAM_URL", "SMTP_URL", "SMTP_FROM", "SMTP_PASSWORD"),
        *("CATALOG_KEY", "CATALOG_HEADER", "NOTIFY_SECRET", "WEBHOOK_SECRET"),
        *("TIED", "RELAYED", "UID", "WORK", "REDIS_DIGEST", "PYTHON_DIGEST"),
        *("REDIS_PASSWORD", "WORKER_REDIS_PASSWORD", "FLOWER_REDIS_PASSWORD"),
    )
)
"""Names that are no options; of secrets also with _FILE. Those from UID on are
docker-compose.yml's."""

_OF_CAPS = ("BUDGET", "RUB", "CAP", "LIMIT", "SPEND", "COST", "MAX_PRICE")
_SPENDING = frozenset({"run", "submit", "estimate", "coordinator", "serve"})


def check_variables(
    environ: Mapping[str, str], command: str, others: Iterable[str]
) -> Iterator[str]:
    """A sentence for each name that `command` and the `others` do not know.

    `UsageError` for one that may be meant as a cap, where the command could spend.
    """
    unknown = _unknown(environ, {*SETTINGS, *_variables(command)})
    if not unknown:
        return
    # Only now: the other commands take a while to load.
    known = SETTINGS.union(*map(_variables, (command, *others)))
    for name in _unknown(environ, known):
        near = difflib.get_close_matches(name, sorted(known), 1)
        if command in _SPENDING and _may_cap(name, near):
            raise UsageError(
                N_("{name} is not a setting, so it would cap nothing", name=name),
                hint=N_("did you mean {near}?", near=near[0])
                if near
                else N_("unset {name}", name=name),
            )
        told = _("{name} is not a setting and does nothing").format(name=name)
        yield told + (_("; did you mean {near}?").format(near=near[0]) if near else "")


def _unknown(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    given = (name for name in environ if name.startswith(PREFIX))
    return sorted(name for name in given if not {name, name.removesuffix("_FILE")} & {*known})


def _may_cap(name: str, near: list[str]) -> bool:
    return any(word in one for one in (name, *near) for word in _OF_CAPS)


def _variables(command: str) -> set[str]:
    """What sets an option of the command."""
    options: list[click.Parameter] = importlib.import_module(
        f"batch.commands.{command}"
    ).command.params
    return {each.envvar for each in options if isinstance(each.envvar, str)}
