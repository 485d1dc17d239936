"""Packs and the ladder: answers go to their rows by mark, and what is missing goes again."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.store.call_units import Asked, Ruling, Unit
from batch.tables import pack
from batch.tables.answer_validation import check_of
from batch.tables.followup import Ladder
from batch.tables.pack import MOST, Item, mark_until_0_2, marks_of
from batch.tables.reask import ALONE, PACKED, SMALLER
from batch.tables.row_requests import Asker, fitted, requests_of
from batch.tables.table_reader import Row
from jobs.prices import ModelPrice, Offer, Rates
from jobs.request import Request
from jobs.result import Result, ResultState
from jobs.table_task import TableForm, Task

TASK = Task(
    prompt="Тон отзыва: {{ review }}",
    choices=("да", "нет"),
    pack=8,
    repairs=1,
    escalate="big/model",
    form=TableForm(columns=("review",)),
)
TEXTS = (
    "Отлично всё!",
    "плохо",
    "good one",
    "",
    "Так себе, но «сойдёт»",
    "7 из 10",
    "Ок",
    "Отлично, да",
)
ANSWERED = Result(0, ResultState.COMPLETED, "", "", 200, 1, "call", 0.1, 0.0)


class Rows:
    """A table of one column."""

    form = TASK.form

    def rows(self) -> list[Row]:
        return [Row(number, (text,)) for number, text in enumerate(TEXTS)]


def ladder(task: Task = TASK) -> tuple[Ladder, list[Asked]]:
    asker = Asker(task, "small/model", 10)
    requests = requests_of(asker, "small/model", 10, Rows())  # type: ignore[arg-type]
    bodies = [request.body for request in requests if isinstance(request, Request)]
    return Ladder("job", task, asker), [Asked(n, body) for n, body in enumerate(bodies)]


def test_every_rung_asks_with_the_tiers_and_the_bounds_own_name() -> None:
    asker = Asker(TASK, "small/model", 10, tier="flex", limit="max_completion_tokens")
    table = requests_of(asker, "small/model", 10, Rows())  # type: ignore[arg-type]
    rows = [Asked(n, each.body) for n, each in enumerate(table) if isinstance(each, Request)]
    units = [
        *Ladder("job", TASK, asker).units(rows),
        *Ladder("job", TASK, asker).units([replace(row, rung=ALONE + 1) for row in rows]),
    ]

    for unit in units:
        body = json.loads(unit.body)
        assert body["service_tier"] == "flex"
        assert body["max_completion_tokens"] == unit.max_output
        assert "max_tokens" not in body


ALL = tuple(sorted(range(8), key=lambda n: (len(TEXTS[n]), n)))
"""The members of the pack of all rows."""


def line(row: int, said: str = "да", members: tuple[int, ...] = ALL, of: int | None = None) -> str:
    """An answer under the mark of `row`, which may be that `of` another one."""
    marks = marks_of("job", members)
    return f"{marks[row][0]} {marks[row if of is None else of][1]} {said}"


def raw(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def ruled(lines: Sequence[str], before: str = "", after: str = "") -> dict[int, Ruling]:
    steps, rows = ladder()
    return steps.rule(PACKED, rows, ANSWERED, raw(before + "\n".join(lines) + after), ALL)


def test_rows_travel_together_by_their_length_and_their_instruction_stands_first() -> None:
    steps, rows = ladder()
    (unit,) = steps.units(rows)

    prompt = json.loads(unit.body)["messages"][0]["content"]
    assert sorted(unit.members) == list(range(8))
    assert unit.members == ALL
    assert prompt.startswith("Тон отзыва:\n\nНиже 8 записей")
    marks = marks_of("job", ALL)
    assert all(f'{marks[n][0]} "{text}" {marks[n][1]}' in prompt for n, text in enumerate(TEXTS))
    assert json.loads(unit.body)["max_tokens"] == unit.max_output


def test_a_pack_keeps_within_what_the_model_can_read_and_write() -> None:
    few = ladder(TASK.model_copy(update={"longest_answer": 60}))  # 26 tokens are left for each
    short = ladder(TASK.model_copy(update={"context": 1024 + 60}))

    assert [len(unit.members) for unit in few[0].units(few[1])] == [2, 2, 2, 2]
    assert all((unit.max_output or 0) <= 60 for unit in few[0].units(few[1]))
    sizes = [
        len("".join(TEXTS[n] for n in unit.members).encode()) for unit in short[0].units(short[1])
    ]
    assert len(sizes) > 1
    assert max(sizes) <= 60


@pytest.mark.parametrize(
    ("wish", "parameters", "where"),
    [
        ({"answer_schema": "{}"}, ("structured_outputs",), "response_format"),
        ({"answer_schema": "{}"}, ("response_format",), "prompt"),
        ({"answer_schema": "{}"}, (), "prompt"),
        ({"answer_schema": "{}", "pack": 5}, ("structured_outputs",), "prompt"),
        ({"answer_schema": "{}", "escalate": "x/y"}, ("structured_outputs",), "prompt"),
        ({"choices": ("a", "b")}, ("structured_outputs",), "prompt"),
        ({"answer_schema": "{}", "instructions_in": "both"}, (), "both"),
    ],
)
def test_where_an_answer_is_described_goes_by_what_the_model_heeds(
    wish: dict[str, Any], parameters: tuple[str, ...], where: str
) -> None:
    offers = (Offer("a", Rates(), max_completion_tokens=900), Offer("b", Rates()))
    model = ModelPrice("m", offers, 4000, parameters=parameters)
    found = fitted(Task(prompt="{{ t }}", **wish), model)

    assert (found.instructions_in, found.longest_answer, found.context) == (where, 900, 4000)
    assert fitted(Task(prompt="{{ t }}", answer_schema="{}"), None).instructions_in == "prompt"


def test_every_answer_of_a_pack_goes_to_the_row_that_bears_its_mark() -> None:
    lines = [line(n, "да" if n % 2 else "нет") for n in reversed(range(8))]

    assert ruled(lines, "Конечно!\n```\n", "\n```") == dict.fromkeys(range(8), Ruling())


def test_missing_doubled_foreign_swapped_and_wrong_answers_go_again_and_no_others() -> None:
    lines = [
        line(1), line(1, "нет"),  # doubled; row 0 is missing
        line(2).replace(marks_of("job", ALL)[2][0], "aa"),  # foreign
        line(3),
        line(4, of=5),  # another row's answer under this mark
        line(5, "не знаю"),
        line(6), line(7),
    ]  # fmt: skip
    found = ruled(lines)

    assert {row for row, ruling in found.items() if ruling == Ruling()} == {3, 6, 7}
    again = {row: ruling.problem for row, ruling in found.items() if ruling.rung == SMALLER}
    assert again == {
        0: "the answer lacks this row",
        1: "the answer has this row twice",
        2: "the answer lacks this row",
        4: "the answer may be another row's",
        5: "'не знаю' is none of: да, нет",
    }


def test_of_an_answer_that_was_cut_off_the_whole_lines_count() -> None:
    found = ruled([line(0), line(1), line(2)[:6]])

    assert [row for row, ruling in found.items() if ruling == Ruling()] == [0, 1]


def test_objects_are_understood_as_well_as_lines() -> None:
    answers = [
        {"id": mark, "code": code, "answer": "да"} for mark, code in marks_of("job", ALL).values()
    ]

    assert ruled([json.dumps({"answers": answers})]) == dict.fromkeys(range(8), Ruling())


def test_a_pack_that_is_refused_or_comes_to_nothing_goes_again_in_smaller_ones() -> None:
    steps, rows = ladder()
    failed = replace_state(400)

    empty = replace_state(200, "endpoint.empty")

    for one in (failed, empty):
        assert {each.rung for each in steps.rule(PACKED, rows, one, b"", ALL).values()} == {SMALLER}
    assert steps.rule(PACKED, rows, replace_state(503), b"", ALL) == {}
    assert steps.rule(ALONE, rows[:1], empty, b"", (0,)) == {}


def replace_state(status: int, code: str = "x") -> Result:
    return Result(0, ResultState.FAILED, code, "no", status, 1, "call", 0.1, 0.0)


def test_a_row_climbs_the_ladder_and_is_given_up_at_its_top() -> None:
    steps, rows = ladder()
    row, units = rows[1], list[Unit]()
    for _ in range(9):
        (unit,) = steps.units([row])
        units.append(unit)
        ruling = steps.rule(unit.rung, [row], ANSWERED, raw("не скажу"), unit.members)[1]
        if ruling.rung is None:
            break
        row = replace(row, rung=ruling.rung, answer=raw("не скажу"), problem=ruling.problem)

    alone, repair, other = units
    assert alone.body == rows[1].body
    messages = json.loads(repair.body)["messages"]
    assert messages[-2] == {"role": "assistant", "content": "не скажу"}
    assert "не подходит (1): 'не скажу' is none of: да, нет" in messages[-1]["content"]
    assert [unit.model for unit in units] == [None, None, "big/model"]
    assert json.loads(other.body)["model"] == "big/model"
    assert ruling.problem == "'не скажу' is none of: да, нет"


def test_an_answer_with_half_a_surrogate_pair_is_quoted_and_handed_out() -> None:
    steps, rows = ladder()
    (repair,) = steps.units([replace(rows[1], rung=ALONE + 1, answer=raw("да\ud800"), problem="")])
    id_, code = marks_of("job", ALL)[1]
    of_pack = raw(json.dumps({"id": id_, "code": code, "answer": "да\udc80"}))

    assert json.loads(repair.body)["messages"][-2]["content"] == "да\ufffd"
    own = json.loads(steps.own(1, ALL, of_pack))["choices"][0]["message"]
    assert own["content"] == "да\ufffd"


def test_an_answer_of_a_pack_is_handed_out_as_if_it_had_come_alone() -> None:
    steps, _ = ladder()
    whole = raw("\n".join(line(n, "да" if n else "нет") for n in range(8)))
    own = [json.loads(steps.own(n, ALL, whole)) for n in range(2)]

    assert [each["choices"][0]["message"]["content"] for each in own] == ["нет", "да"]
    assert steps.own(0, (0,), raw("нет")) == raw("нет")


def test_answers_that_version_0_2_packed_are_still_handed_out() -> None:
    steps, _ = ladder()
    lines = [f"{mark_until_0_2('job', n)}|{TEXTS[n]}|{'да' if n else 'нет'}" for n in range(8)]
    own = [json.loads(steps.own(n, ALL, raw("\n".join(lines)))) for n in range(2)]

    assert mark_until_0_2("job", 0) == "9r7c"
    assert [each["choices"][0]["message"]["content"] for each in own] == ["нет", "да"]


def test_marks_are_each_rows_own_and_tell_nothing_of_its_place() -> None:
    members = tuple(range(100, 100 + MOST))
    marks = marks_of("job", members)
    names = [name for pair in marks.values() for name in pair]

    assert len(set(names)) == 2 * MOST
    assert [pair for pair, _ in marks.values()] != sorted(pair for pair, _ in marks.values())
    assert marks_of("job", members) == marks != marks_of("job", members[1:])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_model_answers_every_row_gets_its_own_answer_or_is_given_up(
    data: st.DataObject,
) -> None:
    steps, rows = ladder()
    ends: dict[int, str] = {}
    waiting, calls = rows, 0
    while waiting:
        again = []
        for unit in steps.units(waiting):
            calls += 1
            members = [row for row in waiting if row.ordinal in unit.members]
            said = _said(data, unit)
            for number, ruling in steps.rule(
                unit.rung, members, ANSWERED, raw(said), unit.members
            ).items():
                if ruling.rung is None:
                    assert number not in ends
                    ends[number] = ruling.problem or _own(steps, number, unit, said)
                else:
                    again.append(replace(rows[number], rung=ruling.rung, answer=raw(said)))
        waiting = again

    assert set(ends) == set(range(8))
    truth = {n: "да" if n % 2 else "нет" for n in range(8)}
    assert all(end == truth[n] or "none of" in end for n, end in ends.items())
    assert calls <= 1 + 4 + 8 * 3


def _own(steps: Ladder, ordinal: int, unit: Unit, said: str) -> str:
    content = json.loads(steps.own(ordinal, unit.members, raw(said)))["choices"][0]
    return str(content["message"]["content"])


def _said(data: st.DataObject, unit: Unit) -> str:
    """What a model that errs says of some rows, each of which has one truth."""
    how = st.sampled_from(["good", "good", "drop", "double", "wrong", "swap"])
    told = []
    for place, row in enumerate(unit.members):
        truth = "да" if row % 2 else "нет"
        drawn = data.draw(how)
        if unit.rung >= ALONE:
            return "что-то" if drawn == "wrong" else truth
        other = unit.members[place - 1]
        if drawn == "swap" and other != row:
            told.append(line(row, "да" if other % 2 else "нет", unit.members, of=other))
        elif drawn != "drop":
            told.append(line(row, "что-то" if drawn == "wrong" else truth, unit.members))
            told += told[-1:] * (drawn == "double")
    return "\n".join(told)


@pytest.mark.parametrize(
    "text",
    [
        "kx qz да",
        "1. kx | qz | да",
        "- kx: qz: да",
        "Sure, these are the answers:\n\n**kx** qz да\n",
        '{"answers": [{"id": "kx", "code": "qz", "answer": "да"}]}',
        'kx qz {\n "id": "zz",\n "answer": "да"\n}',
    ],
)
def test_an_answer_is_found_however_its_line_is_decorated(text: str) -> None:
    found = pack.verdicts(text, [Item("kx", "qz", "")], check_of(TASK))
    assert found["kx"].values == ({"answer": "да"} if "zz" not in text else {})
    assert pack.answers_by_mark(text)["kx"] in ("да", text[6:])


def test_a_minus_is_part_of_the_answer() -> None:
    assert pack.answers_by_mark("kx qz -1\nzx wz: -2") == {"kx": "-1", "zx": "-2"}


@pytest.mark.parametrize(
    ("longest", "sizes"), [(40, []), (60, [[2, 2, 2, 2]]), (None, [[2] * 4, [5, 3]])]
)
def test_a_trial_is_of_packs_that_can_be_and_each_size_is_tried_once(
    longest: int | None, sizes: list[list[int]]
) -> None:
    wish = {"auto_pack": True, "longest_answer": longest}
    tried = ladder(TASK.model_copy(update=wish))

    found = list(tried[0].trials(tried[1]))

    assert [sorted((len(unit.members) for unit in each), reverse=True) for each in found] == sizes
