"""The book: every call, what was sent for it and what was billed, on disk.

Two JSON lines a call. The first when the request is in (so that a call in flight is visible), the
second when it is over:

    {"event":"received","call":7,"at":"2026-11-23T22:01:02.345678+00:00","mono":812.4,"id":"gen-…",
     "method":"POST","path":"/api/v1/chat/completions","key":"<sha256>","body":"<sha256>",
     "messages":"<sha256>","model":"minimax/minimax-m1"}
    {"event":"finished","call":7,"at":…,"mono":…,"status":200,"sent":"<sha256>","sent_bytes":812,
     "delivery":"full","billed":"0.0123","admitted":true,"generated":true,"fault":null,
     "prompt_tokens":…, "completion_tokens":…, "cached_tokens":…, "reasoning_tokens":…,
     "provider":"Minimax","finish_reason":"stop"}

No key and no prompt is in it, only their hashes. Lines are handed to the system once per turn of
the event loop: they outlive the process, not a power cut.
"""

import asyncio
import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, TypeVar, overload

from .exact_json import EXACT
from .other_endpoints import PATHS

CHAT = tuple(f"/{path}" for path in PATHS)
_Key = TypeVar("_Key")
# Made once: `json.dumps` with settings of one's own makes an encoder at every call.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical(messages: object) -> bytes:
    """`messages` in the one form that is hashed: sorted keys, no spaces, UTF-8."""
    return _canonical(messages).encode("utf-8", "surrogatepass")


def canonical_hash(messages: object) -> str:
    """sha256 (hex) of the canonical form of `messages`, as the book has it under `messages`."""
    return hashlib.sha256(canonical(messages)).hexdigest()


def body_hash(raw: bytes) -> str:
    """sha256 (hex) of the bytes of a request or an answer, as the book has it."""
    return hashlib.sha256(raw).hexdigest()


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One call. What comes after `model` is unset while the call is in flight.

    `mono` times are seconds of the machine's monotonic clock, `at` times aware UTC.
    `sent_hash` is over the body bytes sent, without the white space before them.
    `delivery`: ``full``, ``cut`` (we broke it off), ``client_gone``, ``none`` (no byte was sent).
    `admitted`: took a place among the calls in flight. `generated`: the model's work was completed.
    """

    call: int
    received_at: datetime
    received_mono: float
    generation_id: str
    method: str
    path: str
    key_hash: str | None
    body_hash: str
    messages_hash: str | None
    model: str | None
    finished_at: datetime | None = None
    finished_mono: float | None = None
    status: int | None = None
    sent_hash: str | None = None
    sent_bytes: int = 0
    delivery: str | None = None
    billed: Decimal = Decimal(0)
    admitted: bool = False
    generated: bool = False
    fault: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    provider: str | None = None
    finish_reason: str | None = None

    @property
    def is_chat(self) -> bool:
        """Whether it went to a path where answers are bought."""
        return self.path.endswith(CHAT)

    @property
    def in_flight(self) -> bool:
        """Whether it has no end yet."""
        return self.finished_at is None


class Book(Sequence[BookEntry]):
    """The entries of a book, by call number, and the questions tests ask of it."""

    def __init__(self, entries: Iterable[BookEntry]) -> None:
        self._entries = tuple(entries)

    @overload
    def __getitem__(self, index: int) -> BookEntry: ...
    @overload
    def __getitem__(self, index: slice) -> "Book": ...
    def __getitem__(self, index: int | slice) -> "BookEntry | Book":
        if isinstance(index, slice):
            return Book(self._entries[index])
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[BookEntry]:
        return iter(self._entries)

    def chats(self) -> "Book":
        """Only the calls to the chat path."""
        return Book(each for each in self if each.is_chat)

    def billed(self) -> "Book":
        """Only the calls that cost something."""
        return Book(each for each in self if each.billed)

    def in_flight(self) -> "Book":
        """Only the calls that are not over."""
        return Book(each for each in self if each.in_flight)

    def total_billed(self) -> Decimal:
        """All that was billed, in roubles, exactly."""
        with localcontext(EXACT):
            return sum((each.billed for each in self), Decimal(0))

    def total_tokens(self) -> int:
        """Prompt and completion tokens of the billed calls."""
        return sum(each.prompt_tokens + each.completion_tokens for each in self.billed())

    def by_body(self) -> "dict[str, Book]":
        """The calls of each request body, by its sha256."""
        return _grouped((each.body_hash, each) for each in self)

    def by_status(self) -> dict[int | None, int]:
        """How many calls ended with each status."""
        groups = _grouped((each.status, each) for each in self)
        return {status: len(calls) for status, calls in groups.items()}

    def max_in_flight(self, *, only_admitted: bool = True) -> int:
        """The most chat calls at one moment; with those that were refused at once if asked."""
        moments: list[tuple[float, int]] = []
        for each in self:
            if each.is_chat and (each.admitted or each.in_flight or not only_admitted):
                moments.append((each.received_mono, 1))
                if each.finished_mono is not None:
                    moments.append((each.finished_mono, -1))
        return max(itertools.accumulate(step for _, step in sorted(moments)), default=0)


def _grouped(pairs: Iterable[tuple[_Key, BookEntry]]) -> dict[_Key, Book]:
    groups: dict[_Key, list[BookEntry]] = {}
    for key, entry in pairs:
        groups.setdefault(key, []).append(entry)
    return {key: Book(entries) for key, entries in groups.items()}


def read_book(path: str | Path) -> Book:
    """The book at `path`, also while it is being written; a torn last line is left out."""
    found: dict[int, dict[str, Any]] = {}
    with Path(path).open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                _note(found, json.loads(line))
    return Book(BookEntry(**found[call]) for call in sorted(found))


_NAMES = {"id": "generation_id", "key": "key_hash", "body": "body_hash", "sent": "sent_hash"}
_NAMES["messages"] = "messages_hash"
_FIELDS = {field.name for field in fields(BookEntry)}


def _note(found: dict[int, dict[str, Any]], record: dict[str, Any]) -> None:
    event = record.pop("event")
    record[f"{event}_at"] = datetime.fromisoformat(record.pop("at"))
    record[f"{event}_mono"] = record.pop("mono")
    if "billed" in record:
        record["billed"] = Decimal(record["billed"])
    known = {_NAMES.get(key, key): value for key, value in record.items()}
    known = {key: value for key, value in known.items() if key in _FIELDS}
    found.setdefault(record["call"], {}).update(known)


class BookWriter:
    """Appends to a book, and finds a call's last line again by its number."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._waiting: list[bytes] = []
        # Where each call's "finished" line begins; eight bytes a call, so that a million fit.
        self._finished_at = array("q")

    def replay(self) -> Iterator[dict[str, Any]]:
        """The records already there, oldest first; a torn last line is cut off."""
        with os.fdopen(os.dup(self._file), "rb") as lines:
            lines.seek(0)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                record: dict[str, Any] = json.loads(line)
                self._remember(record, self._size)
                self._size += len(line)
                yield record
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, self._size, os.SEEK_SET)

    def append(self, record: dict[str, Any]) -> None:
        """Add one line; it is written before the event loop waits again."""
        line = _encode(record).encode() + b"\n"
        self._remember(record, self._size)
        self._size += len(line)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(line)

    def finished(self, call: int) -> dict[str, Any] | None:
        """The "finished" record of a call, if it is over."""
        if not 0 <= call < len(self._finished_at) or self._finished_at[call] < 0:
            return None
        self.flush()
        return self._read_line(self._finished_at[call])

    def flush(self) -> None:
        """Hand everything to the system."""
        data = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Flush, and force it onto the disk."""
        self.flush()
        os.fsync(self._file)
        os.close(self._file)

    def _remember(self, record: dict[str, Any], offset: int) -> None:
        if record["event"] != "finished":
            return
        call = record["call"]
        self._finished_at.extend([-1] * (call + 1 - len(self._finished_at)))
        self._finished_at[call] = offset

    def _read_line(self, offset: int) -> dict[str, Any]:
        data = b""
        while b"\n" not in data:
            data += os.pread(self._file, 4096, offset + len(data))
        record: dict[str, Any] = json.loads(data[: data.index(b"\n")])
        return record
