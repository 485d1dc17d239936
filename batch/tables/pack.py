"""Several rows in one call: they travel with marks, and answers come back by mark, never by place.

An answer counts for a row only if it bears the row's mark, once, and repeats how the row's text
begins. So an answer that a model put under a neighbour's mark is noticed, and the row goes again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from batch.tables.check import Check, Verdict

_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
"""Without vowels, so that no mark is a word, and without what looks alike."""

_MARK_SIZE = 4
_WORD = re.compile(r"\w+")
_OBJECT = re.compile(r"\{")
_LINE = re.compile(rf"^\W*([{_LETTERS}]{{{_MARK_SIZE}}})\W*?\|([^|\n]*)\|(.*)$", re.MULTILINE)
_decode = json.JSONDecoder().raw_decode

EVIDENCE = 8
"""Words of a row that its answer repeats at most."""

_WORDS = (
    ("первое слово", "first word"),
    ("два первых слова", "first two words"),
    ("три первых слова", "first three words"),
)
_RUSSIAN = (
    "Ниже {count} записей, по одной в строке: id и текст. Выполни задание для каждой записи так,"
    " будто других нет. Ответь только {count} {form}."
)
_ENGLISH = (
    "Below are {count} records, one in a line: id and text. Do the task for each record as if it"
    " were the only one. Answer only with {count} {form}."
)
_LINES = (
    "строками вида id|{words} текста|ответ",
    "lines of the form id|{words} of the text|answer",
)
_OBJECTS = (
    'объектами JSON вида {{"id": "…", "begins": "{words} текста", "answer": {answer}}}',
    'JSON objects of the form {{"id": "…", "begins": "{words} of the text", "answer": {answer}}}',
)


@dataclass(frozen=True, slots=True)
class Item:
    """A row in a pack: its mark, and the part of the prompt that is its own."""

    mark: str
    text: str


def mark_of(job_id: str, number: int) -> str:
    """What a row is called in packs: the same in each of them, and nothing like its place."""
    digest = int.from_bytes(blake2b(f"{job_id} {number}".encode(), digest_size=8).digest(), "big")
    letters = list[str]()
    for _ in range(_MARK_SIZE):
        digest, place = divmod(digest, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)


def message(
    head: str, items: Sequence[Item], tail: str, answer: str, *, russian: bool, lines: bool
) -> str:
    """The prompt of a pack; the instruction stands first, so that prompt caches know it.

    `answer` tells what one looks like. `lines`: answers are short texts, which need no JSON; it
    costs a multiple of what they say.
    """
    other = not russian
    words = _words(_words_needed(items), english=other)
    form = (_LINES if lines else _OBJECTS)[other].format(words=words, answer=answer)
    told = (_ENGLISH if other else _RUSSIAN).format(count=len(items), form=form)
    if lines:
        told += f" {'Answers' if other else 'Ответы'}: {answer}"
    records = "\n".join(
        f"{item.mark} {json.dumps(item.text, ensure_ascii=False)}" for item in items
    )
    task = "\n\n".join(part for part in (head.strip(), tail.strip()) if part)
    return f"{task}\n\n{told}\n\n{records}"


def _words_needed(items: Sequence[Item]) -> int:
    """So few words tell the rows of a pack apart: what models write costs more than what they
    read.
    """
    # Of rows that say the same the answers may be swapped.
    own = {item.text: evidence(item.text) for item in items}
    for count in range(1, EVIDENCE):
        if len({words[:count] for words in own.values()}) == len(own):
            return count
    return EVIDENCE


def evidence(text: str) -> tuple[str, ...]:
    """How a row's text begins: no two rows of a pack that are not the same have it alike."""
    return tuple(_WORD.findall(text.casefold())[:EVIDENCE])


def _words(count: int, *, english: bool) -> str:
    if count <= len(_WORDS):
        return _WORDS[count - 1][english]
    return f"first {count} words" if english else f"{count} первых слов{'а' * (count < 5)}"


def verdicts(text: str, items: Sequence[Item], check: Check) -> dict[str, Verdict]:
    """By mark what a pack's answer says of each row; rows without a verdict were not answered."""
    known, needed = {item.mark: item for item in items}, _words_needed(items)
    found = [each for each in _answers(text) if each.mark in known]
    count = Counter(each.mark for each in found)
    told: dict[str, Verdict] = {}
    for each in found:
        if count[each.mark] > 1:
            told[each.mark] = Verdict(problem="the answer has this row twice")
        elif not _is_its_own(each, known, needed):
            told[each.mark] = Verdict(problem="the answer may be another row's")
        else:
            told[each.mark] = check(each.answer)
    return told


def answers_by_mark(text: str) -> dict[str, str]:
    """What a pack's answer says of each row that it names once."""
    found = list(_answers(text))
    count = Counter(each.mark for each in found)
    return {each.mark: each.answer for each in found if count[each.mark] == 1}


class _Answer(NamedTuple):
    mark: str
    begins: str
    answer: str


def _answers(text: str) -> Iterator[_Answer]:
    """Every answer to a row in a text, as an object or as a line, whatever is around."""
    objects = list(_objects(text))
    for each in objects:
        if "answer" in each:
            begins, answer = str(each.get("begins", "")), _as_text(each["answer"])
            yield _Answer(str(each.get("id")), begins, answer)
    if not objects:
        for mark, begins, answer in _LINE.findall(text):
            yield _Answer(mark, begins, answer.strip())


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


def _is_its_own(answer: _Answer, known: Mapping[str, Item], needed: int) -> bool:
    """Whether an answer repeats how its row begins, and no other row may be meant as well."""
    said = tuple(_WORD.findall(answer.begins.casefold()))
    own = known[answer.mark].text
    if said[:needed] == evidence(own)[:needed]:
        return True
    # A model may cut the last word off, but not leave one out or name others.
    return _may_be(said, own, needed) and not any(
        _may_be(said, item.text, needed) for item in known.values() if item.text != own
    )


def _may_be(said: tuple[str, ...], text: str, needed: int) -> bool:
    own = evidence(text)[:needed]
    whole = len(said) >= len(own) if len(own) == needed else len(said) == len(own)
    return whole and all(mine.startswith(theirs) for mine, theirs in zip(own, said, strict=False))


def _as_text(answer: Any) -> str:
    """An answer as if it had come alone."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
