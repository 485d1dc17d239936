"""Results on their way home: nothing is lost, whatever dies and whenever.

The ids name the lines of the catalogue of faults (F1, F2, F12, P4, R2, R3).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.budget import Amount
from jobs.chunk import DONE, ChunkClosed, ReturnReason
from jobs.errors import StorageUnavailable
from jobs.outcome import Billing
from jobs.result import Call, Result, ResultState
from jobs.wire import Found
from tests.workers.fakes import JOB, MODEL, OTHER_JOB, FakeHome, FakePost, completion, cut, until
from workers.delivery import delivery_batches, delivery_queue, journal, outbox, recovery, segments
from workers.delivery.journal import Sent
from workers.delivery.outbox import Outbox
from workers.delivery.records import WORKER_DIED

Test = Callable[[Path], Coroutine[Any, Any, None]]


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def sent_by(box: Outbox, ordinal: int, job: str = JOB, attempt: int = 1) -> Sent:
    """A call that left."""
    call = box.new_call_id()
    record = Sent(call, job, 1, ordinal, attempt, 0, 1.0, MODEL, Amount(None, 100))
    box.sent(record)
    return record


def call_of(sent: Sent, billing: Billing = Billing.UNKNOWN) -> Call:
    return Call(
        sent.call, sent.ordinal, sent.chunk, sent.attempt, sent.sent_at, 0.5, 200, "", billing
    )


def result_of(sent: Sent) -> Result:
    return Result(sent.ordinal, ResultState.COMPLETED, "", "", 200, 1, sent.call, 0.5, 2.0)


def answer(box: Outbox, ordinal: int, body: bytes = b"yes", job: str = JOB) -> Sent:
    """A call that left and was answered."""
    sent = sent_by(box, ordinal, job)
    box.ended(sent.call, completion())
    box.put(job, call_of(sent), result_of(sent), body)
    return sent


def close_chunk(box: Outbox, chunk: int = 1, job: str = JOB) -> None:
    box.put_closed(job, ChunkClosed(chunk, DONE, [], {}))


def logs(box: Outbox) -> list[str]:
    return sorted(path.name for path in box.disk.folder.glob("*.log"))


async def home_has(home: FakeHome, count: int) -> None:
    """Lets the home read until it has so many results."""

    def has() -> bool:
        home.take_in()
        return len(home.results) >= count

    await until(has)


def test_an_answer_comes_home_with_its_raw_body_and_is_then_forgotten(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        box.claimed(JOB, 1, [(0, 0, 0)])
        sent = answer(box, 0, b"raw")
        close_chunk(box)
        await home_has(home, 1)

        assert await box.close(5)

        assert home.bodies == {(JOB, 0): b"raw"}
        assert home.calls.keys() == {sent.call}
        assert home.closed.keys() == {(JOB, 1)}
        assert not box.disk.folder.exists()

    run(scene())


def test_nothing_is_delivered_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_sync = threading.Event()
    flush = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: may_sync.wait(10) and flush(fd))
    monkeypatch.setattr(delivery_batches, "DELIVER_S", 0.0)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        answer(box, 0)
        await asyncio.sleep(4 * outbox.SYNC_S)
        assert post.stream == []

        may_sync.set()

        await home_has(home, 1)
        await box.close(5)

    run(scene())


def test_r2_while_redis_is_away_results_wait_and_then_all_arrive(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        post.away = True
        for ordinal in range(300):
            answer(box, ordinal)
            if ordinal % 50 == 0:
                await asyncio.sleep(outbox.SYNC_S)

        post.away = False

        await home_has(home, 300)
        assert len(home.calls) == 300
        assert await box.close(5)

    run(scene())


def test_the_outbox_tells_for_how_long_its_oldest_result_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each station of its way: until it is on the disk, meanwhile, and until it is home."""
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(outbox, "time", clock)
    monkeypatch.setattr(delivery_batches, "time", clock)

    async def scene() -> None:
        nonlocal now
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        assert box.lag_s == 0.0
        answer(box, 0)
        now = 103.0
        assert box.lag_s == 3.0

        meanwhile: list[float] = []
        monkeypatch.setattr(os, "fdatasync", lambda _: meanwhile.append(box.lag_s))
        post.away = True
        await box._turn(hurry=True)
        answer(box, 1)
        now = 105.0
        assert (meanwhile, box.lag_s) == ([3.0], 5.0)

        post.away = False
        await box._turn(hurry=True)
        home.take_in()
        await box._turn(hurry=True)
        assert box.lag_s == 0.0
        assert await box.close(5)

    run(scene())


def test_r3_what_redis_forgot_is_sent_again_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        answer(box, 0)
        await until(lambda: post.stream)
        post.forget()

        box.resend_all()

        await home_has(home, 1)
        await box.close(5)

    run(scene())


def test_a_delivery_that_nobody_acknowledges_is_sent_again_ever_more_rarely(
    tmp_path: Path,
) -> None:
    """A home that is away for a night must not find its stream full of copies."""

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        answer(box, 0)
        await until(lambda: post.stream)
        (entry,) = box._deliveries._on_the_way.values()
        assert entry.patience == 2 * delivery_queue.RESEND_S
        entry.due, entry.patience = 0.0, 0.05

        await until(lambda: post.sends == 5)

        assert entry.patience >= 0.05 * 2**4

        home.take_in()
        assert len(home.results) == 1
        await until(lambda: not box._deliveries._on_the_way)
        await box.close(5)

    run(scene())


def test_merged_batches_keep_each_answer_with_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_batches, "DELIVER_S", 0.4)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        for ordinal in range(12):
            answer(box, ordinal, b"" if ordinal % 3 == 0 else b"body of %d" % ordinal)
            await asyncio.sleep(outbox.SYNC_S / 2)

        await home_has(home, 12)
        assert len(home.deliveries) < 6
        assert home.bodies == {
            (JOB, ordinal): b"body of %d" % ordinal for ordinal in range(12) if ordinal % 3
        }
        await box.close(5)

    run(scene())


def test_the_end_of_all_that_is_in_flight_waits_for_no_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_batches, "DELIVER_S", 3600.0)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        flying = sent_by(box, 1)
        answer(box, 0)
        close_chunk(box)
        await asyncio.sleep(3 * outbox.SYNC_S)
        assert post.stream == []

        box.ended(flying.call, completion())
        box.put(JOB, call_of(flying), result_of(flying), b"yes")

        await home_has(home, 2)
        await box.close(5)

    run(scene())


def test_deliveries_are_bounded_in_rows_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_batches, "MOST_ROWS", 20)
    monkeypatch.setattr(delivery_batches, "MOST_BYTES", 1000)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        post.away = True
        box.start()
        for ordinal in range(100):
            answer(box, ordinal, os.urandom(5000 if ordinal == 50 else 90))
            if ordinal % 9 == 0:
                await asyncio.sleep(outbox.SYNC_S)
        post.away = False
        await home_has(home, 100)

        rows = [len(d.calls) + len(d.results) for d in home.deliveries]
        assert max(rows) <= 21
        assert max(len(d.bodies) for d in home.deliveries if len(d.bodies) < 5000) < 1200
        assert len(home.bodies) == 100
        await box.close(5)

    run(scene())


def test_what_waited_long_goes_out_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it in one command would outlast the time that a command has, each time anew."""
    monkeypatch.setattr(delivery_batches, "MOST_BYTES", 1)
    monkeypatch.setattr(delivery_queue, "MOST_BYTES", 1)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        send, portions = post.send, list[int]()

        async def counted(entries: list[tuple[str, bytes]]) -> None:
            portions.append(len(entries))
            await send(entries)

        post.send = counted  # type: ignore[method-assign]
        for ordinal in range(3):
            answer(box, ordinal)
        await box._turn(hurry=True)
        home.take_in()

        assert len(portions) > 1 == max(portions)
        assert len(home.results) == 3
        await box.close(5)

    run(scene())


def test_jobs_do_not_share_deliveries(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        answer(box, 0)
        answer(box, 0, job=OTHER_JOB)
        await home_has(home, 2)
        assert {key[0] for key in home.results} == {JOB, OTHER_JOB}
        await box.close(5)

    run(scene())


def test_segments_go_when_nothing_needs_them_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.claimed(JOB, 1, [(0, 0, 0), (1, 0, 0)])
        box.start()
        answer(box, 0)
        open_call = sent_by(box, 1)
        box.heard(open_call.call, "gen-1")
        await home_has(home, 1)
        await until(lambda: not box._deliveries._on_the_way)

        # The claim, the open call and what was heard of it.
        assert logs(box) == ["00000002.log", "00000005.log", "00000006.log"]

        box.ended(open_call.call, completion())
        box.put(JOB, call_of(open_call), result_of(open_call))
        close_chunk(box)
        await home_has(home, 2)
        await until(lambda: not box._deliveries._on_the_way)
        # A segment that was being written when its last user left goes with the next one.
        answer(box, 5)
        assert len(logs(box)) == 2
        await home_has(home, 3)
        await box.close(5)

    run(scene())


def test_the_segments_of_a_call_that_was_tried_again_go_with_its_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.claimed(JOB, 1, [(0, 0, 0)])
        sent = sent_by(box, 0)
        box.ended(sent.call, cut())
        box.put(JOB, call_of(sent), None)
        for close in (False, True):
            if close:
                close_chunk(box)
            await box._turn(hurry=True)
            home.take_in()
            await box._turn(hurry=True)
            assert len(logs(box)) == (1 if close else 3)
        assert await box.close(5)

    run(scene())


def test_a_dismissed_call_keeps_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)

    async def scene() -> None:
        box = Outbox(tmp_path, FakePost())
        for ordinal in range(5):
            sent = sent_by(box, ordinal)
            box.ended(sent.call, cut())
            box.dismiss(sent.call)

        assert len(logs(box)) == 1
        assert await box.close(0)

    run(scene())


def test_how_often_a_request_was_tried_is_known_until_its_chunk_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a request whose outcome is unknown would be sent a third time after a crash."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        box.claimed(JOB, 1, [(0, 0, 0)])
        sent = sent_by(box, 0)
        box.ended(sent.call, cut())
        box.put(JOB, call_of(sent), None)

        def acknowledged() -> bool:
            home.take_in()
            return bool(home.calls) and not box._deliveries._on_the_way

        await until(acknowledged)
        crash(box)

        after = Outbox(tmp_path, post)
        recovery.recover(tmp_path, after)
        after.when_acknowledged(lambda: None)
        after.start()

        def closed() -> bool:
            home.take_in()
            return bool(home.closed)

        await until(closed)
        assert home.closed[JOB, 1].returned == [(0, 1, 1)]
        await after.close(5)

    run(scene())


def test_watchers_hear_when_everything_put_before_them_is_in_the_home(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        heard: list[int] = []
        answer(box, 0)
        box.when_acknowledged(lambda: heard.append(len(home.results)))
        answer(box, 1)
        box.start()
        await until(lambda: post.stream)
        home.take_in(acknowledge=False)
        await asyncio.sleep(3 * outbox.SYNC_S)
        assert heard == []

        box.resend_all()

        await home_has(home, 2)
        await until(lambda: heard)
        await box.close(5)

    run(scene())


def test_watchers_of_nothing_hear_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        box, heard = Outbox(tmp_path, FakePost()), list[bool]()
        box.when_acknowledged(lambda: heard.append(True))
        box.start()
        await until(lambda: heard)
        await box.close(5)

    run(scene())


def test_p4_a_chunk_is_held_from_its_claim_until_its_end_is_in_the_home(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        box.claimed(JOB, 1, [])
        assert box.has_open(JOB, 1)
        close_chunk(box)
        assert box.has_open(JOB, 1)
        await until(lambda: post.stream)
        home.take_in()

        await until(lambda: not box.has_open(JOB, 1))
        await box.close(5)

    run(scene())


def test_a_chunk_of_which_redis_lost_an_answer_is_told_of_until_that_is_in_the_home(
    tmp_path: Path,
) -> None:
    """Its end may be there already: else its worker counted as silent until it is sent again."""

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        box.claimed(JOB, 1, [])
        answer(box, 0)
        await until(lambda: post.stream)
        post.forget()
        close_chunk(box)
        await until(lambda: post.stream)
        home.take_in()
        await until(lambda: not box.has_open(JOB, 1))

        assert box.open_chunks() == {JOB: [1]}
        box.resend_all()
        await home_has(home, 1)
        await until(lambda: not box.open_chunks())
        await box.close(5)

    run(scene())


def test_the_end_of_a_chunk_tells_how_many_of_its_calls_may_be_billed(tmp_path: Path) -> None:
    """Its grant is free only when the home has booked as many."""

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        for ordinal, billing in enumerate([Billing.UNKNOWN, Billing.UNKNOWN, Billing.NONE]):
            box.put(JOB, call_of(sent_by(box, ordinal), billing), None)
        answer(box, 3, job=OTHER_JOB)
        close_chunk(box)
        close_chunk(box, job=OTHER_JOB)
        await box._turn(hurry=True)
        home.take_in()

        assert {job: closed.calls for (job, _), closed in home.closed.items()} == {
            JOB: 2,
            OTHER_JOB: 1,
        }
        await box.close(5)

    run(scene())


def test_what_was_not_acknowledged_stays_on_the_disk(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        post.away = True
        box = Outbox(tmp_path, post)
        box.start()
        answer(box, 0)

        assert not await box.close(0.1)

        assert len(list(journal.records(box.disk.folder))) == 2

    run(scene())


def test_the_loop_survives_what_nobody_thought_of(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        acknowledged, times = post.acknowledged, [0]

        async def stumbling(outbox: str) -> list[int]:
            times[0] += 1
            if times[0] == 1:
                raise ValueError("a text with an answer")
            return await acknowledged(outbox)

        post.acknowledged = stumbling  # type: ignore[method-assign]
        box.start()
        answer(box, 0)
        await home_has(home, 1)
        await until(lambda: not box._deliveries._on_the_way)
        await box.close(5)

    run(scene())


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_f1_with_a_full_disk_no_call_leaves_but_what_is_paid_comes_home_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        told: list[bool] = []
        box.disk.on_failure = lambda: told.append(True)
        box.start()
        box.claimed(JOB, 1, [(0, 0, 0), (1, 0, 0)])
        flying = sent_by(box, 0)

        monkeypatch.setattr(os, "write", full_disk)
        box.heard(flying.call, "gen-1")
        box.ended(flying.call, completion())
        box.put(JOB, call_of(flying), result_of(flying), b"paid")
        with pytest.raises(StorageUnavailable):
            sent_by(box, 1)
        box.put_closed(JOB, ChunkClosed(1, ReturnReason("drained"), [(1, 0, 0)], {}))
        monkeypatch.undo()
        # Room or not: a worker that could not keep a fact sends nothing any more.
        with pytest.raises(StorageUnavailable):
            sent_by(box, 1)
        assert not box.disk.is_kept

        await home_has(home, 1)
        assert told == [True]
        assert home.bodies == {(JOB, 0): b"paid"}
        await until(lambda: not box._deliveries._on_the_way)
        assert home.closed[JOB, 1].returned == [(1, 0, 0)]
        assert await box.close(5)

    run(scene())


def test_f1_where_the_disk_only_refused_a_call_all_that_happened_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a worker need not stay until the home has read what it holds."""

    async def scene() -> None:
        box = Outbox(tmp_path, FakePost())
        answer(box, 0)
        monkeypatch.setattr(os, "write", full_disk)
        with pytest.raises(StorageUnavailable):
            sent_by(box, 1)
        monkeypatch.undo()

        assert box.disk.is_kept
        await box.close(0)

    run(scene())


def test_f1_what_needed_the_room_set_aside_is_kept_and_no_call_leaves_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refusals = os.write, [full_disk]

    def full_until_room_is_made(fd: int, data: bytes) -> int:
        return refusals.pop()() if refusals else write(fd, data)

    async def scene() -> None:
        box = Outbox(tmp_path, FakePost())
        flying = sent_by(box, 0)
        monkeypatch.setattr(os, "write", full_until_room_is_made)
        box.heard(flying.call, "gen-1")
        monkeypatch.undo()

        with pytest.raises(StorageUnavailable, match="no space left"):
            sent_by(box, 1)
        assert box.disk.is_kept
        assert len(list(journal.records(box.disk.folder))) == 2
        await box.close(0)

    run(scene())


def test_f1_what_stands_in_a_folder_that_was_deleted_is_not_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        box = Outbox(tmp_path, FakePost())
        answer(box, 0)
        shutil.rmtree(box.disk.folder)
        await asyncio.sleep(segments.LOOK_S)
        with pytest.raises(StorageUnavailable):
            sent_by(box, 1)

        assert not box.disk.is_kept
        await box.close(0)

    run(scene())


def test_f2_a_disk_that_failed_to_sync_is_not_asked_again_and_results_still_come_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []

    def broken(fd: int) -> None:
        syncs.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        for ordinal in range(3):
            if box.disk.failure is None:
                answer(box, ordinal)
            await asyncio.sleep(3 * outbox.SYNC_S)

        await home_has(home, 1)
        close_chunk(box)

        def told() -> bool:
            home.take_in()
            return bool(home.closed)

        await until(told)
        # A disk that says yes the second time may have dropped what it refused the first time.
        assert len(syncs) == 1
        assert box.disk.failure is not None
        assert not box.disk.is_kept
        await box.close(5)

    run(scene())


# ---- a crash at any moment -------------------------------------------------------------------


def crash(box: Outbox) -> None:
    """SIGKILL: the loop stops, the lock goes, what was written stays."""
    if box._task:
        box._task.cancel()
    for fd in (*box.disk._journal._full, box.disk._journal._fd, box.disk._journal._lock):
        os.close(fd)


class CrashAtAnyMoment(RuleBasedStateMachine):
    """A worker that is killed again and again, a Redis that forgets, a home that is slow.

    What it must not forget: each answered call's answer reaches the home, each call that left
    without an answer is told of as uncertain, and each chunk comes to an end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.post = FakePost()
        self.home = FakeHome(self.post)
        self.flying: dict[str, Sent] = {}
        self.all: dict[str, Sent] = {}
        self.answered: dict[str, bytes] = {}
        self.chunks: set[int] = set()
        self.open: dict[int, set[int]] = {}
        self.ordinals = self.numbers = 0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(journal, "SEGMENT_BYTES", 400)
        self.patch.setattr(delivery_batches, "DELIVER_S", 0.0)
        self.patch.setattr(outbox, "SYNC_S", 0.0)
        # No power is cut here.
        self.patch.setattr(os, "fsync", lambda _: None)
        self.patch.setattr(os, "fdatasync", lambda _: None)
        self.folders: list[tuple[Path, int]] = []
        self.start()

    def start(self) -> None:
        self.box = Outbox(self.root, self.post)
        self.folders = recovery.recover(self.root, self.box)
        if self.folders:
            self.box.when_acknowledged(self.forget)

    def forget(self) -> None:
        recovery.forget(self.folders)
        self.folders = []

    def turn(self, *, hurry: bool = False) -> None:
        self.loop.run_until_complete(self.box._turn(hurry=hurry))

    @rule(size=st.integers(1, 4))
    def claim(self, size: int) -> None:
        self.numbers += 1
        requests = [(self.ordinals + n, 0, 0) for n in range(size)]
        self.ordinals += size
        self.chunks.add(self.numbers)
        self.open[self.numbers] = {r[0] for r in requests}
        self.box.claimed(JOB, self.numbers, requests)

    @precondition(lambda self: any(self.open.values()))
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        chunk = data.draw(st.sampled_from(sorted(c for c, left in self.open.items() if left)))
        ordinal = data.draw(st.sampled_from(sorted(self.open[chunk])))
        self.open[chunk].discard(ordinal)
        sent = Sent(self.box.new_call_id(), JOB, chunk, ordinal, 1, 0, 1.0, MODEL, Amount(None, 10))
        self.box.sent(sent)
        self.flying[sent.call] = self.all[sent.call] = sent

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        self.box.heard(data.draw(st.sampled_from(sorted(self.flying))), "gen-1")

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), told=st.booleans())
    def answer(self, data: st.DataObject, *, told: bool) -> None:
        """`told` is whether it got as far as the ledger before the next thing happens."""
        call = data.draw(st.sampled_from(sorted(self.flying)))
        sent = self.flying.pop(call)
        reply = completion(number=len(self.answered))
        self.box.ended(call, reply)
        self.answered[call] = reply.body
        if told:
            self.box.put(JOB, call_of(sent), result_of(sent), reply.body)
        else:
            self.crash()

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def cut_and_send_again(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.flying)))
        sent = self.flying.pop(call)
        self.box.ended(call, cut())
        self.box.put(JOB, call_of(sent), None)
        self.open.setdefault(sent.chunk, set()).add(sent.ordinal)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        busy = {sent.chunk for sent in self.flying.values()}
        free = sorted(self.open.keys() - busy)
        if not free:
            return
        chunk = data.draw(st.sampled_from(free))
        back = [(ordinal, 0, 0) for ordinal in sorted(self.open.pop(chunk))]
        self.box.put_closed(JOB, ChunkClosed(chunk, ReturnReason("drained"), back, {}))

    @rule()
    def work(self) -> None:
        self.turn()

    @rule(acknowledge=st.booleans())
    def home_reads(self, *, acknowledge: bool) -> None:
        self.home.take_in(acknowledge=acknowledge)

    @rule()
    def redis_forgets(self) -> None:
        self.post.forget()
        self.box.resend_all()

    @rule(away=st.booleans())
    def redis_is_away(self, *, away: bool) -> None:
        self.post.away = away

    @rule()
    def crash(self) -> None:
        self.kill()
        self.flying.clear()
        self.open.clear()
        self.start()

    def kill(self) -> None:
        crash(self.box)
        for _, lock in self.folders:
            os.close(lock)

    @invariant()
    def nothing_is_told_that_never_happened(self) -> None:
        assert self.home.calls.keys() <= self.all.keys()
        assert self.home.closed.keys() <= {(JOB, chunk) for chunk in self.chunks}

    def teardown(self) -> None:
        self.crash()
        self.post.away = False
        self.box.resend_all()
        for _ in range(5):
            self.turn(hurry=True)
            self.home.take_in()
        self.turn(hurry=True)
        try:
            self.check()
        finally:
            self.kill()
            self.patch.undo()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.root)

    def check(self) -> None:
        assert self.home.calls.keys() == self.all.keys()
        for call, body in self.answered.items():
            assert self.home.bodies[JOB, self.all[call].ordinal] == body
        for call in self.all.keys() - self.answered.keys():
            assert self.home.calls[call].billing is Billing.UNKNOWN
        assert self.home.closed.keys() == {(JOB, chunk) for chunk in self.chunks}
        finished = {ordinal for _, ordinal in self.home.results}
        given_back = {r[0] for closed in self.home.closed.values() for r in closed.returned}
        assert finished | given_back == set(range(self.ordinals))
        # Nothing is left but the outbox at work, with nothing in it.
        assert [path.name for path in self.root.iterdir() if path.is_dir()] == [self.box.name]
        assert not self.box.disk._users


TestCrashAtAnyMoment = CrashAtAnyMoment.TestCase
TestCrashAtAnyMoment.settings = settings(max_examples=80, stateful_step_count=40)


def test_a_lookup_comes_home(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.start()
        box.put_found(JOB, Found(3, "call", None))
        await until(lambda: post.stream)
        home.take_in()
        assert home.found == [Found(3, "call", None)]
        await box.close(5)

    run(scene())


def test_calls_of_a_killed_worker_carry_the_id_they_can_be_looked_up_by(tmp_path: Path) -> None:
    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        box.claimed(JOB, 1, [(0, 0, 0)])
        sent = sent_by(box, 0)
        box.heard(sent.call, "gen-7")
        crash(box)

        after = Outbox(tmp_path, post)
        recovery.recover(tmp_path, after)
        after.when_acknowledged(lambda: None)
        after.start()

        def closed() -> bool:
            home.take_in()
            return bool(home.closed)

        await until(closed)
        call = home.calls[sent.call]
        assert (call.generation_id, call.code, call.billing) == (
            "gen-7",
            WORKER_DIED,
            Billing.UNKNOWN,
        )
        assert home.closed[JOB, 1].returned == [(0, 1, 1)]
        await after.close(5)

    run(scene())
