"""Records on a worker's disk: what is lost, what is found, and what is never skipped in silence.

The ids name the lines of the catalogue of faults (F4, F10, F11, P18, P19).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.budget import Amount
from jobs.chunk import DONE
from jobs.errors import AlreadyRunning, StorageUnavailable, UsageError
from jobs.gateways import ROUBLES, Tariff
from tests.workers.fakes import JOB
from workers.delivery import journal
from workers.delivery.journal import (
    MAGIC,
    Claimed,
    Closed,
    Ended,
    Heard,
    Journal,
    Record,
    Sent,
    records,
)

HOLDER = """
import sys, pathlib
from workers.delivery.journal import Journal
one = Journal(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
COUNT = st.integers(0, 2**40)
TEXT = st.text(max_size=20)
TRIPLES = st.lists(st.tuples(COUNT, COUNT, COUNT), max_size=4)
RECORD: st.SearchStrategy[Record] = st.one_of(
    st.builds(Claimed, TEXT, COUNT, TRIPLES, st.sampled_from([ROUBLES, Tariff((), Decimal(9))])),
    st.builds(Heard, TEXT, TEXT),
    st.builds(
        Ended, TEXT, st.binary(max_size=500).map(lambda b: msgspec.Raw(msgspec.msgpack.encode(b)))
    ),
    st.builds(
        Sent,
        *(TEXT, TEXT, COUNT, COUNT, COUNT, COUNT),
        st.floats(0, 1e12),
        TEXT,
        st.builds(Amount, st.none() | st.decimals(0, 10**6, places=13), st.none() | COUNT),
    ),
    st.builds(Closed, TEXT, COUNT, st.just(DONE), TRIPLES, st.dictionaries(TEXT, COUNT)),
)


def a_record(number: int) -> Sent:
    return Sent(
        f"call-{number}", JOB, 1, number, 1, 0, 1.5, "m", Amount(Decimal("0.0000522948192"), 7)
    )


def killed(one: Journal) -> Path:
    """What a SIGKILL leaves: the lock is gone, the folder stays."""
    one.close(empty=False)
    return one.folder


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def written(folder: Path, count: int) -> Path:
    """The one segment of a killed journal with so many records."""
    one = Journal(folder)
    for number in range(count):
        one.write(a_record(number))
    (path,) = segments(killed(one))
    return path


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def numbers(folder: Path) -> list[int]:
    return [record.ordinal for record in records(folder) if isinstance(record, Sent)]


@settings(max_examples=60)
@given(st.lists(RECORD, max_size=30), st.integers(100, 5000))
def test_what_was_written_is_read_again_in_order(written: list[Record], segment: int) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "SEGMENT_BYTES", segment)
        one = Journal(Path(root, "box"))
        for record in written:
            one.write(record)
        one.begin_sync()()

        found = list(records(killed(one)))

    assert [msgspec.msgpack.encode(record) for record in found] == [
        msgspec.msgpack.encode(record) for record in written
    ]


@pytest.mark.parametrize("left", [1, 11, 12, 13, 30])
def test_f10_a_torn_last_record_is_dropped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: int
) -> None:
    path = written(tmp_path / "box", 3)
    whole = written(tmp_path / "shorter", 2).stat().st_size

    os.truncate(path, whole + left)

    assert numbers(path.parent) == [0, 1]
    assert f"at byte {whole}" in caplog.text


def test_p18_a_last_record_that_is_as_long_as_it_says_but_was_not_all_written_is_torn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "box", 3)
    whole, good = written(tmp_path / "shorter", 2).stat().st_size, path.read_bytes()

    path.write_bytes(good[:-8] + bytes(8))

    assert numbers(path.parent) == [0, 1]
    assert f"at byte {whole}" in caplog.text


def test_a_file_torn_within_its_first_line_holds_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "box", 2)

    os.truncate(path, len(MAGIC) - 3)

    assert numbers(path.parent) == []


def test_p18_zeros_that_a_power_cut_leaves_at_the_end_are_a_torn_record(tmp_path: Path) -> None:
    path = written(tmp_path / "box", 2)

    os.truncate(path, path.stat().st_size + 300_000)

    assert numbers(path.parent) == [0, 1]


def test_f11_a_flipped_bit_in_the_middle_is_found_and_its_place_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "box", 3)
    good = path.read_bytes()
    second = written(tmp_path / "first", 1).stat().st_size
    third = written(tmp_path / "two", 2).stat().st_size

    for at in range(second, third):
        for bit in range(8):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            with pytest.raises(StorageUnavailable, match=f"at byte {second}") as raised:
                list(records(path.parent))
    assert raised.value.exit_code == 4


def test_f11_zeros_in_the_middle_are_no_torn_end(tmp_path: Path) -> None:
    path = written(tmp_path / "box", 3)
    good = path.read_bytes()
    start = len(MAGIC)

    path.write_bytes(good[:start] + bytes(40) + good[start + 40 :])

    with pytest.raises(StorageUnavailable, match=f"at byte {start}"):
        list(records(path.parent))


def test_p19_the_journal_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "box", 2)
    other = b"nightshift outbox 2\n" + path.read_bytes()[len(MAGIC) :]
    path.write_bytes(other)

    with pytest.raises(UsageError, match="version") as raised:
        list(records(path.parent))

    assert raised.value.exit_code == 2
    assert path.read_bytes() == other


def test_a_live_outbox_is_no_leftover_and_a_dead_one_is_taken_by_one_process_only(
    tmp_path: Path,
) -> None:
    mine = Journal(tmp_path / "mine")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "other")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"

    assert journal.leftovers(tmp_path, mine.folder) == []

    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    ((folder, lock),) = journal.leftovers(tmp_path, mine.folder)
    assert folder == tmp_path / "other"
    assert journal.leftovers(tmp_path, mine.folder) == []
    journal.remove(folder)
    os.close(lock)
    assert not folder.exists()
    mine.close(empty=True)


def test_two_processes_cannot_hold_one_outbox(tmp_path: Path) -> None:
    one = Journal(tmp_path / "box")

    with pytest.raises(AlreadyRunning):
        journal._lock(one.folder)

    one.close(empty=True)


def test_f4_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1]))

    path = written(tmp_path / "box", 3)

    assert numbers(path.parent) == [0, 1, 2]


def fails_after(count: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes so many bytes more."""
    write, left = os.write, [count]

    def limited(fd: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(code, os.strerror(code))
        data = data[: left[0]]
        left[0] -= len(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("taken", [0, 1, 12, 40])
def test_half_a_record_of_a_full_disk_does_not_spoil_what_comes_after(
    tmp_path: Path, taken: int
) -> None:
    one = Journal(tmp_path / "box")
    one.write(a_record(0))

    with pytest.MonkeyPatch.context() as full:
        fails_after(taken, errno.ENOSPC, full)
        with pytest.raises(StorageUnavailable, match="No space"):
            one.write(a_record(1))
    one.write(a_record(2))

    assert numbers(killed(one)) == [0, 2]


def test_where_it_cannot_be_cut_back_half_a_record_ends_its_segment(tmp_path: Path) -> None:
    one = Journal(tmp_path / "box")
    one.write(a_record(0))

    with pytest.MonkeyPatch.context() as full:
        fails_after(10, errno.EIO, full)
        full.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
        with pytest.raises(StorageUnavailable):
            one.write(a_record(1))
    one.write(a_record(2))

    assert numbers(killed(one)) == [0, 2]


def test_a_segment_that_cannot_be_opened_is_a_failed_disk_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)
    one = Journal(tmp_path / "box")

    with pytest.MonkeyPatch.context() as full:
        fails_after(5, errno.ENOSPC, full)
        with pytest.raises(StorageUnavailable):
            one.write(a_record(0))
    one.write(a_record(1))

    assert numbers(killed(one)) == [1]


def test_a_folder_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnavailable) as raised:
        Journal(tmp_path / "file" / "box")

    assert raised.value.exit_code == 4


def test_a_segment_that_fills_up_while_it_is_synced_is_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors are reused: closing one twice would close somebody's socket."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 200)
    one = Journal(tmp_path / "box")
    before = open_files()
    for number in range(20):
        one.write(a_record(2 * number))
        finish = one.begin_sync()
        one.write(a_record(2 * number + 1))
        finish()
    one.begin_sync()()

    assert open_files() == before
    assert numbers(killed(one)) == list(range(40))


def test_what_was_written_after_a_sync_began_is_still_to_be_synced(tmp_path: Path) -> None:
    one = Journal(tmp_path / "box")
    finish = one.begin_sync()
    assert not one.is_dirty

    one.write(a_record(0))
    finish()

    assert one.is_dirty
    one.close(empty=True)


def test_the_names_of_new_files_are_synced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)

    one = Journal(tmp_path / "box")
    one.begin_sync()()
    one.begin_sync()()

    assert synced == [str(tmp_path), str(tmp_path / "box")]
    one.close(empty=True)


def test_f2_a_sync_that_fails_closes_all_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Journal(tmp_path / "box")
    one.write(a_record(0))
    before = open_files()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(StorageUnavailable):
        one.begin_sync()()

    assert open_files() == before
    one.close(empty=True)


def test_f14_only_the_owner_may_look_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        one = Journal(tmp_path / "root" / "box")
        one.write(a_record(0))
    finally:
        os.umask(old)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}

    assert modes == {
        "root": 0o700,
        "box": 0o700,
        ".gate": 0o600,
        "lock": 0o600,
        "00000001.log": 0o600,
    }
    one.close(empty=True)
    assert not one.folder.exists()
