"""The auditor must be able to say no: each law is broken by hand, and it must notice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.auditor import Audit, audit
from scripts.table_auditor import ENCODING, audit_table
from scripts.torturing.campaigns import PLANS
from scripts.torturing.installation import Installation

ROWS = 30


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished jobs in a folder: book.jsonl, in.jsonl, out/, job/; and of a table table.jsonl
    (both in it), since, table.csv, table.out/, tables/.
    """
    folder = tmp_path_factory.mktemp("finished")
    plan = PLANS["tables"]
    with Installation(folder / "house", workers=1, endpoint=plan.faults) as house:
        job = house.submit("in", ROWS)
        house.wait("in")
        house.simulator.book()
        shutil.copy(house.folder / "book.jsonl", folder)
        house.task = plan.task
        of_table = house.submit("table", 2 * ROWS)
        house.wait("table")
        assert house.audit("table", of_table).broken == []
        (folder / "since").write_text(str(house.since["table"]))
        shutil.copy(house.folder / "book.jsonl", folder / "table.jsonl")
        shutil.copy(folder / "house" / "in.jsonl", folder)
        shutil.copy(house.input("table"), folder)
        shutil.copytree(house.output("table"), folder / "table.out")
        shutil.copytree(house.folder / "home" / "jobs" / of_table, folder / "tables")
        shutil.copytree(house.output("in"), folder / "out")
        shutil.copytree(house.folder / "home" / "jobs" / job, folder / "job")
    shutil.rmtree(folder / "house")
    return folder


@pytest.fixture
def case(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt."""
    shutil.copytree(finished, tmp_path / "case")
    return tmp_path / "case"


def judge(case: Path, **settings: object) -> Audit:
    return audit(
        case / "book.jsonl",
        case / "job",
        case / "in.jsonl",
        case / "out",
        **settings,  # type: ignore[arg-type]
    )


def laws(found: Audit) -> set[str]:
    return {law.partition(":")[0] for law in found.broken}


def change_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def test_an_honest_job_breaks_no_law(case: Path) -> None:
    found = judge(case, cap=Decimal(1000))

    assert found.broken == []
    assert (found.rows, found.completed, found.billed_calls) == (ROWS, ROWS, ROWS)
    assert found.endpoint_rub == found.ledger_rub > 0


def test_a_lost_row_is_noticed(case: Path) -> None:
    change_lines(case / "out" / "output.jsonl", lambda lines: lines[1:])

    assert "L1" in laws(judge(case))


def test_a_row_that_ends_twice_is_noticed(case: Path) -> None:
    change_lines(case / "out" / "output.jsonl", lambda lines: [*lines, lines[-1]])

    assert "L1" in laws(judge(case))


def test_another_prompt_under_an_old_id_is_noticed(case: Path) -> None:
    change_lines(case / "in.jsonl", lambda lines: [lines[0].replace("отзыв", "другой"), *lines[1:]])

    assert "L2" in laws(judge(case))


def test_an_answer_that_is_not_what_was_sent_is_noticed(case: Path) -> None:
    def swap(lines: list[str]) -> list[str]:
        first, second = json.loads(lines[0]), json.loads(lines[1])
        first["response"], second["response"] = second["response"], first["response"]
        return [json.dumps(first) + "\n", json.dumps(second) + "\n", *lines[2:]]

    change_lines(case / "out" / "output.jsonl", swap)

    assert "L3" in laws(judge(case))


def test_a_billed_call_that_the_ledger_does_not_know_is_noticed(case: Path) -> None:
    with sqlite3.connect(case / "job" / "job.sqlite") as db:
        db.execute("DELETE FROM calls WHERE ordinal = 3")

    assert {"L4", "L7"} <= laws(judge(case))


def buy_again(case: Path, received: float = 0.0, **first: object) -> None:
    """One more call like the first in the book, of which the `first` is another by this.

    It was `received` then, in the machine's monotonic seconds, and was over 200 ms later.
    """

    def change(lines: list[str]) -> list[str]:
        records = [json.loads(line) for line in lines]
        last = max(record["call"] for record in records)
        chats = [r for r in records if r["event"] == "received" and "chat" in r["path"]]
        mine = [r for r in records if r["call"] == chats[0]["call"]]
        again = [{**r, "call": last + 1} for r in mine]
        if received:
            for record in mine:
                record["mono"] = received + 0.2 * (record["event"] != "received")
        mine[-1] |= first
        return [json.dumps(record) + "\n" for record in (*records, *again)]

    change_lines(case / "book.jsonl", change)


def test_a_call_that_was_bought_twice_is_noticed(case: Path) -> None:
    buy_again(case)

    assert "L6" in laws(judge(case))
    assert "L6" not in laws(judge(case, allowed_twice=1))


@pytest.mark.parametrize(
    ("received", "delivery", "excused"),
    [
        (9.9, "client_gone", True),
        (10.05, "client_gone", True),  # sent before, and read by a busy endpoint after
        (10.25, "client_gone", False),
        (10.05, "cut", False),
        (9.7, "full", True),
        (9.6, "full", False),
        (10.05, "full", False),
    ],
)
def test_only_what_was_in_flight_in_a_worker_when_it_died_may_be_bought_again(
    received: float, delivery: str, excused: bool, case: Path
) -> None:
    buy_again(case, received, delivery=delivery)

    found = judge(case, deaths=[(10.0, 10.02)])

    assert ("L6" not in laws(found)) == excused
    assert (found.bought_twice, found.in_flight) == (1, int(excused))


def test_a_sum_that_is_off_by_the_last_digit_is_noticed(case: Path) -> None:
    path = case / "out" / "cost.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "cost_rub": told["cost_rub"][:-1]}))

    assert "L7" in laws(judge(case))


def test_a_cap_that_was_exceeded_is_noticed(case: Path) -> None:
    spent = judge(case).endpoint_rub

    assert "L8" in laws(judge(case, cap=spent - Decimal("0.0000001")))
    assert "L8" not in laws(judge(case, cap=spent))


def test_what_was_set_aside_and_did_not_come_home_is_noticed(case: Path) -> None:
    told = json.loads((case / "out" / "cost.json").read_text())
    spoilt = {**told, "lost": {"chunks": 1, "at_most_rub": "8.94"}, "exact": False}
    (case / "out" / "cost.json").write_text(json.dumps(spoilt))

    assert laws(judge(case)) == {"L16"}
    assert laws(judge(case, host_gone=True)) == set()


def test_the_auditor_of_tables_notices_what_breaks_rows_shares_and_truth(case: Path) -> None:
    out, answered = case / "table.out", "table.answered.csv"

    def spoilt(name: str, old: str = "", new: str = "") -> set[str]:
        encoding = ENCODING if name.endswith(".csv") else "utf-8"
        before = (out / name).read_bytes()
        assert old.encode(encoding) in before
        (out / name).write_bytes(before.replace(old.encode(encoding), new.encode(encoding), 1))
        places = (case / "table.jsonl", case / "tables", case / "table.csv", out)
        broken = laws(audit_table(*places, since=int((case / "since").read_text())))
        (out / name).write_bytes(before)
        return broken

    assert spoilt(answered) == set()
    assert spoilt(answered, ";позитив;", ";негатив;") == {"L11", "L13"}
    assert spoilt(answered, "label: ", "Label: ") == {"L11"}
    assert spoilt("cost.json", '"cost_rub": "', '"cost_rub": "1') >= {"L12"}
    assert spoilt("output.jsonl", '"cost_rub":"', '"cost_rub":"1') == {"L12"}
    line = (out / "output.jsonl").read_text().splitlines(keepends=True)[0]
    assert "L11" in spoilt("output.jsonl", line)
    assert "L11" in spoilt("output.jsonl", line, line + line)
