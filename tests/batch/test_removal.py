"""Removing jobs: only those that are over, and what they spent still counts in the home's caps."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from batch.money.caps import Caps, write_caps
from batch.money.spend_tracker import Allowance
from batch.removal import remove, size, unfinished
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.budget import Amount
from jobs.errors import NoSuchJob, StorageUnavailable, UsageError
from jobs.names import NOTICES, REMOVED
from jobs.states import JobState
from tests.batch.making import JOB, OTHER, call, closing, delivery, feed, publish, result

NOW = time.time()
LETTER = b"""{"last": "end", "letters": [{"name": "n", "way": "url", "address": "https://x",
 "word": {"event": "ended", "job": "j", "name": "n", "state": "completed"}}]}"""


def over(folder: Path, job: str = JOB, cost: str | None = "3", sent_at: float = NOW) -> JobStore:
    """A job of one request that cost 3 ₽ a moment ago, whose results are written."""
    store = publish(folder, 1, job=job)
    chunk = feed(store, 1, Amount(Decimal(3)))
    ((ordinal, _, _),) = chunk.requests
    called = call(ordinal, chunk.chunk, cost=cost, bound="3", sent_at=sent_at, generation_id="g")
    done = result(ordinal, chunk.chunk)
    delivery_ledger.apply(
        store, [delivery([called], [done], [closing(chunk.chunk, calls=1)], job=job)]
    )
    store.set_state(JobState.FINALIZING)
    store.set_state(JobState.COMPLETED, now=sent_at)
    store.written(store.revision())
    return store


def left(home: Home, job: str = OTHER) -> Decimal:
    store = home.open(job)
    room = Allowance(home).room(job, store)
    store.close()
    assert room is not None
    return room.rub


def test_what_a_removed_job_spent_still_counts(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_caps(tmp_path, Caps(Decimal(10), None))
    publish(tmp_path, 1, job=OTHER).close()
    over(tmp_path).close()
    assert left(home) == 7
    assert size(home.jobs_folder / JOB) > 0

    remove(home, JOB)

    assert home.job_ids() == [OTHER]
    assert [each.name for each in home.jobs_folder.iterdir()] == [OTHER]
    assert left(home) == 7
    with pytest.raises(NoSuchJob):
        home.find(JOB)


def test_a_removal_that_was_cut_short_counts_the_spending_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_caps(tmp_path, Caps(Decimal(10), None))
    publish(tmp_path, 1, job=OTHER).close()
    over(tmp_path).close()
    remove(home, JOB)

    over(tmp_path).close()  # as if its folder were there again

    assert left(home) == 7
    remove(home, JOB)
    assert left(home) == 7


def test_what_was_spent_long_ago_is_not_kept(tmp_path: Path) -> None:
    over(tmp_path, sent_at=NOW - 90 * 86_400).close()
    remove(Home(tmp_path), JOB)

    assert (tmp_path / REMOVED).read_bytes() == b'{"%b":{"quarters":{},"key":""}}\n' % JOB.encode()


def test_a_list_of_spending_that_is_not_ours_stops_whoever_has_caps(tmp_path: Path) -> None:
    write_caps(tmp_path, Caps(Decimal(10), None))
    publish(tmp_path, 1, job=OTHER).close()
    (tmp_path / REMOVED).write_text("[]")

    with pytest.raises(StorageUnavailable, match="does not hold what removed jobs spent"):
        left(Home(tmp_path))


def lose_a_chunk(store: JobStore) -> None:
    store.set_state(JobState.IN_PROGRESS)
    store.failures.retry(())
    store.db.execute("UPDATE chunks SET state = 'lost'")
    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED, now=NOW)
    store.written(store.revision())


@pytest.mark.parametrize(
    ("why", "happens"),
    [
        ("it is in_progress", lambda store: store.set_state(JobState.IN_PROGRESS)),
        ("lost workers may still report on it", lose_a_chunk),
        ("its results are not written yet", lambda store: store.written(-1)),
        (
            "a notification of it is not delivered yet",
            lambda store: (store.folder / NOTICES).write_bytes(LETTER),
        ),
    ],
)
def test_what_is_not_over_is_not_removed(
    why: str, happens: Callable[[JobStore], object], tmp_path: Path
) -> None:
    store = over(tmp_path)
    happens(store)
    found, way = unfinished(store)
    store.close()

    with pytest.raises(UsageError, match=why) as refusal:
        remove(Home(tmp_path), JOB)

    assert (found, way) == (why, refusal.value.hint)
    assert "nightshift" in way
    assert Home(tmp_path).job_ids() == [JOB]
    assert Home(tmp_path).open(JOB).job().requests == 1


def test_a_job_with_calls_whose_cost_is_asked_for_is_not_removed(tmp_path: Path) -> None:
    over(tmp_path, cost=None).close()

    with pytest.raises(UsageError, match="cost of some of its calls is still unknown"):
        remove(Home(tmp_path), JOB)


def test_removals_beside_each_other_forget_no_spending(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_caps(tmp_path, Caps(Decimal(100), None))
    publish(tmp_path, 1, job=OTHER).close()
    jobs = [f"{JOB[:-2]}0{place}" for place in range(8)]
    for job in jobs:
        over(tmp_path, job).close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(partial(remove, home), jobs))

    assert left(home) == 76


def test_a_job_that_goes_while_others_are_read_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    write_caps(tmp_path, Caps(Decimal(10), None))
    store = publish(tmp_path, 1, job=OTHER)
    over(tmp_path).close()
    listed = home.job_ids()
    remove(home, JOB)
    monkeypatch.setattr(home, "job_ids", lambda: listed)

    room = Allowance(home).room(OTHER, store)

    assert room is not None
    assert room.rub == 7
