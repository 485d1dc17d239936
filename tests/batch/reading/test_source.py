from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from batch.reading.json_scan import MOST_VALUES
from batch.reading.reader import Defaults, read
from batch.reading.source import LONGEST_LINE, check_readable, check_stream
from jobs.errors import InvalidInput
from jobs.request import Fault, Request

LINE = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}\n'
LINES = b"".join(LINE % str(number).encode() for number in range(50_000))


def count(source: Path | str | io.BytesIO) -> int:
    results = list(read(source, Defaults()))
    assert all(isinstance(result, Request) for result in results)
    assert [result.line for result in results] == list(range(1, len(results) + 1))
    return len(results)


def refusal(source: Path | str | BinaryIO) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(read(source, Defaults()))
    assert caught.value.message.isprintable()
    return caught.value.message


PACKED = {".jsonl": LINES, ".gz": gzip.compress(LINES), ".zst": zstd.compress(LINES)}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_file_is_read_whatever_it_is_packed_with(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"in{suffix}").write_bytes(PACKED[suffix])
    (tmp_path / "unnamed").write_bytes(PACKED[suffix])

    assert count(tmp_path / f"in{suffix}") == 50_000
    assert count(str(tmp_path / "unnamed")) == 50_000
    assert count(io.BytesIO(PACKED[suffix])) == 50_000


class Dripping(io.BytesIO):
    """A pipe that hands over one byte, then two, then three."""

    step = 0

    def read(self, size: int | None = -1) -> bytes:
        self.step += 1
        return super().read(min(size or 0, self.step))


@pytest.mark.parametrize("suffix", PACKED)
def test_a_pipe_may_hand_over_few_bytes_at_a_time(suffix: str) -> None:
    assert count(Dripping(PACKED[suffix])) == 50_000


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_members_are_read_one_after_the_other_f9(compress: object) -> None:
    assert callable(compress)
    half = len(LINES) // 2

    assert (
        count(io.BytesIO(compress(LINES[:half]) + compress(b"") + compress(LINES[half:]))) == 50_000
    )


def test_zeros_may_pad_a_gzip_file_f9() -> None:
    assert count(io.BytesIO(gzip.compress(LINES) + b"\0" * 100_000)) == 50_000


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_cut_short_is_refused_with_its_byte_f9(suffix: str) -> None:
    data = PACKED[suffix]

    assert f"byte {len(data) - 9}" in refusal(io.BytesIO(data[:-9]))
    assert f"byte {len(data) // 2}" in refusal(io.BytesIO(data[: len(data) // 2]))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("tail", [b"garbage", b"\x1f\x8bgarbage"])
def test_damage_is_refused_with_its_byte_f9(suffix: str, tail: bytes) -> None:
    data = PACKED[suffix]
    flipped = bytes(byte ^ 255 if at == len(data) // 2 else byte for at, byte in enumerate(data))

    assert "byte" in refusal(io.BytesIO(flipped))
    assert f"byte {len(data)}" in refusal(io.BytesIO(data + tail))


def test_a_wrong_checksum_is_refused_f9() -> None:
    packed = zlib.compressobj(wbits=31)
    data = packed.compress(LINES) + packed.flush()

    assert "gzip" in refusal(io.BytesIO(data[:-8] + b"\0\0\0\0" + data[-4:]))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
@pytest.mark.parametrize("content", [b"\0", b" " * (2**20 - 1) + b"\n"])
def test_a_bomb_is_cut_f9(compress: object, content: bytes) -> None:
    assert callable(compress)
    data = LINE % b"1" + content * (300 * 2**20 // len(content))

    assert "1000 times" in refusal(io.BytesIO(compress(data)))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
def test_a_name_that_lies_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"in{suffix}").write_bytes(LINES)

    assert "has the extension" in refusal(tmp_path / f"in{suffix}")


def test_what_cannot_be_opened_is_told_in_words_f15(tmp_path: Path) -> None:
    for word, path in (
        ("does not exist", tmp_path / "none.jsonl"),
        ("is a directory", tmp_path),
        ("too long", tmp_path / ("x" * 300)),
        ("not a valid file name", Path("a\0b")),
    ):
        assert word in refusal(path)
        with pytest.raises(InvalidInput, match=word):
            check_readable(path)


def test_a_pipe_is_looked_at_from_outside(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    check_readable(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/urandom", "/dev/full"])
def test_a_device_without_an_end_is_no_input(name: str) -> None:
    with pytest.raises(InvalidInput, match="is a device, not a file"):
        check_readable(Path(name))
    with Path(name).open("rb") as stream, pytest.raises(InvalidInput, match="is a device"):
        check_stream(stream)
    check_readable(Path(os.devnull))


class Endless(io.RawIOBase):
    """Gives the same for ever, after a beginning."""

    def __init__(self, beginning: bytes, then: bytes) -> None:
        self._beginning, self._then, self.given = beginning, then, 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        data, self._beginning = self._beginning or self._then * size, b""
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    ("beginning", "then", "told"),
    [
        (b"", b"\0", "only zero bytes"),
        (b'[{"a": 1},', b"1,", "array"),
        (LINES, b"x", "1,073,741,824"),
    ],
)
def test_a_line_without_an_end_ends_the_reading(beginning: bytes, then: bytes, told: str) -> None:
    endless = Endless(beginning, then)
    source = cast("BinaryIO", endless)

    if beginning == LINES:
        assert told in refusal(source)
    else:
        (fault,) = read(source, Defaults())
        assert told in str(fault)
        assert endless.given < 2 * LONGEST_LINE + 2**21


@pytest.mark.parametrize("name", [b"with space", b"with\nnewline", b"\xff\xfe", b"x" * 255])
def test_odd_names_work_or_are_told_readably_f15(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))

    assert "does not exist" in refusal(path)
    path.write_bytes(LINES)
    assert count(path) == 50_000


def test_a_failing_disk_is_told_with_its_byte() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(size)

    assert "Input/output error" in refusal(Broken(LINES))


@pytest.mark.parametrize("size", [0, 1, 511, 2**19, LONGEST_LINE])
def test_a_line_may_end_anywhere_within_a_block(size: int) -> None:
    long = LINE % (b"x" * max(0, size - len(LINE % b"") + 1))

    assert count(io.BytesIO(LINES[: len(LINE % b"1") * 10] + long + long + LINE % b"1")) == 13


def test_a_line_over_the_limit_is_one_fault_and_the_next_is_read_i8() -> None:
    over = LINE % (b"x" * (LONGEST_LINE - len(LINE % b"") + 2))

    first, fault, last = read(io.BytesIO(LINE % b"1" + over + LINE % b"2"), Defaults())

    assert isinstance(first, Request)
    assert isinstance(fault, Fault)
    assert isinstance(last, Request)
    assert (fault.line, fault.code, last.line) == (2, "input.too_long", 3)


MEASURE = """
import resource, sys
from batch.reading.reader import Defaults, read
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
list(read(sys.argv[1], Defaults()))
before = peak()
codes = {getattr(result, "code", "") for result in read(sys.argv[2], Defaults())}
print(peak() - before, *codes)
"""


def growth(tmp_path: Path, data: bytes) -> tuple[float, list[str]]:
    """MiB by which reading `data` raises the peak of a process that has read a usual file."""
    (tmp_path / "usual").write_bytes(LINES)
    (tmp_path / "odd").write_bytes(data)
    run = [sys.executable, "-c", MEASURE, str(tmp_path / "usual"), str(tmp_path / "odd")]
    kib, *codes = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    return int(kib) / 1024, codes


def test_a_line_of_100_mb_costs_no_memory_i8(tmp_path: Path) -> None:
    mib, codes = growth(tmp_path, b"x" * 100_000_000)

    assert codes == ["input.too_long"]
    assert mib < 20


def test_memory_does_not_grow_with_the_file_i24(tmp_path: Path) -> None:
    mib, _ = growth(tmp_path, LINES * 20)

    assert mib < 20


def test_a_line_full_of_values_costs_little_memory_i8(tmp_path: Path) -> None:
    mib, codes = growth(tmp_path, b"[" + b"{}," * (MOST_VALUES * 20) + b"{}]")

    assert codes == ["input.too_long"]
    assert mib < 100
