"""A job of any size whose costs are known beforehand, and added up again by other means (L7).

Its calls go through the product's own ledger and reports. Added up again are: what was handed in,
the column in the database, and the lines of the files, each in whole units of 1e-18 rouble, without
a `Decimal`; all of them must be the very number that the job, its ledger and `cost.json` tell.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from batch.reports import write_all
from batch.store import ledger
from batch.store.draft import Draft
from batch.store.jobstore import JobStore, OpenChunk
from jobs.budget import UNCAPPED
from jobs.chunk import DONE, ChunkClosed
from jobs.names import COST, DATABASE, ERRORS, OUTPUT
from jobs.outcome import Billing
from jobs.request import Request
from jobs.result import Call, Result, ResultState
from jobs.spec import Spec
from jobs.usage import Usage
from jobs.wire import Delivery, Found, pack_bodies

UNIT = 18
"""Decimals of the smallest unit that is counted in."""

_JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
_AT_ONCE = 2000
_ANSWER = pack_bodies([b'{"choices":[{"message":{"content":"x"}}]}'])
_REFUSAL = pack_bodies([b'{"error":{"message":"no","code":400}}'])


@dataclass
class Sums:
    """The same sum by several ways, in units; `seconds` by what was done."""

    rows: int = 0
    calls: int = 0
    by: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether all are one number."""
        return len(set(self.by.values())) == 1


def run(folder: Path, rows: int, seed: int) -> Sums:
    """Makes the job, lets it be booked and written, and adds up."""
    found, dice = Sums(rows), random.Random(seed)  # noqa: S311  no secret
    began = time.monotonic()
    store = _submit(folder, rows)
    found.seconds["submitted"] = time.monotonic() - began
    found.by["handed in"] = _book(store, dice, found)
    found.seconds["booked"] = time.monotonic() - began
    output = write_all(store)
    found.seconds["written"] = time.monotonic() - began
    found.by["the job"] = _units(str(store.job().settled_rub))
    found.by["cost.json"] = _units(json.loads((output / COST).read_text())["cost_rub"])
    store.close()
    found.by["the column"] = _column(folder / "jobs" / _JOB / DATABASE)
    found.by["the lines"] = sum(_of_lines(output))
    found.seconds["added up"] = time.monotonic() - began
    return found


def _submit(folder: Path, rows: int) -> JobStore:
    draft = Draft(folder / "jobs", _JOB)
    for line in range(1, rows + 1):
        draft.add(Request(line, f"r-{line}", f"m/{line % 3}", b"{}", 1, 100))
    spec = Spec(
        name="sums",
        source="-",
        output_dir=str(folder / "out"),
        base_url="https://routerai.example/v1",
    )
    draft.publish(spec, None, 1000.0)
    store = JobStore(folder / "jobs" / _JOB)
    store.db.execute("PRAGMA synchronous = OFF")
    return store


def _book(store: JobStore, dice: random.Random, found: Sums) -> int:
    """A tenth of the calls was in vain, some failed, and some costs were looked up afterwards."""
    units = 0
    while waiting := store.waiting(_AT_ONCE):
        chunk = store.grant(waiting, UNCAPPED, 1001.0)
        calls, lookups = [], []
        for ordinal, _, _ in chunk.requests:
            for attempt in (1, 2) if dice.random() < 0.1 else (1,):
                cost = _cost(dice)
                units += _units(str(cost))
                told = dice.random() < 0.98
                calls.append(_call(ordinal, chunk, attempt, cost if told else None))
                if not told:
                    lookups.append(Found(ordinal, calls[-1].id, cost))
        found.calls += len(calls)
        _deliver(store, chunk, calls, lookups, dice)
    return units


def _deliver(
    store: JobStore,
    chunk: OpenChunk,
    calls: list[Call],
    lookups: list[Found],
    dice: random.Random,
) -> None:
    last = {call.ordinal: call for call in calls}
    failed = {ordinal for ordinal in last if dice.random() < 0.03}
    for kind, body in ((False, _ANSWER), (True, _REFUSAL)):
        some = [call for ordinal, call in last.items() if (ordinal in failed) is kind]
        results = [_result(call, failed=kind) for call in some]
        mine = [call for call in calls if (call.ordinal in failed) is kind]
        closed = [ChunkClosed(chunk.chunk, DONE, [], {})] if kind else []
        ledger.apply(store, [Delivery("box", 1, _JOB, mine, results, closed, [], body)])
    ledger.apply(store, [Delivery("box", 1, _JOB, [], [], [], lookups)])


def _cost(dice: random.Random) -> Decimal:
    """Of a few kopecks to a few roubles, with as many digits as the endpoint was seen to send."""
    return Decimal(dice.randrange(10 ** dice.randint(8, 18))).scaleb(-UNIT)


def _call(ordinal: int, chunk: OpenChunk, attempt: int, cost: Decimal | None) -> Call:
    return Call(
        id=f"{ordinal}-{attempt}",
        ordinal=ordinal,
        chunk=chunk.chunk,
        attempt=attempt,
        sent_at=1002.0,
        latency_s=1.0,
        status=200,
        code="",
        billing=Billing.UNKNOWN if cost is None else Billing.KNOWN,
        cost=cost,
        bound=Decimal(10),
        bound_tokens=200,
        usage=Usage(20, 5),
        generation_id=f"gen-{ordinal}-{attempt}",
    )


def _result(call: Call, *, failed: bool) -> Result:
    state = ResultState.FAILED if failed else ResultState.COMPLETED
    code, status = ("endpoint.refused", 400) if failed else ("", 200)
    return Result(
        call.ordinal, state, code, code, status, call.attempt, call.id, 1.0, 1003.0, body=0
    )


def _units(amount: str) -> int:
    """Plain or exponent notation into whole units, by its digits alone."""
    digits, _, power = amount.lower().partition("e")
    whole, _, parts = digits.partition(".")
    shift = UNIT - len(parts) + int(power or 0)
    if shift < 0:
        raise ValueError(f"{amount} has more than {UNIT} decimals")
    scale: int = 10**shift
    return int(whole + parts) * scale


def _column(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return sum(_units(row[0]) for row in db.execute("SELECT cost FROM calls"))


def _of_lines(output: Path) -> Iterator[int]:
    for name in (OUTPUT, ERRORS):
        with (output / name).open("rb") as file:
            for line in file:
                yield _units(json.loads(line)["nightshift"]["cost_rub"])
