"""What a killed worker left on this host: its answers are delivered, its open calls are told of."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from jobs.chunk import WORKER_DIED, ChunkClosed
from jobs.gateways import ROUBLES, Tariff
from jobs.message import N_
from jobs.outcome import Answered, Billing, Refused
from jobs.result import Call, Result
from workers.calling.classifier import classify
from workers.calling.endpoint import Answer
from workers.delivery import journal
from workers.delivery.journal import Claimed, Closed, Ended, Heard, Record, Sent
from workers.delivery.outbox import Outbox
from workers.delivery.records import call_row, call_without_answer, raw_body, result_of
from workers.pacing.stop_verdict import NO_MODEL

log = logging.getLogger("nightshift.recovery")

_answer = msgspec.msgpack.Decoder(Answer)
Triple = tuple[int, int, int]


class Taker(Protocol):
    """Who takes calls that ended, as an outbox does."""

    def put(self, job: str, call: Call, result: Result | None, body: bytes = b"") -> None:
        """A call, and the result and raw answer if it ended its request."""


@dataclass
class _Chunk:
    """A chunk that the dead worker had taken."""

    job: str
    requests: dict[int, Triple]
    tariff: Tariff
    began: bool
    finished: set[int] = field(default_factory=set)
    closed: Closed | None = None


@dataclass
class Leftover:
    """All that one journal tells, in memory: at most the rows of the chunks that were open."""

    chunks: dict[tuple[str, int], _Chunk] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)

    def read(self, record: Record, outbox: Taker) -> None:
        """Takes a record in; an answered call is put into `outbox` at once."""
        match record:
            case Claimed(job, chunk, requests, tariff, began):
                self.chunks[job, chunk] = _Chunk(job, {r[0]: r for r in requests}, tariff, began)
            case Sent():
                self.sent[record.call] = record
                if chunk_of := self.chunks.get((record.job, record.chunk)):
                    chunk_of.began = True
            case Heard(call, generation_id):
                self.heard[call] = generation_id
            case Ended(call, raw):
                self._ended(call, _answer.decode(raw), outbox)
            case Closed(job, chunk):
                if (job, chunk) in self.chunks:
                    self.chunks[job, chunk].closed = record

    def _ended(self, call: str, answer: Answer, outbox: Taker) -> None:
        sent = self.sent.pop(call, None)
        if sent is None:
            return
        chunk = self.chunks.get((sent.job, sent.chunk))
        tariff = ROUBLES if chunk is None else chunk.tariff
        outcome = classify(
            answer, asked_model=sent.model, now=sent.sent_at, tariff=tariff, kind=sent.kind
        )
        row = call_row(sent, answer, outcome)
        # Of a model that is missing it takes more than one answer to believe it.
        doubted = isinstance(outcome, Refused) and outcome.code == NO_MODEL
        final = isinstance(outcome, Answered | Refused) and not doubted
        result = result_of(sent, answer, outcome, time.time()) if final else None
        if final or row.billing is not Billing.NONE:
            outbox.put(sent.job, row, result, raw_body(answer, outcome) if result else b"")
        self._count(sent, finished=final, uncertain=row.billing is Billing.UNKNOWN)

    def _count(self, sent: Sent, *, finished: bool, uncertain: bool) -> None:
        chunk = self.chunks.get((sent.job, sent.chunk))
        if chunk is None:
            return
        chunk.requests[sent.ordinal] = (
            sent.ordinal,
            sent.attempt,
            sent.uncertain + (1 if uncertain else 0),
        )
        if finished:
            chunk.finished.add(sent.ordinal)

    def finish(self, outbox: Outbox, name: str) -> int:
        """Books the calls that were in flight and gives back what was open; the outbox was called
        `name`.

        Returns the number of calls whose outcome nobody knows.
        """
        for sent in self.sent.values():
            row = call_without_answer(sent, self.heard.get(sent.call, ""))
            outbox.put(sent.job, row, None)
            self._count(sent, finished=False, uncertain=True)
        for (job, number), chunk in self.chunks.items():
            closing = self._closing(chunk, number)
            outbox.put_closed_last(job, msgspec.structs.replace(closing, outbox=name))
        return len(self.sent)

    @staticmethod
    def _closing(chunk: _Chunk, number: int) -> ChunkClosed:
        if chunk.closed is not None:
            return ChunkClosed(*msgspec.structs.astuple(chunk.closed)[1:])
        back = [
            triple
            for ordinal, triple in sorted(chunk.requests.items())
            if ordinal not in chunk.finished
        ]
        return ChunkClosed(number, WORKER_DIED, back, {}, began=chunk.began)


def recover(root: Path, outbox: Outbox) -> list[tuple[Path, int]]:
    """Puts everything that dead workers left under `root` into `outbox`.

    Returns the folders with their locks: to be removed once all of it was acknowledged, which
    `outbox` tells. Raises `StorageUnavailable` for a damaged journal, which stays as it is.
    """
    found = []
    for folder, lock in journal.leftovers(root, outbox.disk.folder):
        leftover = Leftover()
        for record in journal.records(folder):
            leftover.read(record, outbox)
        uncertain = leftover.finish(outbox, folder.name)
        log.warning(
            N_(
                "the previous worker left {count} open chunks and {uncertain} calls in flight",
                count=len(leftover.chunks),
                uncertain=uncertain,
            ),
        )
        found.append((folder, lock))
    return found


def forget(folders: list[tuple[Path, int]]) -> None:
    """The home has it all."""
    for folder, lock in folders:
        journal.remove(folder)
        os.close(lock)
