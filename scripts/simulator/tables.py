"""Answers about the rows of a table, and the slips that models make with them.

The truth about a row is the word after ``label:`` in its text. Asked for one of some choices the
model says it, alone or for each record of a pack; asked for what fits a schema, an instance of it
with that word. Of answers to one row a share `slips` comes in a fence, with prose around, or with
another word; of the records of a pack half of that share is left out, a tenth put under the
neighbour's mark and a tenth given twice.
"""

import json
import re
from collections.abc import Callable
from random import Random

from .schema_instances import Schema, instance, schema_in

_LABEL = re.compile(r"label\s*[:=]\s*[\"']?([\w./-]+)", re.IGNORECASE)
_CHOICES = re.compile(r"(?:Ответь ровно одним|Answer with exactly one)[^:\n]*: ([^\n]+)")
_SCHEMA = re.compile(r"(?:JSON по этой схеме|matches this JSON Schema)[^:\n]*:")
_SHAPE = re.compile(r"(?:Ответы|Answers): ([^\n]+)")
_RECORD = re.compile(r'^([a-z]{2}) (".*") ([a-z]{2})$', re.MULTILINE)


Truth = Callable[[str], str]
"""The text of a row → the right answer."""


def say(text: str, slips: float, dice: Random, form: Schema = None) -> str:
    """The answer to a prompt of one row, or of several; `form`: the schema that it must fit."""
    shape, records = _SHAPE.search(text), _RECORD.findall(text)
    if shape and records:
        texts = [(mark, json.loads(quoted), code) for mark, quoted, code in records]
        return _several(texts, _truth_by(shape[1], schema_in(shape[1])), slips, dice)
    found, told = _CHOICES.search(text), _SCHEMA.search(text)
    if told and form is None:
        form = schema_in(text[told.end() :])
    return _one(_truth_by(found[1] if found else "unknown", form)(text), slips, dice)


def _truth_by(choices: str, form: Schema) -> Truth:
    def chosen(text: str) -> str:
        said, found = choices.split(", "), _LABEL.search(text)
        return found[1] if found and found[1] in said else said[0]

    def fitting(text: str) -> str:
        found = _LABEL.search(text)
        said = found[1] if found else ""
        # Of the same word always the same, alone and in a pack.
        return json.dumps(instance(form, Random(said), said), ensure_ascii=False)  # noqa: S311

    return chosen if form is None else fitting


def _one(truth: str, slips: float, dice: Random) -> str:
    if dice.random() >= slips:
        return truth
    other = truth if truth.startswith(("{", "[")) else truth.upper()
    return dice.choice([f"```\n{truth}\n```", f"Ответ: {other}.", "трудно сказать"])


def _several(records: list[tuple[str, str, str]], truth: Truth, slips: float, dice: Random) -> str:
    marks = [mark for mark, _, _ in records]
    for place in range(1, len(marks)):
        if dice.random() < slips / 10:
            marks[place - 1 : place + 1] = marks[place], marks[place - 1]
    said = [
        f"{mark} {code} {truth(text)}" for mark, (_, text, code) in zip(marks, records, strict=True)
    ]
    said += [each for each in said if dice.random() < slips / 10]
    told = "\n".join(each for each in said if dice.random() >= slips / 2)
    return f"```\n{told}\n```" if dice.random() < slips else told
