"""Answers about the rows of a table, and the slips that models make with them.

The truth about a row is the word after ``label:`` in its text. Asked for one of some choices the
model says it, alone or for each record of a pack. Of answers to one row a share `slips` comes in a
fence, with prose around, or with another word; of the records of a pack half of that share is left
out, a tenth put under the neighbour's mark and a tenth given twice.
"""

import json
import re
from random import Random

_LABEL = re.compile(r"label\s*[:=]\s*[\"']?([\w./-]+)", re.IGNORECASE)
_CHOICES = re.compile(r"(?:Ответь ровно одним|Answer with exactly one)[^:\n]*: ([^\n]+)")
_SHAPE = re.compile(r"(?:Ответы|Answers): ([^\n]+)")
_RECORD = re.compile(r'^([a-z]{2}) (".*") ([a-z]{2})$', re.MULTILINE)


def say(text: str, slips: float, dice: Random) -> str:
    """The answer to a prompt of one row, or of several."""
    shape, records = _SHAPE.search(text), _RECORD.findall(text)
    if shape and records:
        texts = [(mark, json.loads(quoted), code) for mark, quoted, code in records]
        return _several(texts, shape[1].split(", "), slips, dice)
    found = _CHOICES.search(text)
    choices = found[1].split(", ") if found else ["unknown"]
    return _one(_truth(text, choices), slips, dice)


def _truth(text: str, choices: list[str]) -> str:
    found = _LABEL.search(text)
    return found[1] if found and found[1] in choices else choices[0]


def _one(truth: str, slips: float, dice: Random) -> str:
    if dice.random() >= slips:
        return truth
    return dice.choice([f"```\n{truth}\n```", f"Ответ: {truth.upper()}.", "трудно сказать"])


def _several(
    records: list[tuple[str, str, str]], choices: list[str], slips: float, dice: Random
) -> str:
    marks = [mark for mark, _, _ in records]
    for place in range(1, len(marks)):
        if dice.random() < slips / 10:
            marks[place - 1 : place + 1] = marks[place], marks[place - 1]
    said = [
        f"{mark} {code} {_truth(text, choices)}"
        for mark, (_, text, code) in zip(marks, records, strict=True)
    ]
    said += [each for each in said if dice.random() < slips / 10]
    told = "\n".join(each for each in said if dice.random() >= slips / 2)
    return f"```\n{told}\n```" if dice.random() < slips else told
