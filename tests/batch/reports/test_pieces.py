"""Files that are read piece by piece, of a folder in which anything may lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch.reports.output_files import piece, sizes


def test_a_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    (tmp_path / "output.jsonl").write_bytes(b"abcdefg")

    found = [piece(tmp_path, "output.jsonl", offset, 3) for offset in (0, 3, 6, 9)]

    assert [each.data for each in found] == [b"abc", b"def", b"g", b""]
    assert {each.size for each in found} == {7}
    assert len({each.mark for each in found}) == 1


def test_another_file_of_that_name_has_another_mark(tmp_path: Path) -> None:
    (tmp_path / "output.jsonl").write_bytes(b"abc")
    before = piece(tmp_path, "output.jsonl", 0, 3)
    (tmp_path / "new").write_bytes(b"xyz")
    (tmp_path / "new").rename(tmp_path / "output.jsonl")

    assert piece(tmp_path, "output.jsonl", 0, 3).mark != before.mark


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "linked folder", "missing"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A link would lead to a file that is none of the job's."""
    secret, folder = tmp_path / "secret", tmp_path / "results"
    secret.mkdir()
    (secret / "output.jsonl").write_text("of somebody else")
    if kind == "linked folder":
        folder.symlink_to(secret)
    else:
        folder.mkdir()
    path = folder / "output.jsonl"
    if kind == "link":
        path.symlink_to(secret / "output.jsonl")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()

    assert sizes(folder, ["output.jsonl"]) == {}
    with pytest.raises(OSError, match=r".+"):
        piece(folder, "output.jsonl", 0, 10)
