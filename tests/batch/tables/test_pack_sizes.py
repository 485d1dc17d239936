"""Packs held against single calls, and answers against known ones."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from batch.estimator.character_counts import shape_of_text
from batch.estimator.cost_range import Packing, reckon
from batch.estimator.sample import Crowd, Sample
from batch.tables.file_kinds import open_table
from batch.tables.gold import read_gold
from batch.tables.pack_sizes import Packs, Size, chosen_of, comparable, measure, sizes_of
from batch.tables.score import score, text, wilson
from jobs.errors import UsageError
from jobs.table_task import TableForm, Task
from tests.batch.making import MODEL
from tests.batch.tables.playing import Play, table_job

CHOICES = ("good", "bad", "so-so")


def task(**wish: object) -> Task:
    return Task.model_validate({"prompt": "Tone: {{ review }}", "choices": CHOICES, **wish})


def size(pack: int, rub: str, answered: int = 20, agreed: int = 20, rows: int = 20) -> Size:
    return Size(pack, rows, answered, agreed, 1, Decimal(rub), 100)


def test_the_same_rows_are_compared_alone_and_in_packs_and_pay_for_it(tmp_path: Path) -> None:
    dice = Random(2)
    rows = [f"w{n} {'x' * (n % 7)} label: {dice.choice(CHOICES)}" for n in range(40)]
    wish = task(auto_pack=True)
    store = table_job(tmp_path, rows, wish, sample=20)
    play = Play(store, dice)

    while play.turn():
        pass
    packs = measure(store, wish, store.trials.head(20))

    assert [each.pack for each in packs.sizes] == [1, 2, 5, 10, 20]
    assert all(each.rows == each.answered == each.agreed == 20 for each in packs.sizes)
    assert [each.calls for each in packs.sizes] == [20, 10, 4, 2, 1]
    assert store.job().finished == 20
    assert sum(each.rub or 0 for each in packs.sizes) == store.job().settled_rub
    assert packs.chosen > 1
    # A trial ends nothing and feeds nothing again, and the job goes on.
    assert store.queue.waiting(9, 20) == []
    store.queue.leave_head()
    play.run()
    assert store.job().completed == 40


@pytest.mark.parametrize(
    ("tried", "chosen"),
    [
        ([size(2, "5"), size(5, "3"), size(10, "2")], 10),
        ([size(2, "5"), size(5, "3", agreed=19), size(10, "2")], 10),
        ([size(2, "5"), size(5, "3"), size(10, "2", agreed=19)], 5),
        ([size(2, "5"), size(5, "3"), size(10, "2", answered=9, agreed=9)], 5),
        ([size(2, "5"), size(5, "6")], 2),
        ([size(2, "5", agreed=10)], 1),
        ([], 1),
    ],
)
def test_the_largest_pack_is_chosen_that_agrees_and_saves(tried: list[Size], chosen: int) -> None:
    assert chosen_of([size(1, "10"), *tried], task()) == chosen


def test_a_pack_larger_than_the_sample_is_told_by_what_a_call_and_a_row_cost() -> None:
    # A call costs 1, and each of its rows 0.1 more.
    tried = [size(10, "4"), size(20, "3")]
    assert sizes_of(task(pack=50), 20) == (10, 20)
    ratio = Packs([size(1, "22"), *tried], 50, 0.98).ratio
    assert ratio == pytest.approx((1 / 50 + 0.1) / 1.1)


def test_free_text_need_not_be_alike_where_there_is_something_else() -> None:
    schema = {"properties": {"why": {"type": "string"}, "tone": {"enum": ["a", "b"]}}}
    assert comparable(task(choices=(), answer_schema=json.dumps(schema))) == ("tone",)
    del schema["properties"]["tone"]
    assert comparable(task(choices=(), answer_schema=json.dumps(schema))) == ("why",)


def test_accuracy_has_its_interval_and_says_what_is_taken_for_what() -> None:
    pairs = [("good", "good")] * 8 + [("good", "bad")] + [("bad", "BAD")] * 5 + [("bad", None)]
    found = score(({"answer": wanted}, {"answer": told}) for wanted, told in pairs)

    assert (found.rows, found.right) == (15, 13)
    assert found.interval == wilson(13, 15) == pytest.approx((0.6212, 0.9626), abs=1e-4)
    (column,) = found.columns
    good, bad = column.classes
    assert good.precision == 1.0
    assert good.recall == pytest.approx(8 / 9)
    assert bad.precision == bad.recall == pytest.approx(5 / 6)
    assert ("bad", "", 1) in column.pairs
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("1234567", 1234567, True),
        ("1234567", "1234568", False),
        ("12345.67", "12345.71", False),
        ("1.50", 1.5, True),
        ("1e3", "1000", True),
        ("9" * 40, "9" * 39 + "8", False),
        ("NaN", "nan", True),
        ("Да", "да ", True),
        ("1E+999999", "1", False),
    ],
)
def test_figures_are_compared_to_their_last_digit(one: object, other: object, alike: bool) -> None:
    assert (text(one) == text(other)) is alike


@pytest.mark.parametrize(
    ("gold", "told"),
    [
        ("id,answer\n1,good\n3,bad\n", {2: {"answer": "good"}, 4: {"answer": "bad"}}),
        ("id,expected\n2,so-so\n", {3: {"answer": "so-so"}}),
        ("id,answer\n1,fine\n", "row 2: 'fine' is none of: good, bad, so-so"),
        (
            "id,answer\n9,good\n",
            "has no row for 1 of the 1 rows of .*; the first has id '9'",
        ),
        ("name,answer\nx,good\n", "shares no column with the table"),
        ("id,a,b\n1,good,bad\n", "has no column of expected answers"),
        ("id,answer\n1,\n", "holds no expected answers"),
        ("id,answer\n1,good\n1,good\n", {2: {"answer": "good"}}),
        ("id,answer\n1,good\n3,bad\n1,bad\n", "row 4: another answer was expected for '1'"),
    ],
)
def test_known_answers_are_matched_by_key(
    tmp_path: Path, gold: str, told: dict[int, dict[str, str]] | str
) -> None:
    (tmp_path / "t.csv").write_text("id,review\n1,a\n2,b\n3,c\n")
    (tmp_path / "gold.csv").write_text(gold)
    table = open_table(tmp_path / "t.csv", "t.csv", TableForm())
    if isinstance(told, str):
        with pytest.raises(UsageError, match=told):
            read_gold(tmp_path / "gold.csv", task(), table)
    else:
        found = read_gold(tmp_path / "gold.csv", task(), table)
        assert {number: json.loads(text) for number, text in found.items()} == told


def test_before_a_sample_rows_of_a_pack_share_what_they_have_in_common() -> None:
    crowd, shape = {MODEL: Crowd(100, 100 * 1700)}, shape_of_text("a review of some words " * 5)
    samples = [Sample(MODEL, 20, 1700, shape)]
    alone = reckon(crowd, samples, None, own={}, earlier={})
    shared = shape_of_text("Tell the tone of a review")
    packed = reckon(crowd, samples, None, own={}, earlier={}, packing=Packing(50, shared))

    # The endpoint's hidden tokens and the instruction are asked for once in fifty rows.
    assert packed.prompt.likely < alone.prompt.likely / 5
    assert alone.output.likely < packed.output.likely < 1.3 * alone.output.likely
    assert reckon(
        crowd, samples, None, own={}, earlier={}, packing=Packing(1, shared)
    ).prompt.likely == pytest.approx(alone.prompt.likely + 100 * 6)


@pytest.mark.parametrize(("most", "bare"), [(20, True), (199, True), (4000, False), (None, False)])
def test_before_a_sample_an_answer_is_as_long_as_its_choices(most: int | None, bare: bool) -> None:
    crowd = {MODEL: Crowd(100, 100 * 1700)}
    samples = [Sample(MODEL, most, 1700, shape_of_text("a review of some words"))]
    told = reckon(crowd, samples, None, own={}, earlier={}, choices=CHOICES).output
    open_ended = reckon(crowd, samples, None, own={}, earlier={}).output

    # A model that is allowed to think may do so: that is no matter of the choices.
    assert told.high == open_ended.high
    assert (100 <= told.likely <= 300) if bare else told == open_ended
