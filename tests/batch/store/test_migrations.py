"""What former versions wrote, this one reads: homes of each format, written by the code of then.

Each holds two jobs. One is in mid-run: a chunk answered, one with a cut answer, a failure and a
call of unknown cost, one lost, one out. The other waits for the next day, for a cap of the home.
"""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from batch import reports
from batch.store import database, delivery_ledger, migrations
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.errors import StorageUnavailable
from jobs.states import JobState
from tests.batch.making import ANSWER, JOB, OTHER, answered, feed

HOMES = Path(__file__).parent / "homes"
RELEASED = sorted(HOMES.glob("format-*.tar.xz"))


@pytest.fixture(params=RELEASED, ids=lambda path: path.name.split(".")[0])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return Home(tmp_path)


def format_on_disk(store: Path) -> int:
    with closing(sqlite3.connect(store / "job.sqlite")) as db:
        return migrations.format_of(db)


def columns(db: sqlite3.Connection) -> dict[str, set[tuple[object, ...]]]:
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        table: {tuple(row)[1:] for row in db.execute(f"PRAGMA table_info({table})")}
        for table in tables
    }


def test_formats_follow_one_another_and_every_released_one_is_tried() -> None:
    numbers = list(migrations.steps())
    assert numbers == list(range(4, migrations.latest() + 1))
    # Between them format 5 changed, and its number did not.
    tried = {path.name.removesuffix(".tar.xz") for path in RELEASED}
    assert tried >= {"format-4", "format-5", "format-6", "format-7-early", "format-7"}


def test_a_job_in_mid_run_is_carried_over_with_all_that_is_known_of_it(home: Home) -> None:
    with closing(home.open(JOB, read_only=True)) as store:
        job = store.job()
        assert (job.requests, job.completed, job.failed, job.left) == (16, 5, 1, 10)
        assert (job.settled_rub, job.booked_rub) == (Decimal("3.0"), Decimal(2))
        assert (job.calls, job.unknown, job.truncated, job.invalid) == (7, 1, 1, 1)
        assert job.spec.budget.rub == 100
        assert store.refusals() == {"endpoint.rate_limited": 3}
        assert store.chunks.lost().rub == 8
        assert store.chunks.out() == [4]
        assert store.queue.body(3) == b'{"messages":[],"n":4}'
        assert store.prices() is not None
    assert format_on_disk(store.folder) == migrations.latest()


def test_it_is_finished_by_this_version_and_its_files_are_written(
    home: Home, tmp_path: Path
) -> None:
    with closing(home.open(JOB)) as store:
        (out,) = [chunk for chunk in store.chunks.alive() if not chunk.lost]
        delivery_ledger.apply(store, [answered(out, sequence=3)])
        while store.job().left:
            delivery_ledger.apply(store, [answered(feed(store))])
        store.set_state(JobState.IN_PROGRESS)
        store.set_state(JobState.FINALIZING)
        store.set_state(JobState.COMPLETED, now=2000.0)
        reports.write_all(store, tmp_path / "out")

        assert (store.job().completed, store.job().failed) == (15, 1)
    assert len((tmp_path / "out" / "output.jsonl").read_bytes().splitlines()) == 15
    assert ANSWER.decode()[:9] in (tmp_path / "out" / "output.jsonl").read_text("utf-8")


def test_a_file_that_was_carried_over_is_as_a_new_one(home: Home, tmp_path: Path) -> None:
    with closing(home.open(OTHER)) as store, closing(database.create(tmp_path / "new")) as new:
        assert columns(store.db) == columns(new)


def test_a_step_that_fails_leaves_the_file_as_it_was(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home.jobs_folder / JOB
    before = format_on_disk(folder)
    late = {**migrations.steps(), migrations.latest() + 1: "CREATE TABLE job (x);"}
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "steps", lambda: late)
        with pytest.raises(StorageUnavailable):
            home.open(JOB)
        assert format_on_disk(folder) == before

    home.open(JOB).close()
    assert format_on_disk(folder) == migrations.latest()


def test_two_that_come_at_a_time_both_find_it_carried_over(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = iter([True])
    real = migrations.steps

    def steps() -> dict[int, str]:
        if next(first, False):
            JobStore(home.jobs_folder / JOB).close()
        return real()

    with closing(sqlite3.connect(home.jobs_folder / JOB / "job.sqlite")) as db:
        monkeypatch.setattr(migrations, "steps", steps)
        migrations.migrate(db)
        assert migrations.format_of(db) == migrations.latest()
