"""Checks of answers: form is mended, meaning is not."""

import json

import pytest

from batch.tables.answer_validation import Verdict, check_of, columns_of, text_of
from jobs.table_task import Task

CHOICES = Task(prompt="x", choices=("позитив", "негатив", "не позитив"))
SCHEMA = {
    "type": "object",
    "properties": {
        "tone": {"enum": ["good", "bad"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "why": {"type": "string"},
    },
    "required": ["tone", "score"],
    "additionalProperties": False,
}
BY_SCHEMA = Task(prompt="x", answer_schema=json.dumps(SCHEMA))


@pytest.mark.parametrize("text", ["позитив", " позитив\n", '{"answer": "позитив"}'])
def test_a_choice_as_it_was_asked_for_is_right(text: str) -> None:
    assert check_of(CHOICES)(text) == Verdict({"answer": "позитив"})


@pytest.mark.parametrize(
    "text",
    [
        "Позитив.", "ПОЗИТИВ", "«позитив»", "**позитив**", "```\nпозитив\n```", '"позитив"',
        '{"tone": "позитив"}', "Ответ: позитив", "Тон отзыва — Позитив.", '```json\n"позитив"\n```',
    ],
)  # fmt: skip
def test_a_choice_in_another_form_is_repaired(text: str) -> None:
    assert check_of(CHOICES)(text) == Verdict({"answer": "позитив"}, repaired=True)


@pytest.mark.parametrize(
    "text",
    [
        "", "хорошо", "не негатив", "позитив или негатив", "позитив, но не совсем",
        "Скорее позитив", '{"tone": "позитив", "other": 1}', "позитивный", "нет: позитив и негатив",
        "анти-позитив",
    ],
)  # fmt: skip
def test_what_could_mean_something_else_is_no_choice(text: str) -> None:
    assert check_of(CHOICES)(text).problem


def test_choices_that_only_punctuation_tells_apart_are_taken_to_the_letter() -> None:
    check = check_of(Task(prompt="x", choices=("да", "да!", "ещё", "еще", "Всё")))

    assert check("да!") == Verdict({"answer": "да!"})
    assert check("еще") == Verdict({"answer": "еще"})
    assert check("ДА").problem
    assert check("ЕЩЁ").problem
    assert check("все.") == Verdict({"answer": "Всё"}, repaired=True)


def test_the_longer_choice_is_not_taken_for_the_shorter() -> None:
    assert check_of(CHOICES)("Не позитив!").values == {"answer": "не позитив"}


GOOD = {"tone": "good", "score": 4, "why": None}


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('{"tone": "good", "score": 4}', False),
        ('```json\n{"tone": "good", "score": 4}\n```', True),
        ('Вот ответ:\n{"tone": "good", "score": 4}\nНадеюсь, помог!', True),
        ('{"tone": "good", "score": 4,}', True),
        ("{'tone': 'good', 'score': 4}", True),
        ('{tone: "good", score: 4}', True),
    ],
)
def test_an_answer_is_held_against_its_schema(text: str, repaired: bool) -> None:
    assert check_of(BY_SCHEMA)(text) == Verdict(GOOD, repaired, value={"tone": "good", "score": 4})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"tone": "good"}', "score"),
        ('{"tone": "fine", "score": 4}', "tone"),
        ('{"tone": "good", "score": 6}', "score"),
        ('{"tone": "good", "score": 4, "x": 1}', "x"),
        ("good", "holds no JSON"),
        ('{"tone": "good", "score": 4', "holds no JSON"),
        ('{"tone": "good", "why": "{", "score": 4', "holds no JSON"),
        ('{"tone": "good", "score": NaN}', "score"),
        ("[1, 2]", "object"),
    ],
)
def test_what_does_not_match_is_told(text: str, words: str) -> None:
    assert words in check_of(BY_SCHEMA)(text).problem


@pytest.mark.parametrize("text", ["[[1, 2], [3", "[[1, 2]", '[{"a": [1, 2}]'])
def test_a_list_that_was_cut_off_is_not_repaired(text: str) -> None:
    assert check_of(Task(prompt="x", answer_schema='{"type": "array"}'))(text).problem


def test_columns_are_those_of_the_schema() -> None:
    assert columns_of(BY_SCHEMA) == ("tone", "score", "why")
    assert columns_of(CHOICES) == columns_of(Task(prompt="x")) == ("answer",)


def test_without_a_check_every_text_is_right() -> None:
    assert check_of(Task(prompt="x"))("").values == {"answer": ""}


def test_half_a_surrogate_pair_is_replaced_for_no_file_and_no_request_can_hold_it() -> None:
    said = [{"type": "text", "text": "плохо \ud83d"}, {"type": "text", "text": "\ude00 \udc80"}]
    for content, text in ((said, "плохо \U0001f600 \ufffd"), ("\ud800", "\ufffd")):
        body = {"choices": [{"message": {"content": content}}]}
        assert text_of(json.dumps(body).encode()) == text

    check = check_of(BY_SCHEMA)
    escaped = r'{"tone": "good", "score": 4, "why": "\ud800"}'
    assert check(escaped).values == {"tone": "good", "score": 4, "why": "\ufffd"}
    assert check(escaped.replace("good", r"\ud800")).problem.startswith('tone: "\ufffd" is not')
