"""A job of any size whose costs are known beforehand, and added up again by other means (L7).

Prices as real ones are: dearer above a size of the prompt, cheaper in the night, less for tokens
from the cache, so much a request, and all of it changes in the middle of the job. What a call costs
is reckoned here once more, in whole units of 1e-18 rouble, without a `Decimal`.

The calls go through the product's own ledger and reports. Added up again are: what was handed in,
the column in the database, and the lines of the files; all of them must be the very number that
the job, its ledger and `cost.json` tell. No call may have cost what no price in the catalogue asks.
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
from batch.store import delivery_ledger
from batch.store.chunks import OpenChunk
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import UNCAPPED
from jobs.chunk import DONE, ChunkClosed
from jobs.job_options import Spec
from jobs.names import COST, DATABASE, ERRORS, OUTPUT
from jobs.outcome import Billing
from jobs.prices import ModelPrice, Offer, PriceList, Rates, Tier
from jobs.request import Request
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import Delivery, Found, pack_bodies

UNIT = 18
"""Decimals of the smallest unit that is counted in."""

_JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
_AT_ONCE = 2000
_ANSWER = pack_bodies([b'{"choices":[{"message":{"content":"x"}}]}'])
_REFUSAL = pack_bodies([b'{"error":{"message":"no","code":400}}'])

_BEGINS, _CHANGES, _ENDS = 1_800_000_000, 1_800_080_000, 1_800_160_000
_RISE = (107, 100)
"""New prices are 7 % above the old ones."""
_LARGE = 200_000
_EVENING, _MORNING = 16 * 3600 + 30 * 60, 30 * 60
"""From 16:30 to 00:30, UTC."""


@dataclass(frozen=True)
class _Price:
    """Of a token of the prompt, one from the cache, one of the answer, and of a request; in units.

    They differ from what they are at other times or sizes in `large` and in `night`.
    """

    prompt: int
    cached: int
    completion: int
    request: int = 0
    large: _Price | None = None
    night: _Price | None = None

    def of(self, sent_at: int, prompt: int, cached: int, completion: int) -> int:
        """What a call costs."""
        at = sent_at % 86_400
        if self.large is not None and prompt > _LARGE:
            return self.large.of(sent_at, prompt, cached, completion)
        if self.night is not None and (at >= _EVENING or at < _MORNING):
            return self.night.of(sent_at, prompt, cached, completion)
        tokens = (prompt - cached) * self.prompt + cached * self.cached
        return tokens + completion * self.completion + self.request

    def risen(self) -> _Price:
        """As it is in the later catalogue."""
        more, less = _RISE
        return _Price(
            self.prompt * more // less,
            self.cached * more // less,
            self.completion * more // less,
            self.request * more // less,
            None if self.large is None else self.large.risen(),
            None if self.night is None else self.night.risen(),
        )

    def listed(self, model: str) -> ModelPrice:
        """The same, as the product keeps it."""
        tiers = []
        if self.large is not None:
            tiers.append(Tier(self.large.rates(), prompt_over=_LARGE))
        if self.night is not None:
            tiers.append(Tier(self.night.rates(), utc_start="16:30", utc_end="00:30"))
        return ModelPrice(model, (Offer("", self.rates(), tuple(tiers)),))

    def rates(self) -> Rates:
        """In roubles."""
        some = (self.prompt, self.completion, self.cached, self.request)
        prompt, completion, cached, request = (Decimal(each).scaleb(-UNIT) for each in some)
        return Rates(prompt, completion, cached, request=request)


_BY_SIZE = _Price(
    44_651_300_000_000,
    8_930_300_000_000,
    245_582_300_000_000,
    large=_Price(145_116_800_000_000, 29_023_400_000_000, 245_582_300_000_000),
)
_BY_HOUR = _Price(
    30_139_600_000_000,
    7_814_000_000_000,
    122_791_100_000_000,
    night=_Price(15_069_800_000_000, 7_814_000_000_000, 61_395_500_000_000),
)
_BY_REQUEST = _Price(0, 0, 20_000_000_000_000, 12_500_000_000_000_000)
_PRICES = {"m/0": _BY_SIZE, "m/1": _BY_HOUR, "m/2": _BY_REQUEST}


@dataclass
class KnownCosts:
    """The same sum by several ways, in units; `seconds` by what was done."""

    rows: int = 0
    calls: int = 0
    unlisted: int = 0
    by: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether all are one number, and the catalogue explains each call."""
        return len(set(self.by.values())) == 1 and not self.unlisted


def run(folder: Path, rows: int, seed: int) -> KnownCosts:
    """Makes the job, lets it be booked and written, and adds up."""
    found, dice = KnownCosts(rows), random.Random(seed)  # noqa: S311  no secret
    began = time.monotonic()
    store = _submit(folder, rows)
    found.seconds["submitted"] = time.monotonic() - began
    found.by["handed in"] = _book(store, dice, found)
    found.seconds["booked"] = time.monotonic() - began
    output = write_all(store)
    found.seconds["written"] = time.monotonic() - began
    found.by["the job"] = _units(str(store.job().settled_rub))
    told = json.loads((output / COST).read_text())
    found.by["cost.json"] = _units(told["cost_rub"])
    found.unlisted = sum(each["calls"] for each in told["unlisted"])
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
    draft.publish(spec, _listed(_PRICES, _BEGINS), float(_BEGINS))
    store = JobStore(folder / "jobs" / _JOB)
    later = {model: price.risen() for model, price in _PRICES.items()}
    store.add_prices(_listed(later, _CHANGES))
    store.db.execute("PRAGMA synchronous = OFF")
    return store


def _listed(prices: dict[str, _Price], taken_at: int) -> PriceList:
    models = {model: price.listed(model) for model, price in prices.items()}
    return PriceList(float(taken_at), "a catalogue", "0" * 64, models)


def _book(store: JobStore, dice: random.Random, found: KnownCosts) -> int:
    """A tenth of the calls was in vain, some failed, and some costs were looked up afterwards."""
    units = 0
    while waiting := store.queue.waiting(_AT_ONCE):
        chunk = store.chunks.grant(waiting, UNCAPPED, 1001.0)
        calls, lookups = [], []
        for ordinal, _, _ in chunk.requests:
            for attempt in (1, 2) if dice.random() < 0.1 else (1,):
                sent_at, usage = _drawn(dice)
                units += (cost := _cost(ordinal, sent_at, usage))
                rub = Decimal(cost).scaleb(-UNIT)
                told = dice.random() < 0.98
                calls.append(_call(ordinal, chunk, attempt, sent_at, usage, rub if told else None))
                if not told:
                    lookups.append(Found(ordinal, calls[-1].id, rub))
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
        delivery_ledger.apply(store, [Delivery("box", 1, _JOB, mine, results, closed, [], body)])
    delivery_ledger.apply(store, [Delivery("box", 1, _JOB, [], [], [], lookups)])


def _drawn(dice: random.Random) -> tuple[int, Usage]:
    """When a call was sent, and its tokens: also of just the size at which prices change."""
    prompt = dice.choice((dice.randint(1, 2000), dice.randint(1, 400_000), _LARGE, _LARGE + 1))
    cached = dice.choice((0, dice.randint(0, prompt)))
    sent_at = dice.randrange(_BEGINS, _ENDS)
    return sent_at, Usage(prompt, dice.randint(0, 500), cached)


def _cost(ordinal: int, sent_at: int, usage: Usage) -> int:
    price = _PRICES[f"m/{(ordinal + 1) % 3}"]
    if sent_at >= _CHANGES:
        price = price.risen()
    return price.of(sent_at, usage.prompt, usage.cached, usage.completion)


def _call(
    ordinal: int,
    chunk: OpenChunk,
    attempt: int,
    sent_at: int,
    usage: Usage,
    cost: Decimal | None,
) -> Call:
    return Call(
        id=f"{ordinal}-{attempt}",
        ordinal=ordinal,
        chunk=chunk.chunk,
        attempt=attempt,
        sent_at=float(sent_at),
        latency_s=1.0,
        status=200,
        code="",
        billing=Billing.UNKNOWN if cost is None else Billing.KNOWN,
        cost=cost,
        bound=Decimal(1000),
        bound_tokens=usage.total,
        usage=usage,
        generation_id=f"gen-{ordinal}-{attempt}",
    )


def _result(call: Call, *, failed: bool) -> Result:
    state = ResultState.FAILED if failed else ResultState.COMPLETED
    code, status = ("endpoint.refused", 400) if failed else ("", 200)
    return Result(
        call.ordinal,
        *(state, code, code, status, call.attempt, call.id, 1.0),
        call.sent_at + call.latency_s,
        body=0,
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
