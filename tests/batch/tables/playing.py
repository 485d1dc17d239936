"""A table's job from its rows to its files, with a model that errs and no process but this one."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec

from batch.coordinator.feeder import Feeder
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.estimator.character_counts import shape_of
from batch.reports import write_all
from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from batch.tables.answer_judge import judge_of
from batch.tables.file_kinds import open_table
from batch.tables.row_requests import Asker, requests_of
from jobs.chunk import Work
from jobs.request import HIDDEN_TOKENS, Fault
from jobs.result import Call, Result
from jobs.table_task import Task
from jobs.usage import Usage
from jobs.wire import Delivery
from scripts.simulator.tables import say
from tests.batch.making import (
    JOB,
    MODEL,
    FakePost,
    FakeSender,
    call,
    closing,
    delivery,
    prices,
    result,
    spec,
)

LARGER = "large/model"


def table_job(
    folder: Path, rows: list[str], task: Task, *, dedupe: str = "", sample: int = 0, **wish: Any
) -> JobStore:
    """A job of a table with the one column `review`; its store is left to the test."""
    source = folder / "reviews.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["review"], *([row] for row in rows)])
    draft = Draft(folder / "jobs", JOB, dedupe=dedupe)
    table = open_table(draft.keep_table(source), "reviews.csv", task.form)
    task = task.model_copy(update={"form": table.form})
    if task.escalate is not None:
        draft.may_ask(task.escalate)
    for item in requests_of(Asker(task, MODEL, 20), MODEL, 20, table):
        if isinstance(item, Fault):
            draft.refuse(item)
        else:
            draft.add(item)
            shape = msgspec.msgpack.encode(shape_of(item.body))
            draft.keep_samples([(draft.requests - 1, shape)])
    draft.drop_copies()
    wish = {"source": "reviews.csv", "model": MODEL, "max_tokens": 20, "task": task, **wish}
    draft.publish(spec(folder, **wish), prices("0.001", MODEL, LARGER), 1000.0, sample=sample)
    return JobStore(folder / "jobs" / JOB)


@dataclass
class Play:
    """Who feeds a job, answers for its model with a share of `slips`, and keeps the bill.

    `unknown`: a share of the calls of which the cost is not told.
    """

    store: JobStore
    dice: Random
    slips: float = 0.0
    unknown: float = 0.0
    billed: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    sent: int = 0
    """Tokens that all calls may take: a byte of a prompt is one, and the endpoint adds some."""
    post: FakePost = field(default_factory=FakePost)

    def run(self) -> Path:
        """To the end of the job; the folder of its files."""
        while self.store.job().left:
            assert self.turn(), "nothing is fed, and rows are left"
        return write_all(self.store)

    def turn(self) -> int:
        """Feeds once and answers all; how many chunks there were."""
        job = self.store.job()
        feeder = Feeder(
            self.store,
            cast(CoordinatorRedis, self.post),
            cast(Sender, FakeSender()),
            judge=judge_of(job.id, job.spec),
        )
        fed = feeder.feed(job, 2)
        for chunk in fed.chunks:
            self.hand_in(self.answered(chunk.chunk))
        return len(fed.chunks)

    def hand_in(self, *deliveries: Delivery) -> None:
        """Books what a worker tells."""
        job = self.store.job()
        delivery_ledger.apply(self.store, deliveries, judge_of(job.id, job.spec))

    def answered(self, chunk: int) -> Delivery:
        """What a worker makes of a chunk."""
        job = self.store.job().id
        payload = self.post.take(job, chunk)
        calls, results, bodies = list[Call](), list[Result](), list[bytes]()
        for work in payload.requests:
            calls.append(self._called(work, chunk, payload.models[work.model]))
            results.append(result(work.ordinal, chunk))
            bodies.append(self._answer(work))
        results = [_with_body(each, place) for place, each in enumerate(results)]
        return delivery(calls, results, [closing(chunk)], bodies=bodies, job=job)

    def _called(self, work: Work, chunk: int, model: str) -> Call:
        self.calls += 1
        usage = Usage(len(work.body) // 4, 5)
        if self.dice.random() < self.unknown:
            return call(work.ordinal, chunk, cost=None, bound="0.7", usage=None)
        cost = f"0.{self.dice.randrange(1, 10**7):07}"
        self.billed[model] += int(Decimal(cost) * 10**7)
        return call(work.ordinal, chunk, cost=cost, usage=usage)

    def _answer(self, work: Work) -> bytes:
        asked = json.loads(work.body)
        prompt = "\n".join(each["content"] for each in asked["messages"])
        self.sent += len(prompt.encode()) + HIDDEN_TOKENS + asked["max_tokens"]
        said = say(prompt, self.slips, self.dice)
        body = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        return json.dumps(body, ensure_ascii=False).encode()


def _with_body(each: Result, place: int) -> Result:
    return msgspec.structs.replace(each, body=place)


def read_table(path: Path) -> list[dict[str, str]]:
    """The answered table."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
