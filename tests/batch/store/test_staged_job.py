"""A job is in the home whole or not at all, whatever happens while it is stored."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.store import database, input_blocks
from batch.store.home import Home
from batch.store.input_blocks import BlockReader, BlockWriter
from batch.store.jobstore import LIFT, JobStore
from batch.store.staged_job import Draft
from batch.store.stored_estimate import Guess
from jobs.errors import StorageUnavailable
from jobs.message import Message
from jobs.names import BLOCKS, DATABASE
from jobs.request import Fault
from jobs.states import JobState
from tests.batch.making import JOB, OTHER, feed, prices, publish, request, spec


def duplicates(draft: Draft) -> list[tuple[int, str]]:
    return [(fault.line, fault.message) for fault in draft.drop_duplicates()]


# ── What was stored is there ─────────────────────────────────────────────────────────────────────


def test_a_published_job_holds_its_requests_in_the_order_of_the_file(tmp_path: Path) -> None:
    store = publish(tmp_path, 5)

    waiting = store.queue.waiting(10)

    assert [each.ordinal for each in waiting] == [0, 1, 2, 3, 4]
    assert [store.queue.body(each.ordinal) for each in waiting] == [
        b'{"messages":[],"n":%d}' % line for line in range(1, 6)
    ]
    job = store.job()
    assert (job.state, job.requests, job.invalid, job.left) == (JobState.IN_PROGRESS, 5, 0, 5)


def test_a_job_without_requests_is_a_job_i15(tmp_path: Path) -> None:
    store = publish(tmp_path, 0)

    assert store.queue.waiting(10) == []
    assert store.job().left == 0


def test_more_requests_than_are_written_at_once_keep_their_bodies(tmp_path: Path) -> None:
    store = publish(tmp_path, 4500)

    assert store.job().requests == 4500
    assert [store.queue.body(n)[-5:] for n in (0, 1999, 2000, 4499)] == [
        b'"n":1}'[-5:],
        b"2000}",
        b"2001}",
        b"4500}",
    ]


def test_the_prices_and_the_estimate_are_kept(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "jobs", JOB)
    draft.add(request(1))
    highest = prices().models["minimax/minimax-m1"].bound(10, 10)
    guess = Guess(likely=highest / 2, at_most=highest)
    draft.publish(spec(tmp_path), prices(), 1000.0, guess)

    store = JobStore(tmp_path / "jobs" / JOB)

    assert store.prices() == prices()
    assert (store.job().guess.likely, store.job().guess.at_most) == (highest / 2, highest)
    assert store.job().guess == guess


def test_the_home_is_for_its_owner_alone_f14_s14(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home(tmp_path / "home")
        home.lock().release()
        store = publish(home.folder, 3)
        feed(store)  # so that there is a log beside the file
        found = {
            path.relative_to(home.folder): oct(path.stat().st_mode & 0o777)
            for path in (home.folder, *home.folder.rglob("*"))
        }
    finally:
        os.umask(before)

    folders = {mode for path, mode in found.items() if (home.folder / path).is_dir()}
    files = {mode for path, mode in found.items() if (home.folder / path).is_file()}
    assert folders == {"0o700"}
    assert files == {"0o600"}
    assert len([path for path in found if path.name.startswith(DATABASE)]) == 3


# ── Duplicates (FAULTS I9) ───────────────────────────────────────────────────────────────────────


def test_every_line_with_an_id_that_an_earlier_line_has_is_dropped_and_told_i9(
    tmp_path: Path,
) -> None:
    draft = Draft(tmp_path / "jobs", JOB)
    for line, name in enumerate(["a", "b", "a", "c", "a", "b"], start=1):
        draft.add(request(line, custom_id=name))

    told = duplicates(draft)
    draft.publish(spec(tmp_path), None, 1000.0)

    assert told == [
        (3, "custom_id 'a' is already used in line 1"),
        (5, "custom_id 'a' is already used in line 1"),
        (6, "custom_id 'b' is already used in line 2"),
    ]
    store = JobStore(tmp_path / "jobs" / JOB)
    assert store.job().requests == 3
    assert [
        (each.ordinal, store.queue.body(each.ordinal)[-2:]) for each in store.queue.waiting(9)
    ] == [
        (0, b"1}"),
        (1, b"2}"),
        (3, b"4}"),
    ]


def test_twins_far_apart_and_in_great_number_are_found_i9(tmp_path: Path) -> None:
    """With one look at the whole table for each of them this would take hours."""
    draft = Draft(tmp_path / "jobs", JOB)
    rows = 30_000
    for line in range(1, 2 * rows + 1):
        draft.add(request(line, custom_id=f"r-{line % rows}", body=b"{}"))

    told = duplicates(draft)
    draft.publish(spec(tmp_path), None, 1000.0)

    assert len(told) == rows
    assert told[0] == (rows + 1, "custom_id 'r-1' is already used in line 1")
    assert JobStore(tmp_path / "jobs" / JOB).job().requests == rows


def test_a_skipped_line_leaves_the_ordinals_of_the_others(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "jobs", JOB)
    for line in (1, 3, 4):
        draft.add(request(line, custom_id="same" if line > 1 else "first"))
    draft.refuse(Fault(2, "input.json", Message("not JSON")))
    for fault in draft.drop_duplicates():
        draft.refuse(fault)
    draft.publish(spec(tmp_path), None, 1000.0)

    store = JobStore(tmp_path / "jobs" / JOB)

    assert [each.ordinal for each in store.queue.waiting(9)] == [0, 1]
    assert [store.queue.body(ordinal)[-2:] for ordinal in (0, 1)] == [b"1}", b"3}"]
    assert [(fault["line"], fault["code"]) for fault in store.faults()] == [
        (2, "input.json"),
        (4, "input.duplicate_id"),
    ]
    assert (store.job().requests, store.job().invalid) == (2, 2)


# ── All or nothing (FAULTS P6) ───────────────────────────────────────────────────────────────────


def killed_after(calls: int, work: Callable[[], None]) -> bool:
    """Does the work in a child that kills itself after so many calls into C; whether it did."""
    child = os.fork()
    if child == 0:
        left = calls

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal left
            if event == "c_call":
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        work()
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_submitter_killed_at_any_moment_leaves_no_job_or_a_whole_one_p6(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def submit() -> None:
        publish(tmp_path, 3, priced=prices())

    calls = kills = 0
    while True:
        # Of two neighbours one; nearly all of them change nothing on the disk.
        calls += 2
        was_killed = killed_after(calls, submit)
        if home.job_ids():
            with_all = home.open(JOB)
            assert with_all.job().requests == len(with_all.queue.waiting(9)) == 3
            assert with_all.queue.body(2) == b'{"messages":[],"n":3}'
            with_all.close()
            if not was_killed:
                break
            # It was killed after the job was there.
            for path in (tmp_path / "jobs" / JOB).iterdir():
                path.unlink()
            (tmp_path / "jobs" / JOB).rmdir()
        assert was_killed
        kills += 1

    assert kills > 50
    assert home.find("latest") == JOB


def test_what_a_killed_submitter_left_is_removed_by_the_next(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"

    def begin_and_die() -> None:
        Draft(jobs, OTHER).add(request(1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_after(10**9, begin_and_die)
    assert [path.name for path in jobs.glob(".job*")] == [f".{OTHER}.draft"]

    publish(tmp_path)

    assert sorted(path.name for path in jobs.iterdir()) == [JOB]


def test_a_draft_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    slow = Draft(tmp_path / "jobs", OTHER)

    publish(tmp_path)
    slow.add(request(1))
    slow.publish(spec(tmp_path), None, 1000.0)

    assert Home(tmp_path).job_ids() == [JOB, OTHER]


def test_an_abandoned_draft_leaves_nothing(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "jobs", JOB)
    draft.add(request(1))

    draft.abandon()

    assert list((tmp_path / "jobs").iterdir()) == []


# ── The snapshot of the input (FAULTS F8, F11) ───────────────────────────────────────────────────


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=60), max_size=40), st.integers(1, 200))
def test_bodies_come_back_as_they_were_whatever_the_size_of_a_block(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], size: int
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "b"
    writer, places = BlockWriter(path), []
    input_blocks.BLOCK_BYTES, before = size, input_blocks.BLOCK_BYTES
    try:
        placed = [writer.append(body) for body in bodies]
    finally:
        input_blocks.BLOCK_BYTES = before
    places = [place for place in (*placed, writer.flush()) if place]
    writer.finish()

    reader = BlockReader(path)
    found = [body for place in places for body in reader.block(*place)]

    assert found == bodies
    assert [first for first, _, _ in places] == sorted({first for first, _, _ in places})
    reader.close()


def test_a_flipped_bit_in_the_snapshot_is_found_and_its_place_named_f11(tmp_path: Path) -> None:
    publish(tmp_path).close()
    path = tmp_path / "jobs" / JOB / BLOCKS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)

    with pytest.raises(StorageUnavailable, match="damaged at byte 0"):
        JobStore(tmp_path / "jobs" / JOB).queue.body(0)


@pytest.mark.parametrize("damage", ["gone", "empty"])
def test_a_snapshot_that_is_gone_is_told_in_a_sentence_f8(tmp_path: Path, damage: str) -> None:
    publish(tmp_path).close()
    path = tmp_path / "jobs" / JOB / BLOCKS
    path.unlink()
    if damage == "empty":
        path.touch()

    with pytest.raises(StorageUnavailable, match=r"input\.blocks"):
        JobStore(tmp_path / "jobs" / JOB).queue.body(0)


# ── The job's file ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_job_file_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    publish(tmp_path).close()
    (tmp_path / "jobs" / JOB / DATABASE).write_bytes(content)

    with pytest.raises(StorageUnavailable, match=r"job\.sqlite"):
        JobStore(tmp_path / "jobs" / JOB)


def test_a_job_file_of_another_version_is_left_alone_p19(tmp_path: Path) -> None:
    publish(tmp_path).close()
    path = tmp_path / "jobs" / JOB / DATABASE
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(StorageUnavailable, match="another version of Nightshift") as refusal:
        JobStore(tmp_path / "jobs" / JOB)

    assert "use the version that wrote it" in refusal.value.hint


def test_a_missing_job_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="is missing"):
        database.connect(tmp_path / DATABASE)


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = publish(tmp_path)

    def change() -> None:
        with store.transaction() as db:
            db.execute("UPDATE job SET failed = 7")
            db.execute("UPDATE nowhere SET x = 1")

    with pytest.raises(StorageUnavailable, match="cannot be written"):
        change()
    assert store.job().failed == 0


def test_a_commit_is_on_the_disk_even_after_a_power_cut_p18(tmp_path: Path) -> None:
    store = publish(tmp_path)

    modes = [
        store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]

    assert modes == ["wal", 2]


def test_what_is_read_in_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    store = publish(tmp_path)
    reader = JobStore(tmp_path / "jobs" / JOB, read_only=True)

    with reader.snapshot():
        before = reader.job().cursor
        feed(store)
        within = reader.job().cursor

    assert (before, within, reader.job().cursor) == (-1, -1, 3)


def test_a_read_only_store_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path).close()
    reader = JobStore(tmp_path / "jobs" / JOB, read_only=True)

    with pytest.raises(StorageUnavailable):
        reader.want(LIFT)
