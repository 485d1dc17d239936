"""Several rows in one call: they travel with marks, and answers come back by mark, never by place.

A row has a mark before its text and another one behind it. An answer counts for a row only if it
bears both, the first of them once. So an answer that a model put under a neighbour's mark is
noticed, and the row goes again. Marks are two letters: mostly one token, for what models write
costs several times what they read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b, shake_128
from itertools import product
from typing import Any, NamedTuple

from batch.tables.answer_validation import Check, Verdict
from batch.tables.json_repairs import whole

_LETTERS = "bcdfghjklmnpqrstvwxz"
"""Without vowels, so that no mark is a word."""

_PAIRS = tuple(map("".join, product(_LETTERS, repeat=2)))
_OBJECT = re.compile(r"\{")
_LINE = re.compile(
    rf"^[^\w\n]*(?:\d+[.)]\s)?[^\w\n]*([{_LETTERS}]{{2}})[^\w\n]+([{_LETTERS}]{{2}})\b[^\S\n]*[|:]?[^\S\n]*(.*)$",
    re.MULTILINE,
)
_decode = json.JSONDecoder().raw_decode

MOST = len(_PAIRS) // 2
"""Rows in one call: each has two marks."""

_RUSSIAN = (
    "Ниже {count} записей, по одной в строке: id, текст, код. Выполни задание для каждой записи"
    " так, будто других нет. Ответь только {count} {form}."
)
_ENGLISH = (
    "Below are {count} records, one in a line: id, text, code. Do the task for each record as if it"
    " were the only one. Answer only with {count} {form}."
)
_LINES = (
    "строками вида «id код ответ», где id и код взяты у той же записи",
    'lines of the form "id code answer", with id and code of the same record',
)
_OBJECTS = (
    'объектами JSON вида {{"id": "…", "code": "…", "answer": {answer}}}',
    'JSON objects of the form {{"id": "…", "code": "…", "answer": {answer}}}',
)


class Item(NamedTuple):
    """A row in a pack: its marks, and the part of the prompt that is its own."""

    mark: str
    code: str
    text: str


Marks = dict[int, tuple[str, str]]
"""By a row's ordinal."""


@lru_cache(256)
def marks_of(job_id: str, members: tuple[int, ...]) -> Marks:
    """What the rows of a pack are called in it: by chance, so nothing like their place."""
    chance = shake_128(f"{job_id} {members}".encode()).digest(4 * len(_PAIRS))
    keys = [chance[place : place + 4] for place in range(0, len(chance), 4)]
    pairs = [pair for _, pair in sorted(zip(keys, _PAIRS, strict=True))]
    return dict(zip(members, zip(pairs, reversed(pairs), strict=True), strict=False))


def message(
    head: str, items: Sequence[Item], tail: str, answer: str, *, russian: bool, lines: bool
) -> str:
    """The prompt of a pack; the instruction stands first, so that prompt caches know it.

    `answer` tells what one looks like. `lines`: not as JSON, which costs a multiple of what it
    says.
    """
    other = not russian
    form = (_LINES if lines else _OBJECTS)[other].format(answer=answer)
    told = (_ENGLISH if other else _RUSSIAN).format(count=len(items), form=form)
    if lines:
        told += f" {'Answers' if other else 'Ответы'}: {answer}"
    records = "\n".join(
        f"{item.mark} {json.dumps(item.text, ensure_ascii=False)} {item.code}" for item in items
    )
    task = "\n\n".join(part for part in (head.strip(), tail.strip()) if part)
    return f"{task}\n\n{told}\n\n{records}"


def verdicts(text: str, items: Sequence[Item], check: Check) -> dict[str, Verdict]:
    """By mark what a pack's answer says of each row; rows without a verdict were not answered."""
    codes = {item.mark: item.code for item in items}
    found = [each for each in _answers(text) if each.mark in codes]
    count = Counter(each.mark for each in found)
    told: dict[str, Verdict] = {}
    for each in found:
        if count[each.mark] > 1:
            told[each.mark] = Verdict(problem="the answer has this row twice")
        elif each.code != codes[each.mark]:
            told[each.mark] = Verdict(problem="the answer may be another row's")
        else:
            told[each.mark] = check(each.answer)
    return told


def answers_by_mark(text: str) -> dict[str, str]:
    """What a pack's answer says of each row that it names once."""
    found = [*_answers(text), *_answers_until_0_2(text)]
    count = Counter(each.mark for each in found)
    return {each.mark: each.answer for each in found if count[each.mark] == 1}


class _Answer(NamedTuple):
    mark: str
    code: str
    answer: str


def _answers(text: str) -> Iterator[_Answer]:
    """Every answer to a row in a text, as a line or as an object, whatever is around."""
    lines = list(_lines(text))
    yield from lines
    for each in () if lines else _objects(text):
        if "answer" in each:
            code, answer = str(each.get("code", "")), _as_text(each["answer"])
            yield _Answer(str(each.get("id")), code, answer)


def _lines(text: str) -> Iterator[_Answer]:
    place = 0
    while line := _LINE.search(text, place):
        place = _end(text, line)
        yield _Answer(line[1], line[2], text[line.start(3) : place].strip())


def _end(text: str, line: re.Match[str]) -> int:
    """Where an answer ends: with its line, or with the object that may go over several."""
    if line[3].startswith("{"):
        with suppress(ValueError, RecursionError):
            return _decode(text, line.start(3))[1]
    return line.end()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every outermost object in a text, whatever is around; of a text cut short the whole ones."""
    place = 0
    while match := _OBJECT.search(text, place):
        try:
            value, place = _decode(text, match.start())
        except (ValueError, RecursionError):
            place = match.end()
            continue
        if isinstance(value, dict):
            yield from _flat(value)


def _flat(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object, or those of the one list in it: `response_format` wants an object around."""
    lists = [each for each in value.values() if isinstance(each, list)]
    if "id" not in value and len(lists) == 1:
        yield from (each for each in lists[0] if isinstance(each, dict))
    else:
        yield value


def _as_text(answer: Any) -> str:
    """An answer as if it had come alone."""
    return whole(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))


# ---- packs of Nightshift 0.2: a row had one mark, and its answer repeated how its text begins ----

_LETTERS_0_2 = "bcdfghjkmnpqrstvwxz23456789"
_LINE_0_2 = re.compile(rf"^\W*([{_LETTERS_0_2}]{{4}})\W*?\|[^|\n]*\|(.*)$", re.MULTILINE)


def mark_until_0_2(job_id: str, ordinal: int) -> str:
    """What a row was called."""
    digest = int.from_bytes(blake2b(f"{job_id} {ordinal}".encode(), digest_size=8).digest(), "big")
    letters = list[str]()
    for _ in range(4):
        digest, place = divmod(digest, len(_LETTERS_0_2))
        letters.append(_LETTERS_0_2[place])
    return "".join(letters)


def _answers_until_0_2(text: str) -> Iterator[_Answer]:
    for mark, answer in _LINE_0_2.findall(text):
        yield _Answer(mark, "", answer.strip())
