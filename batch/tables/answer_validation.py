"""Whether an answer is what was asked for, and what it says: a pure function of the raw answer.

A repair never changes a meaning. Fences, prose around JSON, a trailing comma, the case and the
punctuation of a choice are form; a bracket that is missing, since the answer was cut off, is not.
Whatever was repaired is flagged, and the raw answer is kept as it came.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from batch.tables.json_repairs import FENCE, parsed, shortened, whole
from jobs.request_kinds import RESPONSES
from jobs.table_task import Task

REPAIRED = "repaired"
INVALID = "answer.invalid"

_LABELLED = re.compile(r"\A[\w\s]{1,40}(?:[:=]|\s[—–-]\s)\s*(.+)\Z", re.DOTALL)
_AROUND = " \t\r\n.,;:!?\"'`*_«»“”„‘’()[]{}<>"


@dataclass(frozen=True)
class Verdict:
    """What an answer says, or `problem`: why it is not what was asked for.

    `values` has a value for every column of the answer, `repaired` is whether its form was mended.
    """

    values: dict[str, Any] = field(default_factory=dict)
    repaired: bool = False
    problem: str = ""
    value: Any = None
    """Of an answer in JSON all that it says."""


Check = Callable[[str], Verdict]
"""The text of an answer → what it says."""


def check_of(task: Task) -> Check:
    """The check of a task's answers; without choices and schema every text is right."""
    if task.choices:
        return _choice_check(task.choices)
    if task.answer_schema is not None:
        return schema_check(task.answer_schema)
    return lambda text: Verdict({"answer": text})


def columns_of(task: Task) -> tuple[str, ...]:
    """The names of the columns that an answer fills."""
    if task.answer_schema is None:
        return ("answer",)
    properties = json.loads(task.answer_schema).get("properties")
    return tuple(properties) if isinstance(properties, dict) and properties else ("answer",)


# ---- choices --------------------------------------------------------------------------------


def _choice_check(choices: tuple[str, ...]) -> Check:
    exact = {choice: choice for choice in choices}
    count = Counter(map(_folded, choices))
    # Of choices that only punctuation tells apart no other form is repaired: it may mean either.
    folded = {fold: choice for choice in choices if count[fold := _folded(choice)] == 1}
    named = ", ".join(choices)

    def check(text: str) -> Verdict:
        bare = text.strip()
        if bare in exact or _wrapped(bare) in exact:
            return Verdict({"answer": bare if bare in exact else _wrapped(bare)})
        for form in _forms(bare):
            found = folded.get(_folded(form))
            if found is not None:
                return Verdict({"answer": found}, repaired=True)
        return Verdict(problem=f"{shortened(bare)} is none of: {named}")

    return check


def _wrapped(text: str) -> str:
    """The answer within the object that `response_format` asks for; empty where there is none."""
    if not text.startswith("{"):
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    is_ours = isinstance(found, dict) and list(found) == ["answer"]
    return str(found["answer"]) if is_ours else ""


def _forms(text: str) -> list[str]:
    """Ways in which an answer may wrap a choice without saying anything else."""
    fenced = FENCE.match(text)
    inner = fenced[1].strip() if fenced else text
    forms = [inner]
    try:
        found = json.loads(inner)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if isinstance(found, str | int | float | bool):
        forms.append(str(found))
    labelled = _LABELLED.match(inner.strip("*"))
    if labelled:
        forms.append(labelled[1])
    return forms


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(_AROUND).casefold().replace("ё", "е")


# ---- schemas --------------------------------------------------------------------------------


def validator_of(schema: Any) -> Any:
    """`ValueError` for what is no JSON Schema, and for one that is not whole: whoever sends one
    could have us look into any file, or call any host.
    """
    import jsonschema_rs

    return jsonschema_rs.validator_for(schema, retriever=_not_fetched)


def _not_fetched(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched; put it into $defs")


@lru_cache(64)
def schema_check(answer_schema: str) -> Check:
    """The check of answers against a JSON Schema (2020-12)."""
    schema = json.loads(answer_schema)
    validator = validator_of(schema)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    columns = tuple(properties) if isinstance(properties, dict) else ()

    def check(text: str) -> Verdict:
        value, repaired, problem = parsed(text)
        if problem:
            return Verdict(problem=problem)
        for error in validator.iter_errors(value):
            where = "/".join(map(str, error.instance_path))
            return Verdict(
                problem=f"{where + ': ' if where else ''}{shortened(error.message, 200)}"
            )
        if columns and isinstance(value, dict):
            return Verdict({name: value.get(name) for name in columns}, repaired, value=value)
        return Verdict({"answer": value}, repaired, value=value)

    return check


def text_of(body: bytes) -> str:
    """What a model wrote, fit to be sent and stored; empty where it wrote nothing."""
    try:
        content = _content(json.loads(body))
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return ""
    if isinstance(content, list):
        return whole("".join(map(_part, content)))
    return whole(content) if isinstance(content, str) else ""


def _content(document: Any) -> Any:
    if RESPONSES.answers in document:
        return RESPONSES.text(document)
    return document["choices"][0]["message"].get("content")


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""
