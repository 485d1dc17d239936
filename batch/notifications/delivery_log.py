"""What was told of a job and what is still to be told: a small file in the job's folder.

A word stands in it before it is sent, so that a restart loses none; and it is marked when it was
sent, so that none is sent twice but where a crash came between the two. Each try of a word carries
the same name, by which a receiver knows it again.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from batch.notifications.notification import Word
from jobs.names import NOTICES

MOST_TRIES = 14
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 3600.0
"""Between tries; together they cover some six hours."""

_MOST_KEPT = 40


class Letter(msgspec.Struct):
    """A word on one way. Times in Unix seconds."""

    name: str
    way: str
    address: str
    word: Word
    tries: int = 0
    due_at: float = 0.0
    sent: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is to be tried (again)."""
        return not self.sent and self.tries < MOST_TRIES

    def missed(self, now: float) -> None:
        """After a try that failed."""
        self.tries += 1
        self.due_at = now + min(_FIRST_PAUSE_S * 2.5 ** (self.tries - 1), _LONGEST_PAUSE_S)


class Book(msgspec.Struct):
    """`last`: the occasion that was last told, "" once the job went on."""

    last: str = ""
    letters: list[Letter] = []

    @property
    def waits(self) -> bool:
        """Whether any word is to be tried (again)."""
        return any(letter.waits for letter in self.letters)

    def note(self, event: str, ways: dict[str, str], word: Word | None, now: float) -> bool:
        """Takes in how a job stands, and the addresses by way; whether anything changed."""
        if event == self.last:
            return False
        self.last = event
        if event and word is not None:
            self.letters += [
                Letter(secrets.token_hex(8), way, address, word, due_at=now)
                for way, address in ways.items()
            ]
            settled = [letter for letter in self.letters if not letter.waits]
            for letter in settled[: max(len(self.letters) - _MOST_KEPT, 0)]:
                self.letters.remove(letter)
        return True


def read(folder: Path) -> Book:
    """The book of the job in `folder`; an empty one where there is none, or none that is ours."""
    try:
        return msgspec.json.decode((folder / NOTICES).read_bytes(), type=Book)
    except (OSError, msgspec.DecodeError):
        return Book()


def write(folder: Path, book: Book) -> None:
    """Puts it on the disk, whole. Raises `OSError`."""
    draft = folder / f".{NOTICES}.part"
    with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(msgspec.json.encode(book))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / NOTICES)
