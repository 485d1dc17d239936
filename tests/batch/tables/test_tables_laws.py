"""Whatever is packed, asked again, escalated or a copy: rows, shares and truth (L11 to L13)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch.estimator.estimate import Size, estimate
from batch.estimator.followup_bounds import climbs_of
from batch.reports import write_all
from batch.store.answer_checks import how_checked
from batch.tables.file_kinds import FileTable
from batch.tables.table_reader import Row
from jobs.names import COST, ERRORS, OUTPUT
from jobs.prices import MARGIN
from jobs.table_task import Task
from tests.batch.making import MODEL
from tests.batch.tables.playing import LARGER, Play, read_table, table_job

CHOICES = ("good", "bad", "so-so")
WORDS = ("fast", "slow", "price", "quality", "delivery", "everything")


def task(**wish: Any) -> Task:
    return Task(**{"prompt": "Tone: {{ review }}", "choices": CHOICES, **wish})


def reviews(dice: Random, count: int) -> list[str]:
    """Some of them are alike; each has its truth in it."""
    texts = [
        f"{' '.join(dice.choices(WORDS, k=dice.randrange(1, 9)))} label: {dice.choice(CHOICES)}"
        for _ in range(count)
    ]
    return [dice.choice(texts) for _ in range(count)]


def truth(review: str) -> str:
    return review.rpartition("label: ")[2]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pack=st.sampled_from([1, 2, 5, 9]),
    repairs=st.integers(0, 2),
    escalate=st.booleans(),
    dedupe=st.sampled_from(["", "all"]),
    unknown=st.sampled_from([0.0, 0.2]),
)
@example(seed=10**6, pack=2, repairs=0, escalate=False, dedupe="all", unknown=0.0)
def test_rows_shares_and_truth_hold(
    seed: int, pack: int, repairs: int, escalate: bool, dedupe: str, unknown: float
) -> None:
    dice, folder = Random(seed), Path(tempfile.mkdtemp())
    rows = reviews(dice, 24)
    wish = task(pack=pack, repairs=repairs, escalate=LARGER if escalate else None)
    play = Play(table_job(folder, rows, wish, dedupe=dedupe), dice, 0.4, unknown)
    out = play.run()

    # L11: every row once, in order, its own answer beside it.
    table = read_table(out / "reviews.answered.csv")
    assert [row["review"] for row in table] == rows
    output, errors = lines(out / OUTPUT), lines(out / ERRORS)
    ends = {line["nightshift"]["line"]: line for line in (*output, *errors)}
    assert sorted(ends) == [*range(2, 26)]
    assert len(output) + len(errors) == 24
    checked = how_checked(play.store)
    assert checked is not None
    assert min(checked[:5]) >= 0
    assert sum(checked[:5]) == 24
    assert checked.invalid == len(errors)
    said = {
        line["nightshift"]["line"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in output
    }
    for number, row in enumerate(table, start=2):
        # L13: what is told as an answer is the truth, and what is not has a reason.
        assert row["answer"] == (truth(row["review"]) if number in said else "")
        assert (row["error"] == "") == (number in said)
        assert row["answer"] in said.get(number, "").lower()
        is_raw = said.get(number) in (None, row["answer"])
        assert is_raw or "repaired" in row["flags"]
    # L12: shares are exact.
    cost = json.loads((out / COST).read_text())
    by_row = sum((Decimal(line["nightshift"]["cost_rub"]) for line in ends.values()), Decimal(0))
    billed = Decimal(play.billed.total()).scaleb(-7)
    assert by_row == billed == Decimal(cost["cost_rub"]) == play.store.job().settled_rub
    assert sum(Decimal(row["cost_rub"]) for row in table) == billed
    of_failed = sum((Decimal(line["nightshift"]["cost_rub"]) for line in errors), Decimal(0))
    assert of_failed == Decimal(cost["of_failed_requests_rub"])
    models = {name: Decimal(each["cost_rub"]) for name, each in cost["by_model"].items()}
    assert models.get(MODEL, 0) == Decimal(play.billed[MODEL]).scaleb(-7)
    assert models.get(LARGER, 0) == Decimal(play.billed[LARGER]).scaleb(-7)
    assert sum(each["calls"] for each in cost["by_model"].values()) == play.calls
    # What was said to be the most is.
    if not unknown:
        sizes = (
            Size(1, MODEL, *each)
            for each in play.store.db.execute("SELECT prompt_bound, output_bound FROM requests")
        )
        most = estimate(sizes, play.store.prices(), beyond=climbs_of(play.store.job().spec).beyond)
        assert play.sent <= (most.tokens or 0)
        assert most.highest == (most.tokens or 0) * Decimal("0.001") * MARGIN
    shutil.rmtree(folder)


def test_a_table_is_read_once_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = table_job(tmp_path, ["fast label: good", "slow label: bad"], task())
    Play(store, Random(1)).run()
    read, rows = list[str](), FileTable.rows

    def counted(table: FileTable) -> Iterator[Row]:
        read.append(table.name)
        return rows(table)

    monkeypatch.setattr(FileTable, "rows", counted)

    write_all(store)

    assert read == ["reviews.csv"]
