"""What the options of a table mean: a task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgspec

from batch.cli.click_options import JOB_OPTIONS, is_given, values
from batch.tables.answer_validation import validator_of
from batch.tables.csv_tsv import DELIMITERS
from jobs.errors import UsageError
from jobs.message import N_
from jobs.option_declaration import nested
from jobs.table_task import TableForm, Task

_LARGEST = 2**20
LADDER = ("repairs", "escalate")
"""What happens to an invalid answer, of a row or of a request that is checked."""

_OF_TABLES = [each for each in JOB_OPTIONS if each.path[0] == "task"]
_NOT_AS_THEY_ARE = {"prompt", "system", "choices", "answer_schema", "pack", "form"}
_AS_THEY_ARE = [each for each in _OF_TABLES if each.path[1] not in _NOT_AS_THEY_ARE]


def take_task(options: dict[str, Any]) -> Task | None:
    """Takes a table's options out of those of a command; None where the input holds requests.

    `UsageError` where they make no sense together.
    """
    told = {each.name: options.pop(each.name) for each in _OF_TABLES}
    prompt = _text(told, "prompt")
    if prompt is None:
        lost = (each for each in _OF_TABLES if each.default in (None, False))
        if options["check"]:
            lost = (each for each in lost if each.name not in LADDER)
        given = next((each for each in lost if is_given(told.get(each.name))), None)
        if given is not None:
            raise UsageError(
                N_("{flag} applies to tables, which need a prompt", flag=given.option.flag),
                hint=N_("--prompt 'What is asked of {{ column }}', or --prompt-file FILE"),
            )
        return None
    if options["check"]:
        raise UsageError(
            N_("--check is for requests; a table's answers are checked by --choices or --schema"),
            hint=N_("remove --check"),
        )
    if told["choices"] is not None and told["schema"] is not None:
        raise UsageError(N_("--choices and --schema both define the answer"), hint=N_("choose one"))
    if told["min_accuracy"] is not None and told["gold"] is None:
        raise UsageError(
            N_("--min-accuracy needs known answers to compare with"),
            hint=N_("--gold FILE gives them"),
        )
    return Task(
        prompt=prompt,
        system=_text(told, "system"),
        choices=_choices(told["choices"]),
        answer_schema=None if told["schema"] is None else _schema(told["schema"]),
        pack=told["pack"] or 1,
        auto_pack=told["pack"] == 0,
        form=_form(told),
        **nested(values(told, _AS_THEY_ARE)).get("task", {}),
    )


def _text(options: dict[str, Any], name: str) -> str | None:
    """What `--name` says, or the file of `--name-file`."""
    text: str | None = options.pop(name)
    file: Path | None = options.pop(f"{name}_file")
    if text is not None and file is not None:
        raise UsageError(
            N_("--{name} and --{name}-file both give a text", name=name), hint=N_("choose one")
        )
    if file is not None:
        text = _read(file, f"--{name}-file")
    if text is not None and not text.strip():
        raise UsageError(N_("--{name} is empty", name=name), hint=N_("write what to ask"))
    return text


def _read(file: Path, option: str) -> str:
    try:
        # By what comes: a pipe or a device tells no size.
        with file.open(encoding="utf-8-sig") as source:
            text = source.read(_LARGEST + 1)
    except UnicodeDecodeError:
        raise UsageError(
            N_("{option}: {file} is not UTF-8", option=option, file=file),
            hint=N_("save it as UTF-8"),
        ) from None
    except OSError as error:
        raise UsageError(
            N_("{option}: {file} can't be read: {why}", option=option, file=file, why=error)
        ) from None
    if len(text.encode()) > _LARGEST:
        raise UsageError(N_("{option}: {file} is larger than 1 MiB", option=option, file=file))
    return text


def _choices(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    # As rows of CSV: a choice with a comma stands in quotes.
    rows = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    try:
        choices = tuple(part.strip() for row in rows for part in row if part.strip())
    except csv.Error as error:
        raise UsageError(N_("--choices: {why}", why=error)) from None
    if len(choices) < 2:
        raise UsageError(
            N_("--choices needs two different answers at least"),
            hint=N_("for instance --choices yes,no"),
        )
    seen = set[str]()
    for choice in choices:
        if choice.casefold() in seen:
            raise UsageError(
                N_("--choices has {choice!r} twice; upper and lower case are one", choice=choice),
                hint=N_("remove one"),
            )
        seen.add(choice.casefold())
    return choices


def _schema(file: Path) -> str:
    """The schema in one line, after a check that it is one."""
    import jsonschema_rs

    try:
        schema = msgspec.json.decode(_read(file, "--schema"), type=dict[str, Any])
        validator_of(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        told = str(error).splitlines()[0]
        raise UsageError(
            N_("--schema: {file} is no JSON Schema: {told}", file=file, told=told)
        ) from None
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _form(told: dict[str, Any]) -> TableForm:
    """What was told of the file; nothing else is set."""
    given: dict[str, Any] = {}
    if told["encoding"]:
        given["encoding"] = told["encoding"]
    if told["delimiter"]:
        given["delimiter"] = _delimiter(told["delimiter"])
    if told["no_header"]:
        given["header"] = False
    if told["sheet"]:
        given["sheet"] = told["sheet"]
    return TableForm(**given)


def _delimiter(text: str) -> str:
    found = DELIMITERS.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n':
        raise UsageError(
            N_("--delimiter: {text!r} is not one character", text=text), hint=N_("e.g. ';' or tab")
        )
    return found
