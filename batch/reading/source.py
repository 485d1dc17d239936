"""From a file, plain or compressed, to blocks of whole lines, in constant memory."""

from __future__ import annotations

import errno
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from jobs.message import N_, Message

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from jobs.errors import InvalidInput

Source = str | os.PathLike[str] | BinaryIO
"""A path, or a binary stream such as standard input."""

LONGEST_LINE = 8 * 2**20
"""Bytes of a line without its end; a longer one is skipped unread."""

_ENDLESS = 2**30
"""Bytes after which nobody waits for the end of a line that is skipped."""

_BLOCK = 512 * 2**10
_PIECE = 16 * 2**10
_BOMB_RATIO = 1000
_BOMB_FROM = 64 * 2**20

MEANINGS = {
    errno.ENOENT: N_("{name} does not exist"),
    errno.EISDIR: N_("{name} is a directory, not a file"),
    errno.EACCES: N_("{name} cannot be read: permission denied"),
    errno.EPERM: N_("{name} cannot be read: permission denied"),
    errno.ENAMETOOLONG: N_("{name} has a name that is too long"),
    errno.ELOOP: N_("{name} is a symbolic link that leads back to itself"),
}
"""Why a file cannot be opened; `{name}` is its name."""


class Overlong(NamedTuple):
    """Stands where a line is that is longer than `LONGEST_LINE`; `start` is its beginning, and its
    end may not be read yet.
    """

    start: bytes


class _Unpacker(Protocol):
    """One gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's object with the manners of zstd's: it keeps what it has not consumed yet."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Format(NamedTuple):
    name: str
    suffix: str
    magic: bytes
    unpacker: Callable[[], _Unpacker]


_FORMATS = (
    _Format("gzip", ".gz", b"\x1f\x8b", _Gzip),
    _Format("zstd", ".zst", b"\x28\xb5\x2f\xfd", zstd.ZstdDecompressor),
)
_MAGIC = max(len(kind.magic) for kind in _FORMATS)


class Block(NamedTuple):
    """Whole lines: the bytes `start` up to `stop` of `data`, which is not copied for it."""

    data: bytes
    start: int
    stop: int


def blocks(source: Source, name: str = "") -> Iterator[Block | Overlong]:
    """The file's lines, in order, many to a block; only the last may lack its line feed. `name` is
    for sentences; by default the file's own.

    `InvalidInput` for what cannot be opened, read or unpacked.
    """
    name = name or _name(source)
    with _opened(source, name) as stream:
        yield from _whole_lines(_unpacked(stream, name), name)


def unpacked(source: Source, name: str) -> Iterator[bytes]:
    """The file's bytes as they were before gzip or zstd, in pieces; `name` is for sentences.

    Raises as `blocks` does.
    """
    with _opened(source, name) as stream:
        yield from _unpacked(stream, name)


def _whole_lines(chunks: Iterator[bytes], name: str) -> Iterator[Block | Overlong]:
    rest: list[bytes] | None = []
    size = 0
    for chunk in chunks:
        first, last = chunk.find(b"\n") + 1, chunk.rfind(b"\n") + 1
        size += first or len(chunk)
        if rest is not None:
            rest.append(chunk[:first] if first else chunk)
        if rest is not None and size - bool(first) > LONGEST_LINE:
            yield Overlong(rest[0])
            rest = None  # only its length is remembered
        if size > _ENDLESS:
            raise _endless(name)
        if not first:
            continue
        if rest is not None:
            yield _line(rest)
        if last > first:
            yield Block(chunk, first, last)
        rest, size = [chunk[last:]], len(chunk) - last
    if size and rest is not None:
        yield _line(rest)


def _line(parts: list[bytes]) -> Block:
    line = b"".join(parts)
    return Block(line, 0, len(line))


def _endless(name: str) -> InvalidInput:
    return InvalidInput(
        N_(
            "{name} has a line of more than {longest:,} bytes; reading stopped",
            name=name,
            longest=_ENDLESS,
        ),
        hint=N_("use a JSON Lines file; see docs/input.md"),
    )


def _unpacked(stream: BinaryIO, name: str) -> Iterator[bytes]:
    start = _read(stream, _BLOCK, name, 0)
    while 0 < len(start) < _MAGIC and (more := _read(stream, _BLOCK, name, len(start))):
        start += more  # a pipe may hand over its first bytes one by one
    kind = next((kind for kind in _FORMATS if start.startswith(kind.magic)), None)
    named = next((kind for kind in _FORMATS if name.lower().endswith(kind.suffix)), None)
    if named and named is not kind:
        raise InvalidInput(
            N_(
                "{name} has the extension {suffix} but does not contain {named} data",
                name=name,
                suffix=named.suffix,
                named=named.name,
            ),
            hint=N_("compress it again, or remove {suffix} from its name", suffix=named.suffix),
        )
    chunks = _chunks(start, stream, name)
    return _members(chunks, kind, name) if kind else chunks


def _chunks(start: bytes, stream: BinaryIO, name: str) -> Iterator[bytes]:
    done = 0
    while start:
        yield start
        done += len(start)
        start = _read(stream, _BLOCK, name, done)


def _members(chunks: Iterator[bytes], kind: _Format, name: str) -> Iterator[bytes]:
    """Unpacks one member after the other; `taken` and `given` are bytes before and after."""
    member: _Unpacker | None = None
    taken = given = 0
    for piece in _pieces(chunks):
        taken += len(piece)
        left = piece
        while left or not (member is None or member.needs_input):
            if member is None:
                left = left.lstrip(b"\0")  # tapes and block devices pad with zeros
                if not left:
                    break
                member = kind.unpacker()
            try:
                data = member.decompress(left, _BLOCK)
            except (zlib.error, zstd.ZstdError) as error:
                raise _damaged(name, kind, taken - len(left)) from error
            given += len(data)
            if given > _BOMB_FROM and given > taken * _BOMB_RATIO:
                raise _bomb(name, taken)
            yield data
            left, member = (member.unused_data, None) if member.eof else (b"", member)
    if member is not None:
        raise InvalidInput(
            N_(
                "{name} is truncated: its {kind} data ends in the middle (at byte {taken})",
                name=name,
                kind=kind.name,
                taken=taken,
            ),
            hint=_AGAIN,
        )


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces, so that damage is told to within a few KiB."""
    for chunk in chunks:
        for at in range(0, len(chunk), _PIECE):
            yield chunk[at : at + _PIECE]


_AGAIN = N_("copy or compress the file again")


def _damaged(name: str, kind: _Format, offset: int) -> InvalidInput:
    return InvalidInput(
        N_(
            "{name} is damaged: its {kind} data cannot be decompressed beyond byte {offset}",
            name=name,
            kind=kind.name,
            offset=offset,
        ),
        hint=_AGAIN,
    )


def _bomb(name: str, offset: int) -> InvalidInput:
    return InvalidInput(
        N_(
            "{name} decompresses to more than {bomb_ratio} times its size; reading stopped"
            " at byte {offset}",
            name=name,
            bomb_ratio=_BOMB_RATIO,
            offset=offset,
        ),
        hint=N_("if you trust it, decompress it yourself"),
    )


def check_readable(path: Path) -> None:
    """Raises what reading it would, as far as can be seen from outside: a pipe is opened once."""
    name = _name(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _check_ends(found, name)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unreadable(name, error) from error
    except ValueError as error:
        raise _no_name(name) from error


def check_stream(stream: BinaryIO) -> None:
    """The same for one that is open, such as standard input; at a terminal, a person ends it."""
    if not stream.isatty():
        _check_ends(os.fstat(stream.fileno()), _name(stream))


def _check_ends(found: os.stat_result, name: str) -> None:
    """Devices such as /dev/zero give bytes for ever, into memory or onto the disk."""
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    if is_device and not os.path.samestat(found, Path(os.devnull).stat()):
        raise InvalidInput(
            N_("{name} is a device, not a file or a pipe", name=name), hint=N_("name a file")
        )


def _opened(source: Source, name: str) -> AbstractContextManager[BinaryIO]:
    if not isinstance(source, (str, os.PathLike)):
        return nullcontext(source)
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise _unreadable(name, error) from error
    except ValueError as error:
        raise _no_name(name) from error


def _no_name(name: str) -> InvalidInput:
    return InvalidInput(N_("{name} is not a valid file name", name=name))


def _read(stream: BinaryIO, size: int, name: str, offset: int) -> bytes:
    try:
        return stream.read(size) or b""
    except OSError as error:
        told = N_(
            "{name} cannot be read at byte {offset}: {why}", name=name, offset=offset, why=error
        )
        raise InvalidInput(told, hint=_CHECK) from error


_CHECK = N_("check the name and the permissions")


def _unreadable(name: str, error: OSError) -> InvalidInput:
    known = MEANINGS.get(error.errno or 0)
    told = N_("{name} cannot be read: {why}", name=name, why=error)
    return InvalidInput(Message(known, name=name) if known else told, hint=_CHECK)


def _name(source: Source) -> str:
    """What to call the source in a sentence: always printable, on one line."""
    if not isinstance(source, (str, os.PathLike)):
        return "standard input"
    text = os.fspath(source)
    return text if text.isprintable() else ascii(text)[1:-1]
