"""The command that would submit a job anew, by its spec: only what was given, and no secrets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from jobs.job_options import Spec
from jobs.money import plain
from jobs.option_declaration import Declared, declared

_LONGEST = 60
"""Characters of a value; prompts are longer."""

_UNTOLD = frozenset(
    {
        *(("output_dir",), ("name",), ("usd_rate",), ("gateway",), ("currency",)),
        *(("task", "form", "encoding"), ("task", "form", "delimiter")),
    }
)
"""What is resolved when a job is submitted, or stands on the page already."""


def command_of(spec: Spec) -> str:
    """`nightshift run FILE --option value …`, for a shell."""
    seen = set[tuple[str, ...]]()
    words = ["nightshift", "run", shlex.quote(spec.source)]
    for each in declared(Spec):
        if each.path in seen or each.path in _UNTOLD:
            continue
        told = list(_option(each, spec))
        if told:
            seen.add(each.path)
            words += told
    return " ".join(words)


def _option(each: Declared, spec: Spec) -> Iterator[str]:
    value, flag = each.of(spec), each.option.flag
    if value is None or value == each.field.default or value in ((), [], {}):
        return
    if each.option.is_switch:
        if value == each.option.value:
            yield flag
        return
    if each.path[0] in ("headers", "notify"):
        # Whom to tell, and with which secrets, is nobody's business but the user's.
        names = [f"{name}=…" for name in value] if each.path[0] == "headers" else ["…"]
        yield from (f"{flag} {name}" for name in names)
        return
    if each.path == ("task", "answer_schema"):
        # It was a file, which the job does not know.
        yield f"{flag} …"
        return
    for text in _texts(value):
        cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
        yield f"{flag} {shlex.quote(cut)}"


def _texts(value: Any) -> list[str]:
    """A value as it is typed; several where the option is given several times."""
    match value:
        case datetime():
            return [value.isoformat(timespec="minutes")]
        case Decimal():
            return [plain(value)]
        case str() | int():
            return [str(value)]
        case float():
            return [f"{value:g}"]
        case Mapping() if all(isinstance(each, str) for each in value.values()):
            return [f"{name}={each}" for name, each in value.items()]
        case list() | tuple() if all(isinstance(each, str) for each in value):
            return [",".join(map(_cell, value))]
    return ["…"]


def _cell(text: str) -> str:
    """A value of a list: one with a comma stands in quotes."""
    return '"{}"'.format(text.replace('"', '""')) if set(text) & set(',"\n\r') else text
