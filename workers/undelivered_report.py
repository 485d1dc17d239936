"""`python -m workers.undelivered_report JOB`: what this host has of a job, in JSON for `resume`.

A program of its own, since only workers know their journals. It reads and changes nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from jobs.errors import NightshiftError
from jobs.result import Call, Result
from jobs.undelivered import Leftovers
from workers.delivery import journal
from workers.delivery.recovery import Leftover
from workers.worker_settings import scratch_of


class _Answered:
    """Takes the place of an outbox: only which requests have their result is remembered."""

    def __init__(self) -> None:
        self.found: set[tuple[str, int]] = set()

    def put(self, job: str, call: Call, result: Result | None, body: bytes = b"") -> None:  # noqa: ARG002
        """A call that ended."""
        if result is not None:
            self.found.add((job, result.ordinal))


def leftovers_of(job: str, outboxes: Path) -> Leftovers:
    """What the journals under `outboxes` tell; one that cannot be read is not among them."""
    found = Leftovers([], [], [])
    for folder in sorted(outboxes.glob("*")):
        with suppress(NightshiftError, OSError):
            left, answered = Leftover(), _Answered()
            for record in journal.records(folder):
                left.read(record, answered)
            found.outboxes.append(folder.name)
            found.in_flight.extend(sent.ordinal for sent in left.sent.values() if sent.job == job)
            found.answered.extend(ordinal for of, ordinal in answered.found if of == job)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workers.undelivered_report JOB")
    logging.disable()
    told = leftovers_of(sys.argv[1], scratch_of(os.environ) / "outbox")
    print(msgspec.json.encode(told).decode())
