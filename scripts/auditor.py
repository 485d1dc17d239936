"""Holds three books against each other and names every law that is broken.

A  the endpoint's own book (what was asked, sent and billed)
B  the home's ledger (SQLite)
C  the output files

    python scripts/auditor.py --book BOOK --job HOME/jobs/JOB --input FILE --output DIR

It imports nothing of the product and needs only the standard library. The input must be whole as
it is sent: lines in OpenAI's Batch form, or bare bodies without a custom_id,
with model and max_tokens in each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

_json = json.JSONDecoder()
ZERO = Decimal(0)

Death = tuple[float, float]
"""Between which two moments of the machine's monotonic clock a worker was killed."""

ON_ITS_WAY_S = 0.15
"""How long an answer that was sent in full may take to the worker's journal: it waits in the socket
of a process that a busy machine does not run. And so long a request may wait to be read by the
endpoint. `scripts/torture window` measures 2.9 ms at most for the first.
"""


@dataclass
class Row:
    """One request: what the input asked, and what each book says of it."""

    line: int
    body_hash: str
    billed: list[dict[str, Any]] = field(default_factory=list)
    calls: list[sqlite3.Row] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    alike: str = ""
    """The same for requests that say the same, whatever the order of their members."""


@dataclass
class Audit:
    """What was found: broken laws, and figures for the report."""

    broken: list[str] = field(default_factory=list)
    rows: int = 0
    completed: int = 0
    failed: int = 0
    copies: int = 0
    billed_calls: int = 0
    bought_twice: int = 0
    in_flight: int = 0
    uncertain: int = 0
    endpoint_rub: Decimal = ZERO
    ledger_rub: Decimal = ZERO
    booked_rub: Decimal = ZERO

    def check(self, law: str, holds: bool, what: str) -> None:  # noqa: FBT001
        """Notes a broken law with what was seen."""
        if not holds:
            self.broken.append(f"{law}: {what}")


def audit(
    book: Path,
    job: Path,
    source: Path,
    output: Path,
    *,
    cap: Decimal | None = None,
    allowed_twice: int = 0,
    deaths: Sequence[Death] = (),
    finished: bool = True,
    host_gone: bool = False,
    only_this_input: bool = False,
) -> Audit:
    """Checks the laws L1–L8, and L16: at a job's end nothing that was set aside is lost, unless a
    host is gone with what a worker left there (`host_gone`).

    `only_this_input`: the book has calls of other jobs too; those that this input does not ask for
    are left out, so L2 says nothing of them.

    `deaths` are the kills of workers. A request may be bought again for each call of it that was
    in flight in a worker when that died, as the endpoint's book has it, and for no other;
    `Audit.in_flight` is their number. `allowed_twice` is how many more calls may have been billed
    in vain: the endpoint's faults that leave open whether a call was billed.
    """
    with localcontext() as context:
        context.prec = 60
        found = Audit()
        rows = _input(source)
        found.rows = len(rows)
        entries = read_book(book)
        if only_this_input:
            asked = {row.body_hash for row in rows.values()}
            entries = [entry for entry in entries if entry["body"] in asked]
        _sort_in(rows, entries, _ledger(job), found)
        _rows_end_once(rows, output, found, finished=finished)
        _answers_are_what_was_sent(rows, entries, found)
        _copies_are_copies(rows, found)
        _nothing_unseen(rows, found)
        _paid_twice(rows, found, allowed_twice, deaths)
        _money(rows, entries, output, found, finished=finished)
        _cap(entries, cap, found)
        if finished and not host_gone:
            _nothing_lost(output, found)
        return found


# ---- reading ---------------------------------------------------------------------------------


def _input(source: Path) -> dict[str, Row]:
    rows = {}
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode().rstrip("\r\n")
            request = json.loads(text)
            body = _member(text, "body") if "body" in request else text
            name = request.get("custom_id", f"line-{number}")
            rows[name] = Row(number, _sha(body.encode()), alike=_alike(body))
    return rows


def _alike(body: str) -> str:
    return _sha(json.dumps(json.loads(body), sort_keys=True).encode())


def _member(text: str, key: str) -> str:
    """The exact text of the value of the first `key` that is not within a string before it."""
    at = text.index(f'"{key}":') + len(key) + 3
    while text[at] in " \t":
        at += 1
    _, end = _json.raw_decode(text, at)
    return text[at:end]


def read_book(path: Path) -> list[dict[str, Any]]:
    """Calls of the endpoint's book, the last record of each, in the order they came."""
    calls: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "received":
            record["_received"] = record["mono"]
        calls.setdefault(record["call"], {}).update(record)
    chats = [call for call in calls.values() if call.get("path", "").endswith("/chat/completions")]
    return [call for call in chats if call.get("method") == "POST"]


def _ledger(job: Path) -> list[sqlite3.Row]:
    db = sqlite3.connect(f"file:{job / 'job.sqlite'}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    rows = db.execute("SELECT calls.*, custom_id FROM calls JOIN requests USING (ordinal)")
    return rows.fetchall()


def _sort_in(
    rows: dict[str, Row], entries: list[dict[str, Any]], ledger: list[sqlite3.Row], found: Audit
) -> None:
    by_hash: dict[str, Row] = {}
    for each in rows.values():
        # Of requests that are alike the first is bought; the others may be copies.
        by_hash.setdefault(each.body_hash, each)
    for entry in entries:
        row = by_hash.get(entry["body"])
        found.check("L2", row is not None, f"call {entry['call']} asked what no input line asks")
        if row is not None and Decimal(entry.get("billed") or 0):
            row.billed.append(entry)
            found.billed_calls += 1
    for call in ledger:
        rows[call["custom_id"]].calls.append(call)


# ---- the laws ----------------------------------------------------------------------------------


def _rows_end_once(rows: dict[str, Row], output: Path, found: Audit, *, finished: bool) -> None:
    for name in ("output.jsonl", "errors.jsonl"):
        last = 0
        if not finished and not (output / name).exists():
            continue
        for end in read_lines(output / name):
            row = rows.get(end["custom_id"])
            found.check("L1", row is not None, f"{end['custom_id']} is in {name}, not in the input")
            if row is None:
                continue
            row.ends.append({**end, "_file": name})
            found.check("L1", row.line > last, f"{name} is not in input order at {row.line}")
            last = row.line
            found.completed += name == "output.jsonl"
            found.failed += name == "errors.jsonl"
    for custom_id, row in rows.items():
        count = len(row.ends)
        wrong = count != 1 if finished else count > 1
        found.check("L1", not wrong, f"{custom_id} ends {count} times")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Of an output file; each answer with the hashes of what may have been sent."""
    with path.open("rb") as file:
        for line in file:
            text = line.decode()
            end: dict[str, Any] = json.loads(text, parse_float=Decimal)
            if path.name == "output.jsonl":
                body = _member(text, "body")
                # Where readers of lines break, an escape stands for the character that was sent.
                raw = body.replace("\\u2028", "\u2028").replace("\\u2029", "\u2029")
                end["_body_hashes"] = {_sha(each.encode()) for each in (body, raw, _nel(raw))}
            yield end


def _answers_are_what_was_sent(
    rows: dict[str, Row], entries: list[dict[str, Any]], found: Audit
) -> None:
    sent: dict[str, set[str]] = defaultdict(set)
    streamed = set[str]()
    for entry in entries:
        sent[entry["body"]].add(entry.get("sent") or "")
        if "sse" in (entry.get("fault") or ""):
            streamed.add(entry["body"])
    for custom_id, row in rows.items():
        for end in row.ends:
            if end["_file"] == "output.jsonl":
                origin = rows.get(_origin(end) or "", row)
                faithful = not end["_body_hashes"].isdisjoint(sent[origin.body_hash])
                # Half a character can't be written, and a stream is put together.
                flags = end["nightshift"].get("flags") or ()
                faithful |= "lone_surrogate" in flags or origin.body_hash in streamed
                found.check("L3", faithful, f"{custom_id} has an answer that was never sent")


def _nel(text: str) -> str:
    """With the control character NEXT LINE as it is."""
    return text.replace("\\u0085", "\u0085")


def _origin(end: dict[str, Any]) -> str | None:
    """The `custom_id` of the request whose result this line was given."""
    origin: str | None = end["nightshift"].get("copy_of")
    return origin


def _copies_are_copies(rows: dict[str, Row], found: Audit) -> None:
    for custom_id, row in rows.items():
        for end in row.ends:
            origin = _origin(end)
            if origin is None:
                continue
            found.copies += 1
            first = rows.get(origin)
            if first is None or first.alike != row.alike or first.line >= row.line:
                found.check("L2", holds=False, what=f"{custom_id} is no copy of {origin}")
                continue
            told = [(each["_file"], _origin(each)) for each in first.ends]
            found.check(
                "L1", told == [(end["_file"], None)], f"{custom_id} ends otherwise than {origin}"
            )
            found.check("L6", not row.calls, f"{custom_id} is a copy and was bought all the same")


def _nothing_unseen(rows: dict[str, Row], found: Audit) -> None:
    for custom_id, row in rows.items():
        unseen = len(row.billed) - len(row.calls)
        found.check("L4", unseen <= 0, f"{custom_id}: {unseen} billed calls are not in the ledger")
        ids = Counter(
            call["generation_id"]
            for call in row.calls
            if call["generation_id"] and Decimal(call["cost"] or 1)
        )
        twice = [name for name, count in ids.items() if count > 1]
        found.check("L7", not twice, f"{custom_id}: {twice} is booked twice")


def _paid_twice(rows: dict[str, Row], found: Audit, allowed: int, deaths: Sequence[Death]) -> None:
    unexcused = 0
    for row in rows.values():
        again = max(len(row.billed) - 1, 0)
        cut = sum(was_in_flight(call, deaths) for call in row.billed)
        found.bought_twice += again
        found.in_flight += cut
        unexcused += max(again - cut, 0)
    found.check(
        "L6",
        unexcused <= allowed,
        f"{unexcused} calls were bought again without need, {allowed} at most may be",
    )


def was_in_flight(call: dict[str, Any], deaths: Sequence[Death]) -> bool:
    """Whether a worker died before it can have kept the answer of a billed call."""
    if call["delivery"] == "full":
        ended = call["mono"]
        return any(begin - ON_ITS_WAY_S <= ended <= end for begin, end in deaths)
    # What a worker sent just before, a busy endpoint reads just after: from a connection whose
    # other end is gone.
    late = ON_ITS_WAY_S if call["delivery"] == "client_gone" else 0.0
    return any(call["_received"] <= end + late and begin <= call["mono"] for begin, end in deaths)


def _money(
    rows: dict[str, Row],
    entries: list[dict[str, Any]],
    output: Path,
    found: Audit,
    *,
    finished: bool,
) -> None:
    found.endpoint_rub = sum((Decimal(entry.get("billed") or 0) for entry in entries), ZERO)
    calls = [call for row in rows.values() for call in row.calls]
    known = [call for call in calls if call["billing"] == "known"]
    found.ledger_rub = sum((Decimal(call["cost"]) for call in known), ZERO)
    found.uncertain = len(calls) - len(known)
    found.booked_rub = sum(
        (Decimal(call["bound"] or 0) for call in calls if call["billing"] == "unknown"), ZERO
    )
    if found.uncertain:
        low, high = found.ledger_rub, found.ledger_rub + found.booked_rub
        held = low <= found.endpoint_rub <= high
        found.check("L7", held, f"{found.endpoint_rub} is not within {low} and {high}")
    else:
        same = found.ledger_rub == found.endpoint_rub
        found.check("L7", same, f"ledger {found.ledger_rub}, endpoint {found.endpoint_rub}")
    if not finished:
        return
    told = Decimal(json.loads((output / "cost.json").read_text())["cost_rub"])
    found.check("L7", told == found.ledger_rub, f"cost.json {told}, ledger {found.ledger_rub}")
    lines = sum(
        (Decimal(end["nightshift"]["cost_rub"]) for row in rows.values() for end in row.ends), ZERO
    )
    found.check("L7", lines == found.ledger_rub, f"rows {lines}, ledger {found.ledger_rub}")


def _nothing_lost(output: Path, found: Audit) -> None:
    """What was set aside has come home, and where every cost is known, the job says exactly."""
    told = json.loads((output / "cost.json").read_text())
    found.check("L16", told["lost"]["chunks"] == 0, f"{told['lost']} stay set aside")
    exact = told["exact"] or found.uncertain > 0
    found.check("L16", exact, "cost.json says not exact, and no call is uncertain")


def _cap(entries: list[dict[str, Any]], cap: Decimal | None, found: Audit) -> None:
    if cap is None:
        return
    spent = ZERO
    for entry in sorted(entries, key=lambda entry: entry.get("mono") or 0):
        spent += Decimal(entry.get("billed") or 0)
        if spent > cap:
            found.check("L8", holds=False, what=f"{spent} ₽ spent of {cap} ₽")
            return


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    """Audits one job; prints the figures and every broken law."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("book", "job", "input", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cap", type=Decimal)
    parser.add_argument("--allowed-twice", type=int, default=0)
    given = parser.parse_args()
    found = audit(
        given.book,
        given.job,
        given.input,
        given.output,
        cap=given.cap,
        allowed_twice=given.allowed_twice,
    )
    for name, value in vars(found).items():
        if name != "broken":
            print(f"{name:>14}  {value}")
    for law in found.broken[:50]:
        print(f"BROKEN {law}")
    print("all laws hold" if not found.broken else f"{len(found.broken)} broken")
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
