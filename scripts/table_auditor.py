"""Holds a table's job against the endpoint's book: rows, shares and truth (L11 to L13).

The table has a column `review`, in which the word behind "label:" is the true answer, as the
simulator knows it. Like `scripts.auditor` it imports nothing of the product.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from scripts.auditor import ZERO, Audit, Death, read_book, read_lines, was_in_flight

ENCODING = "cp1251"
_TRUTH = re.compile(r"label: ([\w-]+)")

End = dict[str, Any]


def audit_table(
    book: Path,
    job: Path,
    source: Path,
    output: Path,
    *,
    since: int = 0,
    deaths: Sequence[Death] = (),
    finished: bool = True,
) -> Audit:
    """Checks a job that alone made the book's calls behind number `since`; L8 is the auditor's."""
    with localcontext() as context:
        context.prec = 60
        found = Audit()
        entries = [entry for entry in read_book(book) if entry["call"] > since]
        calls = _calls(job)
        _nothing_unseen(entries, calls, deaths, found)
        _money(entries, calls, found)
        if finished:
            rows = _read(source)
            found.rows = len(rows)
            ends = _ends(output, found)
            _rows_end_once(rows, ends, _read(*output.glob("*.answered.csv")), found)
            _raw_is_kept(entries, ends, found)
            _shares(ends, output, found)
        return found


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding=ENCODING, newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


def _calls(job: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(f"file:{job / 'job.sqlite'}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return db.execute("SELECT * FROM calls").fetchall()


def _nothing_unseen(
    entries: list[End], calls: list[sqlite3.Row], deaths: Sequence[Death], found: Audit
) -> None:
    """Calls that were billed are in the ledger, but for those in flight in a worker that died."""
    known = {call["generation_id"] for call in calls}
    found.check("L7", len(known - {""}) == sum(map(bool, known)), "a call is booked twice")
    asked = Counter[str]()
    for entry in entries:
        if not Decimal(entry.get("billed") or 0):
            continue
        found.billed_calls += 1
        asked[entry["body"]] += 1
        cut = was_in_flight(entry, deaths)
        found.in_flight += cut
        found.check("L4", cut or entry["id"] in known, f"call {entry['call']} is not in the ledger")
    found.bought_twice = sum(count - 1 for count in asked.values())
    useless = sum(call["code"] != "" for call in calls)
    found.check(
        "L6",
        found.bought_twice <= found.in_flight + useless,
        f"{found.bought_twice} questions were asked again as they were, {found.in_flight} calls"
        f" were in flight at kills, {useless} had useless answers",
    )


def _money(entries: list[End], calls: list[sqlite3.Row], found: Audit) -> None:
    found.endpoint_rub = sum((Decimal(each.get("billed") or 0) for each in entries), ZERO)
    known = [Decimal(call["cost"]) for call in calls if call["billing"] == "known"]
    unknown = [Decimal(call["bound"] or 0) for call in calls if call["billing"] == "unknown"]
    found.ledger_rub, found.booked_rub = sum(known, ZERO), sum(unknown, ZERO)
    found.uncertain = len(unknown)
    most = found.ledger_rub + found.booked_rub
    held = found.ledger_rub <= found.endpoint_rub <= most
    told = f"{found.endpoint_rub} is not within {found.ledger_rub} and {most}"
    found.check("L7", held, told)


def _ends(output: Path, found: Audit) -> dict[int, End]:
    ends: dict[int, End] = {}
    for name in ("output.jsonl", "errors.jsonl"):
        last = 0
        for end in read_lines(output / name):
            line = end["nightshift"]["line"]
            found.check("L11", line not in ends, f"row {line} ends twice")
            found.check("L11", line > last, f"{name} is not in the table's order at row {line}")
            ends[line], last = {**end, "_file": name}, line
            found.completed += name == "output.jsonl"
            found.failed += name == "errors.jsonl"
    return ends


def _rows_end_once(
    rows: list[dict[str, str]],
    ends: dict[int, End],
    table: list[dict[str, str]],
    found: Audit,
) -> None:
    same = len(rows) == len(table) == len(ends)
    found.check("L11", same, f"{len(rows)} rows, {len(table)} answered, {len(ends)} ends")
    for number, (own, beside) in enumerate(zip(rows, table, strict=False), start=2):
        kept = all(beside[name] == cell for name, cell in own.items())
        found.check("L11", kept, f"row {number} is not as it was")
        _one_row(number, own, beside, ends.get(number), found)


def _one_row(
    number: int, own: dict[str, str], beside: dict[str, str], end: End | None, found: Audit
) -> None:
    if end is None:
        found.check("L11", holds=False, what=f"row {number} has no end")
        return
    cost = Decimal(beside["cost_rub"]) == Decimal(end["nightshift"]["cost_rub"])
    found.check("L12", cost, f"row {number} costs one thing in the table, another in its line")
    if end["_file"] == "errors.jsonl":
        told = beside["error"] and not beside["answer"]
        found.check("L13", bool(told), f"row {number} failed and the table does not say so")
        return
    said = end["response"]["body"]["choices"][0]["message"]["content"]
    truth = _TRUTH.search(own["review"])
    is_true = truth is not None and beside["answer"] == truth[1]
    found.check("L11", is_true, f"row {number} has {beside['answer']!r}, which is another's")
    flagged = said == beside["answer"] or "repaired" in beside["flags"]
    found.check("L13", flagged, f"row {number} was repaired and does not say so")


def _raw_is_kept(entries: list[End], ends: dict[int, End], found: Audit) -> None:
    """What came alone stands as it was sent."""
    sent = {entry.get("sent") for entry in entries}
    for number, end in ends.items():
        alone = end["_file"] == "output.jsonl" and "together" not in end["nightshift"]
        faithful = not alone or not end["_body_hashes"].isdisjoint(sent)
        found.check("L13", faithful, f"row {number} has an answer that was never sent")


def _shares(ends: dict[int, End], output: Path, found: Audit) -> None:
    told = json.loads((output / "cost.json").read_text())
    costs = {line: Decimal(end["nightshift"]["cost_rub"]) for line, end in ends.items()}
    by_row = sum(costs.values(), ZERO)
    found.check("L12", by_row == found.ledger_rub, f"rows {by_row}, ledger {found.ledger_rub}")
    job = Decimal(told["cost_rub"])
    found.check("L12", job == found.ledger_rub, f"cost.json {job}, ledger {found.ledger_rub}")
    failed = sum((costs[n] for n, end in ends.items() if end["_file"] == "errors.jsonl"), ZERO)
    of_failed = Decimal(told["of_failed_requests_rub"])
    found.check("L12", failed == of_failed, f"errors {failed}, cost.json {of_failed}")
    models = sum((Decimal(each["cost_rub"]) for each in told["by_model"].values()), ZERO)
    found.check("L12", models == job, f"models {models}, job {job}")
    found.check("L16", told["lost"]["chunks"] == 0, f"{told['lost']} stay set aside")
