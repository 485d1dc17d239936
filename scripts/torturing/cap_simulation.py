"""Simulated jobs by the thousand: no cap may be exceeded, whatever happens and at any moment (L8).

The arithmetic is the product's own: the job on disk, the feeder with its bounds and grants, the
worker's grant, the ledger, the caps of the home. Played are the endpoint, which bills at once what
a call costs, and what may go wrong: lost and killed workers, deliveries late and twice, costs that
nobody knows, prices that rise as far as they may, caps that are raised.

The money of a job is billed by its endpoint before anybody books it, so `billed ≤ cap` is checked
after each call, and `spent + set aside ≤ cap` on the disk after each step.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

from batch.coordinator.feeder import Feeder
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.money.caps import ZONE, Caps, write_caps
from batch.money.spend_tracker import Allowance, share_of
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import Amount, Grant
from jobs.chunk import DONE, UNAFFORDABLE, WORKER_DIED, ChunkClosed, Payload, ReturnReason, Work
from jobs.job_options import Budget, Spec
from jobs.money import ZERO, add, round_up, times, total
from jobs.outcome import Billing
from jobs.period import Period, span
from jobs.prices import ModelPrice, Offer, PriceList, Rates, Tier, margin
from jobs.request import Request
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import Delivery, Found

_NOTHING = Amount(ZERO, 0)
_ZERO_USAGE = Usage()
_MOST_STEPS = 4000
_IDS = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass
class Toll:
    """What all jobs together came to."""

    jobs: int = 0
    calls: int = 0
    steps: int = 0
    kills: int = 0
    capped: int = 0
    used: list[Decimal] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Sent:
    """A call in flight; `cost` is what the endpoint has billed for it already, or None."""

    work: Work
    id: str
    attempt: int


class _Chunk:
    """A chunk at a worker, as the runner keeps it."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.grant = Grant(payload.grant)
        self.todo = deque(payload.requests)
        self.flight: list[_Sent] = []
        self.counts = {w.ordinal: (w.attempts, w.uncertain) for w in payload.requests}
        self.back: list[tuple[int, int, int]] = []

    def give_back(self, work: Work) -> None:
        self.back.append((work.ordinal, *self.counts[work.ordinal]))

    @property
    def done(self) -> bool:
        return not self.todo and not self.flight


class _Post:
    """Takes payloads and messages; nothing of Redis counts here."""

    def __init__(self) -> None:
        self.payloads: list[Payload] = []

    @property
    def chunks(self) -> _Post:
        """It is this subject of `CoordinatorRedis` too."""
        return self

    def put_payload(self, payload: Payload) -> None:
        self.payloads.append(payload)

    def run_chunk(self, *_: object) -> None:
        return


class Play:
    """One job with its endpoint, its workers and its accidents."""

    def __init__(self, home: Home, dice: random.Random, number: int, allowance: Allowance) -> None:
        self._dice = dice
        self._home = home
        self._allowance = allowance
        self.id = _job_id(number)
        self._rise = Decimal(dice.choice([0, 5, 20, 20, 150]))
        self._models = [_model(dice, f"m/{n}") for n in range(dice.randint(1, 3))]
        size = dice.choice([1, 3, 8, 8, 20, 20, 60]) if dice.random() < 0.99 else 300
        self._in_flight_at_most = dice.randint(1, 256)
        self.truth = ZERO
        self.truth_tokens = 0
        self.costs: dict[str, Decimal] = {}
        self.usages: dict[str, Usage] = {}
        self.store = self._submit(size)
        self.cap, self.token_cap = self._caps
        self._post = _Post()
        self._feeder = Feeder(
            self.store,
            cast(CoordinatorRedis, self._post),
            cast(Sender, self._post),
            lambda: allowance.room(self.id, self.store),
        )
        self._chunks: dict[int, _Chunk] = {}
        self._deliveries: deque[Delivery] = deque()
        self._told: list[Delivery] = []
        self._number = 0
        self.kills = self.calls = 0
        self._read_at, self._exposure = -1, _NOTHING
        self._aside_at, self._aside = -1, ZERO

    def _submit(self, size: int) -> JobStore:
        dice = self._dice
        draft = Draft(self._home.jobs_folder, self.id)
        prices = PriceList(1.0, "url", "0" * 64, self._asked)
        bounds: list[tuple[Decimal, int]] = []
        for line in range(1, size + 1):
            body = b'{"n":%d,"x":"%s"}' % (line, b"x" * dice.choice([0, 10, 3000]))
            output = dice.choice([1, 50, 400, 4000])
            model = dice.choice(self._models)
            request = Request(line, f"r-{line}", model.model, body, 1, output)
            draft.add(request)
            prompt = request.prompt_bound
            bounds.append((model.bound(prompt, output, margin(self._rise)), prompt + output))
        rub = times(total(rub for rub, _ in bounds), Decimal(dice.randint(0, 1300)) / 1000)
        tokens = sum(tokens for _, tokens in bounds) * dice.randint(0, 1300) // 1000
        kind = dice.choice(["rub", "rub", "rub", "tokens", "both", "none"])
        cap = rub if kind in ("rub", "both") else None
        token_cap = tokens if kind in ("tokens", "both") else None
        self._caps = (cap, token_cap)
        spec = Spec(
            name="caps",
            source="-",
            output_dir=str(self._home.folder / "out"),
            base_url="https://routerai.example/v1",
            budget=Budget(rub=cap, tokens=token_cap),
            chunk_size=dice.choice([1, 4, 16, 100]),
            max_price_rise=self._rise,
        )
        draft.publish(spec, prices, 1000.0)
        store = self._home.open(self.id)
        # No power is cut here, and millions of commits need not wait for the disk.
        store.db.execute("PRAGMA synchronous = OFF")
        return store

    # ---- the steps ------------------------------------------------------------------------------

    def steps(self) -> Iterator[None]:
        """Plays on until all is answered, or nothing more fits the cap."""
        moves: list[tuple[int, Callable[[], None]]] = [
            (10, self._feed),
            (40, self._call),
            (30, self._end_a_call),
            (12, self._deliver),
            (2, self._kill),
            (1, self._lose),
            (1, self._deliver_again),
            (2, self._look_up),
            (1, self._change_prices),
            (1, self._raise_cap),
        ]
        weights, actions = [weight for weight, _ in moves], [action for _, action in moves]
        self._idle = 0
        for _ in range(_MOST_STEPS):
            (action,) = self._dice.choices(actions, weights)
            action()
            yield
            if self._over():
                return
        self._wind_up()

    def _over(self) -> bool:
        if self._chunks or self._deliveries or self._post.payloads:
            return False
        return self._idle > 2 or not self.store.job().left

    def _feed(self) -> None:
        fed = self._feeder.feed(self.store.job(), self._dice.randint(1, 4))
        self._idle = self._idle + 1 if not fed.chunks else 0
        while self._post.payloads:
            payload = self._post.payloads.pop()
            self._chunks[payload.chunk] = _Chunk(payload)

    def _one(self, wanted: Callable[[_Chunk], bool]) -> _Chunk | None:
        fit = [chunk for chunk in self._chunks.values() if wanted(chunk)]
        return self._dice.choice(fit) if fit else None

    def _call(self) -> None:
        """As the runner: the bound is taken from the grant, or the request goes back."""
        for _ in range(self._dice.randint(1, 12)):
            flying = sum(len(chunk.flight) for chunk in self._chunks.values())
            chunk = self._one(lambda chunk: bool(chunk.todo))
            if chunk is None or flying >= self._in_flight_at_most:
                return
            work = chunk.todo.popleft()
            if not chunk.grant.take(work.bound):
                chunk.give_back(work)
                self._close_if_done(chunk, UNAFFORDABLE)
                continue
            attempts, uncertain = chunk.counts[work.ordinal]
            chunk.counts[work.ordinal] = (attempts + 1, uncertain)
            self._number += 1
            chunk.flight.append(_Sent(work, f"box-{self._number}", attempts + 1))
            self.calls += 1

    def _bill(self, chunk: _Chunk, sent: _Sent) -> tuple[Decimal, Usage]:
        """The endpoint charges: any usage within the bounds, any offer, as dear as is allowed."""
        dice, work = self._dice, sent.work
        price = self._asked[chunk.payload.models[work.model]]
        bounded = len(work.body) + 64 + 1024
        full = dice.random() < 0.2
        prompt = bounded if full else dice.randint(0, bounded)
        answer = (work.tokens - bounded) if full else dice.randint(0, work.tokens - bounded)
        cached = dice.randint(0, prompt)
        usage = Usage(prompt, answer, cached, dice.randint(0, prompt - cached))
        offer = dice.choice(price.offers)
        rates = dice.choice(
            [
                offer.rates,
                *(t.rates for t in offer.tiers if t.prompt_over is None or prompt > t.prompt_over),
            ]
        )
        cost = rates.cost(usage)
        self.truth = add(self.truth, cost)
        self.truth_tokens += usage.total
        self.costs[sent.id], self.usages[sent.id] = cost, usage
        return cost, usage

    @property
    def _asked(self) -> dict[str, ModelPrice]:
        return {each.model: each for each in self._models}

    def _end_a_call(self) -> None:
        for _ in range(self._dice.randint(1, 12)):
            chunk = self._one(lambda chunk: bool(chunk.flight))
            if chunk is None:
                return
            sent = chunk.flight.pop(self._dice.randrange(len(chunk.flight)))
            self._ended(chunk, sent)
            self._close_if_done(chunk, DONE)

    def _ended(self, chunk: _Chunk, sent: _Sent) -> None:
        fate = self._dice.random()
        if fate < 0.08:  # a refusal that costs nothing
            chunk.grant.settle(sent.work.bound, _NOTHING)
            self._again(chunk, sent)
        elif fate < 0.16:  # cut: billed or not, and nobody knows
            if self._dice.random() < 0.7:
                self._bill(chunk, sent)
            self._book_uncertain(chunk, sent)
            self._again(chunk, sent)
        elif fate < 0.22:  # billed, and the answer is of no use
            cost, usage = self._bill(chunk, sent)
            chunk.grant.settle(sent.work.bound, Amount(cost, usage.total))
            self._tell(calls=[_row(chunk, sent, cost, usage)])
            self._again(chunk, sent)
        elif fate < 0.27:  # answered, but the cost is not told
            self._bill(chunk, sent)
            self._book_uncertain(chunk, sent)
            self._tell(results=[_result(sent)])
        else:
            cost, usage = self._bill(chunk, sent)
            chunk.grant.settle(sent.work.bound, Amount(cost, usage.total))
            self._tell(calls=[_row(chunk, sent, cost, usage)], results=[_result(sent)])

    def _again(self, chunk: _Chunk, sent: _Sent) -> None:
        if self._dice.random() < 0.7:
            chunk.todo.append(sent.work)
        else:
            chunk.give_back(sent.work)

    def _book_uncertain(self, chunk: _Chunk, sent: _Sent) -> None:
        chunk.grant.settle(sent.work.bound, sent.work.bound)
        attempts, uncertain = chunk.counts[sent.work.ordinal]
        chunk.counts[sent.work.ordinal] = (attempts, min(uncertain + 1, 2))
        self._tell(calls=[_row(chunk, sent, None, None)])

    def _close_if_done(self, chunk: _Chunk, reason: ReturnReason) -> None:
        if chunk.done:
            del self._chunks[chunk.payload.chunk]
            self._tell(closed=[ChunkClosed(chunk.payload.chunk, reason, chunk.back, {})])

    def _tell(
        self,
        calls: list[Call] | None = None,
        results: list[Result] | None = None,
        closed: list[ChunkClosed] | None = None,
    ) -> None:
        self._number += 1
        self._deliveries.append(
            Delivery("box", self._number, self.id, calls or [], results or [], closed or [], [])
        )

    def _deliver(self) -> None:
        if not self._deliveries:
            return
        some = [
            self._deliveries.popleft() for _ in range(self._dice.randint(1, len(self._deliveries)))
        ]
        self._told += some[-3:]
        delivery_ledger.apply(self.store, some)

    def _deliver_again(self) -> None:
        if self._told:
            delivery_ledger.apply(self.store, [self._dice.choice(self._told)])

    def _kill(self) -> None:
        """The worker dies. Its journal tells of what was in flight, now or later."""
        chunk = self._one(lambda _: True)
        if chunk is None:
            return
        self.kills += 1
        if self._dice.random() < 0.5:
            self._lose_chunk(chunk.payload.chunk)
        for sent in chunk.flight:
            if self._dice.random() < 0.7:
                self._bill(chunk, sent)
            self._book_uncertain(chunk, sent)
            chunk.give_back(sent.work)
        for work in chunk.todo:
            chunk.give_back(work)
        chunk.todo.clear()
        chunk.flight.clear()
        if self._dice.random() < 0.9:
            self._close_if_done(chunk, WORKER_DIED)
        else:
            # Its host never comes back: what it had written down is lost, and its calls are billed.
            del self._chunks[chunk.payload.chunk]
            mine = chunk.payload.chunk
            self._deliveries = deque(each for each in self._deliveries if not _is_of(each, mine))
            self._lose_chunk(mine)

    def _lose(self) -> None:
        """A worker falls silent, and goes on all the same."""
        chunk = self._one(lambda _: True)
        if chunk is not None:
            self._lose_chunk(chunk.payload.chunk)

    def _lose_chunk(self, number: int) -> None:
        for each in self.store.chunks.alive():
            if each.chunk == number:
                self.store.chunks.lose(each)

    def _look_up(self) -> None:
        """The endpoint tells what an uncertain call cost; one it does not know cost nothing."""
        rows = self.store.db.execute(
            "SELECT ordinal, id FROM calls WHERE billing = 'unknown' LIMIT 5"
        ).fetchall()
        if rows:
            ordinal, call = self._dice.choice(rows)
            cost, usage = self.costs.get(call, ZERO), self.usages.get(call, _ZERO_USAGE)
            found = Found(ordinal, call, cost, usage)
            self._number += 1
            delivery_ledger.apply(
                self.store, [Delivery("box", self._number, self.id, [], [], [], [found])]
            )

    def _change_prices(self) -> None:
        """The endpoint asks more, as far as is allowed; a reading may notice, or may not."""
        factor = 1 + self._rise / 100 * Decimal(self._dice.randint(0, 1000)) / 1000
        accepted = self.store.accepted_prices()
        listed = accepted.models.values() if accepted else ()
        self._models = [_dearer(each, factor) for each in listed]
        if self._dice.random() < 0.5:
            self._number += 1
            self.store.add_prices(
                PriceList(1.0 + self._number, "url", "0" * 64, self._asked), accepted=False
            )

    def _raise_cap(self) -> None:
        spec = self.store.job().spec
        if self.cap is not None:
            more = Decimal(self._dice.randint(1000, 1100)) / 1000
            self.cap = round_up(times(self.cap, more))
        budget = spec.budget.model_copy(update={"rub": self.cap})
        self.store.change_spec(spec.model_copy(update={"budget": budget}))

    def _wind_up(self) -> None:
        while self._deliveries:
            self._deliver()

    # ---- the law --------------------------------------------------------------------------------

    def _changes(self) -> int:
        """Grows with each row that is written: what was read of the disk holds until then."""
        return self.store.db.total_changes

    def broken(self) -> str:
        """The cap that does not hold, if one does not."""
        if self._read_at != (changes := self._changes()):
            self._read_at, self._exposure = changes, self.store.chunks.exposure()
        exposure = self._exposure
        if self.cap is not None:
            if self.truth > self.cap:
                return f"{self.truth} ₽ billed of {self.cap} ₽"
            if exposure.rub is None or exposure.rub > self.cap:
                return f"{exposure.rub} ₽ spent and set aside of {self.cap} ₽"
        if self.token_cap is not None:
            if self.truth_tokens > self.token_cap:
                return f"{self.truth_tokens} tokens used of {self.token_cap}"
            if exposure.tokens is None or exposure.tokens > self.token_cap:
                return f"{exposure.tokens} tokens used and set aside of {self.token_cap}"
        return ""

    def exposure_today(self) -> Decimal:
        """Roubles spent and set aside, as the home counts them."""
        if self._aside_at != (changes := self._changes()):
            self._aside_at = changes
            self._aside = share_of(self.store, _SPANS).total(Period.DAY)
        return self._aside


def _is_of(delivery: Delivery, chunk: int) -> bool:
    """Whether it tells only of this chunk: each delivery here tells of one thing."""
    told = [call.chunk for call in delivery.calls] + [each.chunk for each in delivery.closed]
    return told == [chunk]


def _row(chunk: _Chunk, sent: _Sent, cost: Decimal | None, usage: Usage | None) -> Call:
    return Call(
        id=sent.id,
        ordinal=sent.work.ordinal,
        chunk=chunk.payload.chunk,
        attempt=sent.attempt,
        sent_at=_NOW,
        latency_s=1.0,
        status=None if cost is None else 200,
        code="",
        billing=Billing.UNKNOWN if cost is None else Billing.KNOWN,
        cost=cost,
        bound=sent.work.rub,
        bound_tokens=sent.work.tokens,
        usage=usage,
    )


def _result(sent: _Sent) -> Result:
    return Result(
        sent.work.ordinal, ResultState.COMPLETED, "", "", 200, sent.attempt, sent.id, 1.0, _NOW
    )


_NOW = time.time()
"""It is today as long as all this lasts: chunks are lost by the clock of the database."""


_TODAY = datetime.fromtimestamp(_NOW, UTC)
_SPANS = {period: span(period, ZONE, _TODAY) for period in Period}


def _job_id(number: int) -> str:
    digits = ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits = _IDS[digit] + digits
    return f"job_{digits}"


def _model(dice: random.Random, name: str) -> ModelPrice:
    offers = tuple(
        Offer(
            f"p{n}",
            _rates(dice),
            tuple(
                Tier(_rates(dice), prompt_over=dice.choice([None, 0, 1100, 2000, 4200, 10**6]))
                for _ in range(dice.randint(0, 2))
            ),
        )
        for n in range(dice.randint(1, 3))
    )
    return ModelPrice(name, offers)


def _rates(dice: random.Random) -> Rates:
    def price() -> Decimal:
        return Decimal(dice.randint(0, 10 ** dice.randint(1, 12))).scaleb(-13)

    return Rates(
        price(),
        price(),
        dice.choice([None, price()]),
        dice.choice([None, price()]),
        dice.choice([ZERO, times(price(), 1000)]),
    )


def _dearer(price: ModelPrice, factor: Decimal) -> ModelPrice:
    def rates(old: Rates) -> Rates:
        return Rates(
            times(old.prompt, factor),
            times(old.completion, factor),
            None if old.cache_read is None else times(old.cache_read, factor),
            None if old.cache_write is None else times(old.cache_write, factor),
            times(old.request, factor),
        )

    offers = tuple(
        Offer(
            each.provider,
            rates(each.rates),
            tuple(Tier(rates(tier.rates), tier.prompt_over) for tier in each.tiers),
        )
        for each in price.offers
    )
    return ModelPrice(price.model, offers)


# ---- many of them -------------------------------------------------------------------------------


def run(folder: Path, jobs: int, seed: int, tell: Callable[[int], None] = lambda _: None) -> Toll:
    """Plays so many jobs, two to a home; a home in three has caps for the day and the month."""
    found, started = Toll(), time.monotonic()
    number = 0
    while found.jobs < jobs:
        number += 1
        dice = random.Random(seed * 1_000_003 + number)  # noqa: S311  no secret
        place = folder / f"home-{number}"
        _one_home(place, dice, found, f"seed {seed}, home {number}")
        shutil.rmtree(place, ignore_errors=True)
        if number % 500 == 0:
            tell(found.jobs)
    found.seconds = time.monotonic() - started
    return found


def _one_home(folder: Path, dice: random.Random, found: Toll, name: str) -> None:
    home = Home(folder)
    allowance = Allowance(home, lambda: _NOW)
    plays = [Play(home, dice, number, allowance) for number in (1, 2)]
    cap: Decimal | None = None
    if dice.random() < 0.33:
        highest = [times(p.cap, Decimal("0.7")) for p in plays if p.cap is not None]
        cap = total(highest) if highest else Decimal(dice.randint(0, 100)) / 10
        caps = (cap, None) if dice.random() < 0.5 else (None, cap)
        write_caps(folder, Caps(*caps))
    running = [(play, play.steps()) for play in plays]
    while running:
        play, steps = dice.choice(running)
        if next(steps, _END) is _END:
            running.remove((play, steps))
        found.steps += 1
        told = play.broken() or _home_broken(plays, cap)
        if told:
            found.broken.append(f"{name}, {play.id}: {told}")
            break
    for play in plays:
        found.jobs += 1
        found.calls += play.calls
        found.kills += play.kills
        if play.cap:
            found.capped += 1
        play.store.close()


_END = object()


def _home_broken(plays: list[Play], cap: Decimal | None) -> str:
    if cap is None:
        return ""
    billed = total(play.truth for play in plays)
    if billed > cap:
        return f"{billed} ₽ billed of the {cap} ₽ of the home"
    used = total(play.exposure_today() for play in plays)
    return f"{used} ₽ spent and set aside of the {cap} ₽ of the home" if used > cap else ""
