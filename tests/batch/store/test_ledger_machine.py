"""A job against every order of events: chunks fed under a cap, calls that cost, are refused or cut,
deliveries late, twice and in parts, workers killed, lost or destroyed, lookups, estimates, retries.

After each step the books must agree, the cap must hold, and no request may be lost.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batch.coordinator.feeder import POISON, Feeder
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.reports.cost_report import cost_of
from batch.store import delivery_ledger
from batch.store.chunks import OpenChunk
from batch.store.request_queue import decode_triples
from jobs.budget import Amount, Grant
from jobs.chunk import DONE, HELD, WORKER_DIED, ChunkClosed, Payload, ReturnReason, Work
from jobs.errors import ServiceUnavailable
from jobs.job_options import Budget
from jobs.money import ZERO, total
from jobs.outcome import Billing
from jobs.result import Call, Result
from jobs.usage import Usage
from jobs.wire import Delivery, Found
from tests.batch.making import (
    JOB,
    FakePost,
    FakeSender,
    call,
    closing,
    delivery,
    prices,
    publish,
    request,
    result,
    spec,
)

PRICE = Decimal("0.001")
Plan = tuple[int, str, int]
DICE = st.integers(0, 10**6)
NUMBERS = st.integers(0, 1)
CALLS = st.tuples(
    DICE, st.sampled_from(["answered", "answered", "refused", "empty", "cut", "free"]), DICE
)


@dataclass
class Open:
    """A chunk at its worker: what is left to do, how often each request was called, the grant."""

    payload: Payload

    def __post_init__(self) -> None:
        works = self.payload.requests
        self.grant = Grant(self.payload.grant)
        self.todo = {work.ordinal: work for work in works}
        self.attempts = {work.ordinal: work.attempts for work in works}
        self.uncertain = Counter({work.ordinal: work.uncertain for work in works})

    def triple(self, ordinal: int) -> tuple[int, int, int]:
        return ordinal, self.attempts[ordinal], self.uncertain[ordinal]


@dataclass
class Batch:
    """What a worker has written and not yet packed."""

    calls: list[Call] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    closed: list[ChunkClosed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.calls or self.results or self.closed)


class Worker:
    """One worker process: its open chunks, and its outbox of deliveries in order."""

    def __init__(self) -> None:
        self.chunks: dict[int, Open] = {}
        self.batch = Batch()
        self.outbox: list[Delivery] = []

    def pack(self) -> None:
        if self.batch:
            self.outbox.append(delivery(self.batch.calls, self.batch.results, self.batch.closed))
            self.batch = Batch()


class Jobs(RuleBasedStateMachine):
    """One job, its home, and its workers."""

    @initialize(
        sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=9),
        cap=st.one_of(st.none(), st.integers(1, 40)),
        requests=st.one_of(st.none(), st.integers(1, 9)),
    )
    def submit(self, sizes: list[int], cap: int | None, requests: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.cap = None if cap is None else Decimal(cap)
        self.allowed = requests
        lines = [request(n, max_output=size) for n, size in enumerate(sizes, start=1)]
        self.store = publish(
            self.folder,
            lines,
            priced=prices(str(PRICE)),
            chunk_size=3,
            budget=Budget(rub=self.cap, requests=requests),
        )
        # No power is cut here, and thousands of commits need not wait for the disk.
        self.store.db.execute("PRAGMA synchronous = OFF")
        self.size = len(sizes)
        self.post, self.sender = FakePost(), FakeSender()
        self.feeder = Feeder(
            self.store, cast(CoordinatorRedis, self.post), cast(Sender, self.sender)
        )
        self.workers = [Worker(), Worker()]
        self.truth: dict[str, Decimal] = {}
        self.sent: list[Delivery] = []
        self.overtaken: list[Delivery] = []
        self.calls = 0
        self.feed(2)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.finish()
            self.store.close()
            shutil.rmtree(self.folder)

    # ---- what may happen, in any order -----------------------------------------------------------

    @rule(room=st.integers(1, 2), fails=st.sampled_from([False, False, True]))
    def the_coordinator_feeds(self, room: int, fails: bool) -> None:
        # After Redis lost deliveries it feeds nothing until workers have sent them again.
        if not self.overtaken:
            self.feed(room, fails=fails)

    @rule(number=NUMBERS, calls=st.lists(CALLS, min_size=1, max_size=8), packs=st.booleans())
    def a_worker_works(self, number: int, calls: list[Plan], packs: bool) -> None:
        self.work(self.workers[number], calls)
        if packs:
            self.workers[number].pack()

    @rule(number=NUMBERS, calls=st.lists(CALLS, min_size=2, max_size=8))
    def a_worker_works_and_delivers(self, number: int, calls: list[Plan]) -> None:
        self.work(self.workers[number], calls)
        self.deliver(self.workers[number], 2)

    @rule(
        number=NUMBERS,
        how=st.sampled_from(["in turn", "out of turn", "out of turn", "again"]),
        dice=DICE,
    )
    def something_arrives(self, number: int, how: str, dice: int) -> None:
        if how == "in turn":
            self.deliver(self.workers[number], 1 + dice % 3)
        elif how == "out of turn":
            self.deliver_out_of_turn(self.workers[number], dice)
        elif self.sent:
            self.apply([self.sent[dice % len(self.sent)]])

    @rule(how=st.sampled_from(["lost", "lost", "taken back", "stopped"]), dice=DICE)
    def a_chunk_is_given_up(self, how: str, dice: int) -> None:
        if how == "lost" and self.store.chunks.out():
            self.store.chunks.lose(self.chunk(dice))
        elif how == "taken back":
            self.take_back(dice)
        elif how == "stopped":
            self.stop(dice)

    @rule(number=NUMBERS, how=st.sampled_from(["killed", "killed", "destroyed"]))
    def a_worker_dies(self, number: int, how: str) -> None:
        if how == "killed":
            self.kill(self.workers[number])
        elif not self.overtaken:
            self.destroy(number)

    @rule(
        what=st.sampled_from(["look up", "look up", "poison", "retry", "raise"]),
        dice=DICE,
    )
    def the_coordinator_does_something_else(self, what: str, dice: int) -> None:
        if what == "look up":
            self.look_up(dice, knows=dice % 3 > 0, tells=dice % 2 > 0)
        elif what == "poison":
            self.store.failures.set_poison_aside(POISON, 2000.0)
        elif what == "retry":
            self.store.failures.retry([(), ("endpoint.refused",)][dice % 2])
        elif what == "raise" and self.cap is not None:
            self.cap += dice % 30
            self.limit(self.cap, self.allowed)

    # ---- the coordinator -------------------------------------------------------------------------

    def feed(self, room: int, *, fails: bool = False) -> None:
        self.sender.fails = fails
        try:
            fed = self.feeder.feed(self.store.job(), room)
        except ServiceUnavailable:
            assert fails
            return
        finally:
            self.sender.fails = False
        if fed.exhausted:
            assert not self.store.chunks.out()
            assert self.cap is not None or self.allowed is not None
            assert self.store.job().left

    def take_back(self, dice: int) -> None:
        untaken = [
            each
            for each in self.store.chunks.alive()
            if not each.lost and (JOB, each.chunk) in self.post.payloads
        ]
        if untaken:
            chunk = untaken[dice % len(untaken)]
            self.store.chunks.take_back(chunk)
            del self.post.payloads[JOB, chunk.chunk]

    def look_up(self, dice: int, *, knows: bool, tells: bool) -> None:
        unknown = self.unknown()
        if unknown:
            ordinal, name = unknown[dice % len(unknown)]
            cost = self.truth[name]
            usage = Usage(int(cost / PRICE), 0) if tells else None
            self.apply([delivery(found=[Found(ordinal, name, cost if knows else None, usage)])])

    # ---- workers ---------------------------------------------------------------------------------

    def work(self, worker: Worker, calls: list[Plan]) -> None:
        """Takes what waits, be it given up by now, and makes some calls."""
        for key in sorted(self.post.payloads)[:2]:
            worker.chunks[key[1]] = Open(self.post.payloads.pop(key))
        for dice, how, share in calls:
            self.call(worker, dice, how, share)
        for number in [number for number, chunk in worker.chunks.items() if not chunk.todo]:
            self.give_back(worker, number, DONE)

    def call(self, worker: Worker, dice: int, how: str, share: int) -> None:
        places = [(each, work) for each in worker.chunks.values() for work in each.todo.values()]
        if not places:
            return
        chunk, work = places[dice % len(places)]
        if not chunk.grant.take(work.bound):
            return
        self.calls += 1
        chunk.attempts[work.ordinal] += 1
        if how == "free":
            chunk.grant.settle(work.bound, Amount(ZERO, 0))
            return
        row, cost, tokens = self.row(chunk, work, how, share)
        known = row.billing is Billing.KNOWN
        chunk.grant.settle(work.bound, Amount(cost, tokens) if known else work.bound)
        worker.batch.calls.append(row)
        if known:
            code = "" if how == "answered" else "endpoint.refused"
            worker.batch.results.append(result(work.ordinal, row.chunk, code=code, call=row.id))
            del chunk.todo[work.ordinal]
        else:
            chunk.uncertain[work.ordinal] += 1

    def row(self, chunk: Open, work: Work, how: str, share: int) -> tuple[Call, Decimal, int]:
        """The ledger's row of a call, and what it costs in truth."""
        known = how in ("answered", "refused")
        tokens = work.tokens * share // 10**6
        cost = tokens * PRICE
        if how == "refused":
            most = work.bound.rub or ZERO
            cost = (most * share / 10**6).quantize(Decimal("1e-12"), "ROUND_DOWN")
        name = f"call-{self.calls}"
        self.truth[name] = cost
        row = call(
            work.ordinal,
            chunk.payload.chunk,
            id=name,
            cost=str(cost) if known else None,
            bound=str(work.bound.rub),
            bound_tokens=work.tokens,
            usage=Usage(tokens, 0) if known or how == "empty" else None,
            generation_id=f"gen-{self.calls}" if share % 2 else "",
        )
        return row, cost, tokens

    def stop(self, dice: int) -> None:
        """A worker gives back what is left of a chunk."""
        places = [(w, number) for w in self.workers for number in w.chunks]
        if places:
            worker, number = places[dice % len(places)]
            self.give_back(worker, number, HELD)

    def kill(self, worker: Worker) -> None:
        """Another process reads its journal, and delivers what was not acknowledged."""
        for number in list(worker.chunks):
            self.give_back(worker, number, WORKER_DIED)
        worker.pack()

    def destroy(self, number: int) -> None:
        """Its host is gone, and with it all that was not delivered; its chunks fall silent."""
        gone = self.workers[number]
        gone.pack()
        told = [closed.chunk for each in gone.outbox for closed in each.closed]
        for chunk in (*gone.chunks, *told):
            self.lose_if_open(chunk)
        self.workers[number] = Worker()

    def give_back(self, worker: Worker, number: int, reason: ReturnReason) -> None:
        chunk = worker.chunks.pop(number)
        back = [chunk.triple(ordinal) for ordinal in chunk.todo]
        worker.batch.closed.append(closing(number, back, reason))

    # ---- Redis -----------------------------------------------------------------------------------

    def deliver(self, worker: Worker, many: int) -> None:
        worker.pack()
        self.apply(worker.outbox[:many])
        del worker.outbox[:many]

    def deliver_out_of_turn(self, worker: Worker, dice: int) -> None:
        worker.pack()
        if len(worker.outbox) > 1:
            place = 1 + dice % (len(worker.outbox) - 1)
            self.overtaken += worker.outbox[:place]
            self.apply([worker.outbox.pop(place)])

    def apply(self, deliveries: list[Delivery]) -> None:
        """Deliveries arrive; some of them may have been overtaken before."""
        self.sent += [each for each in deliveries if not each.found]
        applied = delivery_ledger.apply(self.store, list(deliveries))
        assert applied.overrun is None
        self.overtaken = [each for each in self.overtaken if each not in deliveries]

    # ---- the laws --------------------------------------------------------------------------------

    @invariant()
    def no_request_is_lost_or_in_two_places(self) -> None:
        if not hasattr(self, "store"):
            return
        db = self.store.db
        (cursor,) = db.execute("SELECT cursor FROM job").fetchone()
        ended = {row[0] for row in db.execute("SELECT ordinal FROM results")}
        back = {row[0] for row in db.execute("SELECT ordinal FROM returned")}
        places = Counter([*ended, *back, *range(cursor + 1, self.size)])
        for row in db.execute("SELECT ordinals FROM chunks WHERE state = 'open'"):
            places.update(o for o, _, _ in decode_triples(row[0]) if o not in ended)
        assert places == Counter(range(self.size))

    @invariant()
    def counters_are_the_sizes_of_what_they_count_l1(self) -> None:
        if not hasattr(self, "store"):
            return
        job = self.store.job()
        rows = self.store.db.execute("SELECT state, count(*) FROM results GROUP BY state")
        assert dict(rows.fetchall()) == {
            state: count
            for state, count in (("completed", job.completed), ("failed", job.failed))
            if count
        }

    @invariant()
    def the_job_costs_what_its_calls_cost_l7(self) -> None:
        if not hasattr(self, "store"):
            return
        job, cost = self.store.job(), cost_of(self.store)
        assert (job.settled_rub, job.booked_rub, job.calls) == (
            cost.rub,
            cost.uncertain_rub,
            cost.calls,
        )
        spending = [Decimal(row[0]) for row in self.store.db.execute("SELECT rub FROM spending")]
        assert total(spending) == job.settled_rub + job.booked_rub
        rows = self.store.db.execute("SELECT * FROM calls").fetchall()
        tokens = [
            row["bound_tokens"] if row["prompt"] is None else row["prompt"] + row["completion"]
            for row in rows
        ]
        assert job.settled_tokens + job.booked_tokens == sum(tokens)
        assert job.unknown == sum(row["billing"] == "unknown" for row in rows)
        for row in rows:
            if row["source"] in ("endpoint", "lookup"):
                assert Decimal(row["cost"]) == self.truth[row["id"]]

    @invariant()
    def the_cap_holds_l8(self) -> None:
        if not hasattr(self, "store"):
            return
        exposure, job = self.store.chunks.exposure(), self.store.job()
        assert exposure.rub is not None
        assert job.settled_rub + job.booked_rub <= exposure.rub
        if self.cap is not None:
            if not self.overtaken:
                assert exposure.rub <= self.cap
            assert total(self.truth.values()) <= self.cap
        if self.allowed is not None:
            assert job.finished + self.store.chunks.under_way() <= max(self.allowed, job.finished)

    def finish(self) -> None:
        """Whatever happened, the job comes to its end once it may spend, and workers work."""
        for worker in self.workers:
            for chunk in list(worker.chunks):
                self.give_back(worker, chunk, WORKER_DIED)
            worker.pack()
            self.apply(worker.outbox)
        self.post.payloads.clear()
        for number in self.store.chunks.out():
            self.lose_if_open(number)
        self.cap = None
        self.limit(None, None)
        for _ in range(2 * self.size):
            if not self.store.job().left:
                break
            self.feeder.feed(self.store.job(), 9)
            for key in sorted(self.post.payloads):
                payload = self.post.payloads.pop(key)
                done = [result(work.ordinal, payload.chunk) for work in payload.requests]
                self.apply([delivery(results=done, closed=[closing(payload.chunk)])])
        assert self.store.job().left == 0
        assert self.store.queue.waiting(9) == []
        assert self.store.chunks.out() == []

    # ---- helpers ---------------------------------------------------------------------------------

    def limit(self, cap: Decimal | None, requests: int | None) -> None:
        budget = Budget(rub=cap, requests=requests)
        self.store.change_spec(spec(self.folder, chunk_size=3, budget=budget))

    def chunk(self, dice: int) -> OpenChunk:
        out = [each for each in self.store.chunks.alive() if not each.lost]
        return out[dice % len(out)]

    def lose_if_open(self, number: int) -> None:
        for each in self.store.chunks.alive():
            if each.chunk == number:
                self.store.chunks.lose(each)

    def unknown(self) -> list[tuple[int, str]]:
        return [
            (row["ordinal"], row["id"])
            for row in self.store.db.execute(
                "SELECT ordinal, id FROM calls WHERE generation_id <> ''"
                " AND billing = 'unknown' ORDER BY id"
            )
        ]


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=60, stateful_step_count=30)
