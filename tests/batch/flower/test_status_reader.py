"""Files that Flower gets piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.flower.status_reader import Desk, FileGone, Job
from batch.reports.output_files import Piece, piece
from jobs.states import JobState
from tests.conftest import SEAL


@pytest.fixture
def pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], object]], list[bytes]]:
    """What is read of a file, three bytes at a time; between two pieces something is done."""
    desk, job = Desk("redis://127.0.0.1:9/0", SEAL), Job("job_x", "x", JobState.COMPLETED, 1)

    async def read(_job: Job, name: str, offset: int) -> Piece | None:
        try:
            return piece(tmp_path, name, offset, 3)
        except OSError:
            return None

    monkeypatch.setattr(desk, "_piece", read)  # as if it came through Redis

    async def all_of_it(between: Callable[[], object]) -> list[bytes]:
        found = []
        async for each in desk.pieces(job, "output.jsonl"):
            found.append(each.data)
            between()
        return found

    return lambda between: asyncio.run(all_of_it(between))


@pytest.mark.parametrize("text", ["", "abc", "abcd", "abcdef"])
def test_all_of_a_file_is_read(
    tmp_path: Path, pieces: Callable[[Callable[[], object]], list[bytes]], text: str
) -> None:
    (tmp_path / "output.jsonl").write_text(text)

    assert b"".join(pieces(lambda: None)) == text.encode()


@pytest.mark.parametrize("change", ["another", "shorter", "gone"])
def test_a_file_that_changes_meanwhile_is_not_taken_for_whole(
    tmp_path: Path, pieces: Callable[[Callable[[], object]], list[bytes]], change: str
) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text("abcdefghi")

    def between() -> None:
        if change == "another":
            (tmp_path / "new").write_text("ABCDEFGHI")
            (tmp_path / "new").rename(path)
        elif change == "shorter":
            path.write_text("abcd")
        else:
            path.unlink(missing_ok=True)

    with pytest.raises(FileGone):
        pieces(between)
