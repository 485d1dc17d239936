"""Templates: strict about columns, and unable to do harm."""

import pytest

from batch.tables.prompt import compile_prompt
from batch.tables.row_requests import parts_of
from jobs.errors import UsageError

COLUMNS = ("review", "Название товара", "n")


def rendered(text: str, **cells: object) -> str:
    row = {"review": "r", "Название товара": "чай", "n": 3, **cells}
    return compile_prompt(text, COLUMNS, "--prompt")(row)


def test_cells_are_put_in_by_name() -> None:
    assert rendered("{{ review }}/{{ n }}") == "r/3"
    assert rendered("{{ Название_товара }} {{ row['Название товара'] }}") == "чай чай"
    assert rendered("{% if n > 2 %}many{% endif %} {{ review | upper }}") == "many R"
    assert rendered("{{ review.strip() }}|", review=" x ") == "x|"


def test_an_empty_cell_is_an_empty_text() -> None:
    assert rendered("[{{ review }}]", review=None) == "[]"


def test_what_a_cell_says_is_not_a_template() -> None:
    assert rendered("{{ review }}", review="{{ n }} {% raw %}") == "{{ n }} {% raw %}"


def test_an_unknown_column_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no column 'reveiw'") as told:
        rendered("{{ reveiw }}")

    assert told.value.hint == "did you mean {{ review }}?"


@pytest.mark.parametrize("text", ["{{ Название товара }}", "{{Название товара | upper}}"])
def test_a_column_of_several_words_is_told_how_to_be_written(text: str) -> None:
    with pytest.raises(UsageError) as told:
        rendered(text)

    assert told.value.hint == "write {{ row['Название товара'] }}: its name is not one word"


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ range(10) }}",
        "{{ row.__class__.__mro__ }}",
        "{% for a in n %}" * 3 + "." + "{% endfor %}" * 3,
        "{{ review",
        "{% if %}",
        "{{ lipsum() }}",
        "{{ review | random }}",
        "{{ 'x' * 100000000 }}",
    ],
)
def test_a_template_that_could_do_harm_is_refused(text: str) -> None:
    with pytest.raises((UsageError, ValueError)):
        rendered(text, review="x" * 300)


def test_a_message_has_a_longest_length() -> None:
    with pytest.raises(ValueError, match="longer than"):
        rendered("{% for a in review %}{{ review }}{% endfor %}", review="x" * 5000)


def test_a_prompt_is_cut_into_what_is_the_same_for_all_rows_and_what_is_not() -> None:
    assert parts_of("Тон: {{ a }}, {{ b }}!") == ("Тон: ", "{{ a }}, {{ b }}", "!")
    assert parts_of("no cells") == ("no cells", "", "")
