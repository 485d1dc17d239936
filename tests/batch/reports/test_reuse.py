"""What an earlier job of the home was answered is not bought again, and counted nowhere twice."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest

from batch.money.cost_forecast import cost_of_all
from batch.removal import remove
from batch.reports import write_all
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.submission import pricing
from batch.submission.report import Report
from batch.submission.submit import new_job_id, submit
from jobs.prices import PriceList
from jobs.states import JobState
from jobs.table_task import Task
from tests.batch.making import MODEL, answered, call, delivery, feed, prices, result, spec
from tests.batch.making import closing as is_closed
from tests.batch.tables.playing import Play, read_table
from tests.readers import read_lines


def lines(*texts: str, **change: Any) -> BytesIO:
    body = {"model": MODEL, "max_tokens": 100, **change}
    asked = [{**body, "messages": [{"role": "user", "content": text}]} for text in texts]
    return BytesIO("\n".join(map(json.dumps, asked)).encode())


class Shop:
    """Submits jobs one after the other and answers them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Home(folder / "home")

    def submit(
        self, given: BytesIO | Path, reuse: str = "same", **wish: Any
    ) -> tuple[Report, JobStore]:
        job = new_job_id()
        wish = {"output_dir": str(self.folder / job), "reuse": reuse, **wish}
        report = submit(self.home, job, spec(self.folder, **wish), given)
        return report, self.home.open(job)

    def buy(self, source: BytesIO, **wish: Any) -> JobStore:
        """A job whose waiting requests cost ₽ 0.5 each."""
        _, store = self.submit(source, **wish)
        while left := store.queue.waiting(100):
            delivery_ledger.apply(store, [answered(feed(store, len(left)), job=store.job().id)])
        return store


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    def read(_url: str, models: list[str], **_: object) -> PriceList:
        return prices("0.001", *models)

    monkeypatch.setattr(pricing, "read_prices", read)
    return Shop(tmp_path)


def test_only_what_nobody_asked_before_is_bought_and_what_that_saved_is_told(shop: Shop) -> None:
    first = shop.buy(lines("a", "b"))

    report, store = shop.submit(lines("b", "c", "a", "b"), dedupe="same")
    assert (report.reused, report.copies, report.estimate.requests) == (3, 0, 1)
    job = store.job()
    assert (job.requests, job.completed, job.reused, job.calls) == (4, 3, 3, 0)
    assert [each.ordinal for each in store.queue.waiting(9)] == [1]
    delivery_ledger.apply(store, [answered(feed(store), job=job.id)])

    out = write_all(store)
    facts = [line["nightshift"] for line in read_lines((out / "output.jsonl").read_bytes())]
    assert [(each["cost_source"], each["cost_rub"]) for each in facts] == [
        ("reused", "0"), ("endpoint", "0.5"), ("reused", "0"), ("reused", "0"),
    ]  # fmt: skip
    assert facts[0]["reused_from"] == first.job().id
    cost = json.loads((out / "cost.json").read_text())
    assert (cost["cost_rub"], cost["completed"]) == ("0.5", 4)
    assert cost["reused"] == {"requests": 3, "saved_rub": "1.5"}
    assert "3 requests were answered in earlier jobs" in (out / "report.html").read_text()


def test_answers_of_a_job_that_was_removed_live_on_where_they_were_taken_over(shop: Shop) -> None:
    first = shop.buy(lines("a", "b"))
    second = shop.buy(lines("a"))
    first.set_state(JobState.CANCELLING)
    first.set_state(JobState.CANCELLED)
    first.written(first.revision())
    first.close()
    remove(shop.home, first.folder.name)

    report, third = shop.submit(lines("a", "b"))

    assert report.reused == 1
    with closing(third), third.snapshot():
        assert third.db.execute("SELECT job, rub FROM reused").fetchall()[0][:] == (
            second.job().id, "0.5",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("earlier", "later", "reuse", "count"),
    [
        ({"temperature": 0.7}, {"temperature": 0.7}, "same", 0),
        ({"temperature": 0.7}, {"temperature": 0.7}, "all", 1),
        ({"temperature": 0}, {"temperature": 0}, "same", 1),
        ({}, {"model": "other/model"}, "all", 0),
        ({}, {"max_tokens": 99}, "all", 0),
        ({}, {"top_p": 0.5}, "all", 0),
        ({}, {}, "", 0),
    ],
)
def test_what_is_not_asked_alike_is_bought(
    earlier: dict[str, Any], later: dict[str, Any], reuse: str, count: int, shop: Shop
) -> None:
    shop.buy(lines("a", **earlier))
    report, store = shop.submit(lines("a", **later), reuse=reuse)
    assert (report.reused, store.job().reused) == (count, count)


def test_another_endpoints_model_is_another(shop: Shop) -> None:
    shop.buy(lines("a"))
    report, _ = shop.submit(lines("a"), base_url="http://127.0.0.1:2/api/v1")
    assert report.reused == 0


def test_failures_cut_answers_and_other_odd_ones_are_bought_anew(shop: Shop) -> None:
    _, store = shop.submit(lines("a", "b", "c"))
    chunk = feed(store)
    results = [
        result(0, flags=("truncated",)), result(1, flags=("repaired",)), result(2, code="x.y"),
    ]  # fmt: skip
    done = delivery(
        [call(n) for n in range(3)], results, [is_closed(chunk.chunk)], job=store.job().id
    )
    delivery_ledger.apply(store, [done])

    report, later = shop.submit(lines("a", "b", "c"))

    assert [each.ordinal for each in later.queue.waiting(9)] == [0, 2]
    assert report.reused == 1


def test_where_all_was_answered_before_nothing_is_fed_and_the_job_has_no_rest(shop: Shop) -> None:
    shop.buy(lines("a", "b"))
    _, store = shop.submit(lines("b", "a"))
    job = store.job()
    assert (job.left, store.queue.waiting(9), store.queue.models_left()) == (0, [], [])
    assert cost_of_all(job) is None


def test_the_forecast_and_a_cap_in_requests_count_only_what_is_bought(shop: Shop) -> None:
    shop.buy(lines(*map(str, range(80))))
    _, store = shop.submit(lines(*map(str, range(100))))
    delivery_ledger.apply(store, [answered(feed(store, 10), job=store.job().id)])
    assert cost_of_all(store.job()) == Decimal("10.0")


def test_rows_of_a_pack_are_taken_over_where_rows_are_packed_again(shop: Shop) -> None:
    truths = ["yes", "no", "yes", "no", "yes", "no"]
    table = shop.folder / "reviews.csv"
    rows = [f"word{n} text label: {truth}" for n, truth in enumerate(truths)]
    table.write_text("\n".join(["review", *rows]))

    def asking(pack: int) -> tuple[Report, JobStore]:
        task = Task(prompt="Say: {{ review }}", choices=("yes", "no"), pack=pack)
        wish: dict[str, Any] = {"task": task, "model": MODEL, "max_tokens": 20}
        return shop.submit(table, source=str(table), **wish)

    with closing(asking(3)[1]) as store:
        Play(store, Random(1)).run()

    alone, packed = asking(1)[0], asking(2)
    assert (alone.reused, packed[0].reused, packed[1].job().left) == (0, 6, 0)
    with closing(packed[1]) as store:
        found = read_table(write_all(store) / "reviews.answered.csv")
    assert [(row["answer"], row["cost_rub"]) for row in found] == [(each, "0") for each in truths]


def test_clients_of_the_server_are_given_no_answers_of_others(shop: Shop) -> None:
    body = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "a"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}

    def file() -> BytesIO:
        return BytesIO(json.dumps(line).encode())

    def of(key: str) -> dict[str, Any]:
        return {"origin": {"batch": f"batch_{key}", "key": key, "file": "f"}}

    shop.buy(file(), **of("one"))

    assert shop.submit(file(), **of("two"))[0].reused == 0
    assert shop.submit(file(), **of("one"))[0].reused == 1
    assert shop.submit(file())[0].reused == 1
