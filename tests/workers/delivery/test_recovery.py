"""What a killed worker left: its answers are delivered, its open calls are told of.

The ids name the lines of the catalogue of faults (P2, P4, P9, F10, F11, P19).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from jobs.budget import Amount
from jobs.chunk import DRAINED, WORKER_DIED, ChunkClosed
from jobs.errors import NightshiftError, StorageUnavailable
from jobs.gateways import Tariff
from jobs.outcome import Billing
from jobs.result import ResultState
from tests.workers.fakes import (
    JOB,
    MODEL,
    FakeHome,
    FakePost,
    completion,
    cut,
    refusal,
    until,
)
from workers.calling.classifier import classify
from workers.calling.endpoint import Answer
from workers.delivery import journal, outbox, recovery
from workers.delivery.journal import Sent
from workers.delivery.outbox import Outbox

Life = Callable[[Outbox], None]


def call(
    box: Outbox, ordinal: int, answer: Answer | None, attempt: int = 1, uncertain: int = 0
) -> None:
    """A call that left, and came back if there is an answer."""
    name = box.new_call_id()
    box.sent(Sent(name, JOB, 1, ordinal, attempt, uncertain, 1.0, MODEL, Amount(None, 100)))
    if answer is not None:
        box.ended(name, answer)


def left_behind(root: Path, life: Life) -> Path:
    """The folder of a worker that lived so and was killed."""

    async def scene() -> Path:
        box = Outbox(root, FakePost())
        life(box)
        box.disk._journal.close(empty=False)
        return box.disk.folder

    return asyncio.run(scene())


def recovered(root: Path) -> FakeHome:
    """What the next worker brings home; nothing is left on the disk then."""

    async def scene() -> FakeHome:
        post = FakePost()
        home, box = FakeHome(post), Outbox(root, post)
        folders = recovery.recover(root, box)
        box.when_acknowledged(lambda: recovery.forget(folders))
        box.start()

        def done() -> bool:
            home.take_in()
            return not box._watchers and not box._closers

        await until(done)
        assert await box.close(5)
        return home

    home = asyncio.run(scene())
    assert [path for path in root.iterdir() if path.is_dir()] == []
    return home


def three(box: Outbox) -> None:
    box.claimed(JOB, 1, [(0, 0, 0), (1, 2, 1), (2, 0, 0)])


def test_p4_an_answer_that_was_not_yet_judged_comes_home(tmp_path: Path) -> None:
    def life(box: Outbox) -> None:
        three(box)
        call(box, 0, completion())

    left_behind(tmp_path, life)
    home = recovered(tmp_path)

    assert home.results[JOB, 0].state is ResultState.COMPLETED
    assert home.bodies[JOB, 0] == completion().body
    assert home.closed[JOB, 1].reason == WORKER_DIED
    assert home.closed[JOB, 1].returned == [(1, 2, 1), (2, 0, 0)]


@pytest.mark.parametrize("began", [False, True])
def test_of_a_chunk_that_was_only_claimed_it_is_told_that_it_never_began(
    tmp_path: Path, *, began: bool
) -> None:
    """Another worker may have begun it, of which its home knows nothing."""

    def life(box: Outbox) -> None:
        three(box)
        if began:
            box.claimed(JOB, 1, [(0, 0, 0), (1, 2, 1), (2, 0, 0)], began=True)

    left_behind(tmp_path, life)
    closed = recovered(tmp_path).closed[JOB, 1]
    assert (closed.began, len(closed.returned)) == (began, 3)


def test_an_answer_that_was_not_yet_judged_costs_what_its_gateway_says(tmp_path: Path) -> None:
    def life(box: Outbox) -> None:
        box.claimed(JOB, 1, [(0, 0, 0)], Tariff(("cost",), Decimal(100)))
        call(box, 0, completion())

    left_behind(tmp_path, life)
    (row,) = recovered(tmp_path).calls.values()

    plain = classify(completion(), asked_model="m", now=0.0).charge.cost
    assert plain
    assert row.cost == 100 * plain


def test_a_refusal_ends_its_request_too(tmp_path: Path) -> None:
    def life(box: Outbox) -> None:
        three(box)
        call(box, 0, refusal(400))

    left_behind(tmp_path, life)
    assert recovered(tmp_path).results[JOB, 0].code == "endpoint.bad_request"


def test_p2_calls_in_flight_are_booked_and_their_requests_go_back(tmp_path: Path) -> None:
    def life(box: Outbox) -> None:
        three(box)
        call(box, 1, None, attempt=3, uncertain=1)

    left_behind(tmp_path, life)
    home = recovered(tmp_path)

    (row,) = home.calls.values()
    assert (row.billing, row.attempt, row.ordinal) == (Billing.UNKNOWN, 3, 1)
    assert home.closed[JOB, 1].returned == [(0, 0, 0), (1, 3, 2), (2, 0, 0)]


@pytest.mark.parametrize(
    ("answer", "back", "booked"),
    [(refusal(429), (0, 1, 0), 0), (cut(), (0, 1, 1), 1), (refusal(500), (0, 1, 1), 1)],
)
def test_a_call_that_was_to_be_tried_again_counts(
    tmp_path: Path, answer: Answer, back: tuple[int, int, int], booked: int
) -> None:
    def life(box: Outbox) -> None:
        three(box)
        call(box, 0, answer)

    left_behind(tmp_path, life)
    home = recovered(tmp_path)

    assert home.closed[JOB, 1].returned[0] == back
    assert len(home.calls) == booked


def test_p9_a_chunk_that_was_closed_is_closed_as_it_was(tmp_path: Path) -> None:
    closed = ChunkClosed(1, DRAINED, [(1, 2, 1), (2, 5, 0)], {"endpoint.rate_limited": 4}, 1)

    def life(box: Outbox) -> None:
        three(box)
        call(box, 0, completion())
        box.put_closed(JOB, closed)

    left_behind(tmp_path, life)
    told = recovered(tmp_path).closed[JOB, 1]
    assert told.outbox
    assert msgspec.structs.replace(told, outbox="") == closed


def test_a_chunk_is_told_closed_only_when_all_that_its_dead_worker_left_is_in_the_home(
    tmp_path: Path,
) -> None:
    """Nobody can count what the dead worker had told before, so the order has to do."""

    def life(box: Outbox) -> None:
        three(box)
        call(box, 0, completion())
        call(box, 1, None)

    left_behind(tmp_path, life)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        folders = recovery.recover(tmp_path, box)
        box.when_acknowledged(lambda: recovery.forget(folders))
        box.start()
        await until(lambda: post.stream)
        home.take_in(acknowledge=False)
        await asyncio.sleep(4 * outbox.SYNC_S)
        home.take_in()
        assert len(home.calls) == 2
        assert home.closed == {}
        assert all(folder.exists() for folder, _ in folders)

        box.resend_all()

        def closed() -> bool:
            home.take_in()
            return bool(home.closed)

        await until(closed)
        await until(lambda: not any(folder.exists() for folder, _ in folders))
        await box.close(5)

    asyncio.run(scene())


def test_several_that_died_are_all_recovered(tmp_path: Path) -> None:
    for ordinal in range(3):
        left_behind(
            tmp_path,
            lambda box, n=ordinal: call(box, n, completion()),  # type: ignore[misc]
        )

    assert {key[1] for key in recovered(tmp_path).results} == {0, 1, 2}


def test_an_outbox_with_nothing_in_it_is_just_removed(tmp_path: Path) -> None:
    left_behind(tmp_path, lambda _: None)
    assert not recovered(tmp_path).deliveries


def test_what_is_not_acknowledged_stays_for_the_next(tmp_path: Path) -> None:
    folder = left_behind(tmp_path, lambda box: call(box, 0, completion()))

    async def scene() -> None:
        post = FakePost()
        post.away = True
        box = Outbox(tmp_path, post)
        folders = recovery.recover(tmp_path, box)
        box.when_acknowledged(lambda: recovery.forget(folders))
        box.start()
        assert not await box.close(0.1)
        for _, lock in folders:
            os.close(lock)

    asyncio.run(scene())
    assert folder.exists()
    assert recovered(tmp_path).results.keys() == {(JOB, 0)}


def test_the_chunks_of_a_killed_worker_are_held_until_they_are_in_the_home(
    tmp_path: Path,
) -> None:
    """Else a message that comes again would run them a second time."""
    left_behind(tmp_path, three)

    async def scene() -> None:
        post = FakePost()
        home, box = FakeHome(post), Outbox(tmp_path, post)
        folders = recovery.recover(tmp_path, box)
        box.when_acknowledged(lambda: recovery.forget(folders))
        assert box.has_open(JOB, 1)
        box.start()
        await until(lambda: post.stream)
        home.take_in()
        await until(lambda: not box.has_open(JOB, 1))
        await box.close(5)

    asyncio.run(scene())


@pytest.mark.parametrize("damage", [b"\xff", b"nightshift outbox 9\n"])
def test_f11_p19_a_journal_that_cannot_be_read_stays_as_it_is(
    tmp_path: Path, damage: bytes
) -> None:
    def life(box: Outbox) -> None:
        for ordinal in range(3):
            call(box, ordinal, completion())

    folder = left_behind(tmp_path, life)
    path = folder / "00000001.log"
    at = 0 if len(damage) > 1 else 40
    good = path.read_bytes()
    bad = good[:at] + damage + good[at + len(damage) :]
    path.write_bytes(bad)

    async def scene() -> None:
        box = Outbox(tmp_path, FakePost())
        with pytest.raises(NightshiftError):
            recovery.recover(tmp_path, box)
        box.abandon()

    asyncio.run(scene())
    assert path.read_bytes() == bad
    assert [each for each in tmp_path.iterdir() if each.is_dir()] == [folder]


def test_a_record_that_is_whole_but_means_nothing_is_named(tmp_path: Path) -> None:
    folder = left_behind(tmp_path, lambda _: None)
    one = journal.Journal(tmp_path / "other")
    one.write(journal.Heard("a", "b"))
    one.close(empty=False)
    path = one.folder / "00000001.log"
    path.rename(folder / "00000002.log")
    (folder / "00000001.log").unlink()
    assert [type(each) for each in journal.records(folder)] == [journal.Heard]

    strange = journal.Journal(tmp_path / "strange")
    strange.write(("unheard of", 1))  # type: ignore[arg-type]
    strange.close(empty=False)
    with pytest.raises(StorageUnavailable, match="at byte"):
        list(journal.records(strange.folder))
