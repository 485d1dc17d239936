"""A process of its own in which inputs become jobs: nothing else waits while one is read.

What is to be done stands in the registry, so a killed intake goes on where it was: a batch has the
id of its job before the job exists, and a job exists whole or not at all. Its first line of input
tells how the server was set, each further one that there is something new; at its end it ends.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from batch import job_control
from batch.api import batch_options, line_errors
from batch.api.line_errors import MOST, MOST_BYTES, MOST_LINES, Problem, problem
from batch.api.upload import NAMELESS
from batch.credentials import key_fingerprint
from batch.money.caps import Room
from batch.money.spend_tracker import Allowance
from batch.reading.source import LONGEST_LINE
from batch.settings import log_level
from batch.store import registry
from batch.store.home import Home
from batch.store.registry import BatchRow, FileRow, Registry
from batch.submission.known_models import UnknownModels
from batch.submission.report import Refused
from batch.submission.submit import submit
from jobs.errors import (
    InvalidInput,
    NightshiftError,
    ServiceUnavailable,
    StorageUnavailable,
    UsageError,
)
from jobs.job_commands import Cancel
from jobs.job_options import Origin, Spec
from jobs.lifecycle import Objected
from jobs.logs import log_to_stderr
from jobs.money import ZERO, show
from jobs.pause_reasons import PauseReason
from jobs.request import Fault
from jobs.request_kinds import KINDS, Kind

_LOOK_S = 2.0
_AGAIN_S = 15.0
"""So long a batch waits whose validation met an endpoint or a disk that was not there."""

_MOST_TRIES = 3
"""Times that a validation may end with its process; what does so again is not to be read."""

log = logging.getLogger("nightshift.api")


class Setting(msgspec.Struct, frozen=True):
    """How the server was started. `spec`: as JSON, what all batches have in common."""

    home: str
    files: str
    batches: str
    strict: bool
    spec: dict[str, Any]


class _Cancelled(Exception):
    """The batch was cancelled while its input was read."""


@dataclass
class Intake:
    """Takes batches that wait for validation, the oldest first."""

    setting: Setting
    news: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._home = Home(Path(self.setting.home))
        self._registry = Registry(self._home.folder)
        self._allowance = Allowance(self._home)
        self._later: dict[str, float] = {}

    def run(self) -> None:
        """For ever: the process ends when its input does."""
        while True:
            self.news.wait(_LOOK_S)
            self.news.clear()
            try:
                self.turn()
            except (NightshiftError, OSError) as error:
                log.warning("%s", getattr(error, "message", error))

    def turn(self) -> None:
        """All that wait now."""
        for row in self._registry.to_validate():
            if self._later.get(row.id, 0.0) <= time.monotonic():
                self._try(row)

    def _try(self, row: BatchRow) -> None:
        """A disk that is full now may have room later; no input may end what reads the others."""
        try:
            self._look_at(row)
        except (NightshiftError, OSError) as error:
            log.warning("%s waits: %s", row.id, getattr(error, "message", error))
            self._later[row.id] = time.monotonic() + _AGAIN_S
        except Exception as error:
            log.error("%s: internal error (%s)", row.id, type(error).__name__)  # noqa: TRY400
            self._later[row.id] = time.monotonic() + _AGAIN_S

    def _look_at(self, row: BatchRow) -> None:
        """One batch: it becomes a job, fails, or stays for later."""
        now = time.time()
        fresh = self._registry.batch(row.id) or row
        if self._is_there(row):
            self._begin(row)
        elif fresh.cancelling_at is not None:
            self._registry.ended(row.id, registry.CANCELLED, now)
        elif now >= row.expires_at:
            self._registry.ended(row.id, registry.EXPIRED, now)
        elif row.tries >= _MOST_TRIES:
            told = "The server could not read this file."
            self._fail(row, [problem("invalid_request", told, param="input_file_id")])
        else:
            self._registry.tried(row.id)
            self._take(row)

    def _is_there(self, row: BatchRow) -> bool:
        return (self._home.jobs_folder / row.job).exists()

    def _begin(self, row: BatchRow) -> None:
        """The job exists; whoever cancelled meanwhile is heard.

        Before, so that a kill leaves it to the next intake; and after, for who cancelled in between
        found no job to be told.
        """
        self._hear_cancel(row)
        self._registry.validated(row.id)
        self._hear_cancel(row)

    def _hear_cancel(self, row: BatchRow) -> None:
        found = self._registry.batch(row.id)
        if found is not None and found.cancelling_at is not None:
            with suppress(Objected):
                job_control.command(self._home, row.job, Cancel())

    def _take(self, row: BatchRow) -> None:
        try:
            problems = self._submit(row)
        except _Cancelled:
            self._registry.ended(row.id, registry.CANCELLED, time.time())
            return
        except (ServiceUnavailable, StorageUnavailable) as error:
            log.warning("%s waits: %s", row.id, error.message)
            self._registry.untried(row.id)
            self._later[row.id] = time.monotonic() + _AGAIN_S
            return
        if problems:
            self._fail(row, problems)
        else:
            self._begin(row)

    def _fail(self, row: BatchRow, problems: list[Problem]) -> None:
        log.info("%s failed: %s", row.id, problems[0]["code"])
        self._registry.ended(row.id, registry.FAILED, time.time(), problems)

    # ---- one input --------------------------------------------------------------------------

    def _submit(self, row: BatchRow) -> list[Problem]:
        """Why there is no job of it; nothing if there is."""
        file = self._registry.file(row.input_file)
        path = Path(self.setting.files) / (file.id if file else "")
        if file is None or file.tenant != row.tenant or file.batch or not path.is_file():
            return [_no_file(row)]
        if file.purpose != "batch":
            told = f"The file {file.id} was uploaded for '{file.purpose}', not for 'batch'."
            return [problem("invalid_request", told, param="file_id")]
        full = self._full(row)
        return full or self._check_limits(file, path) or self._make(row, file, path)

    def _full(self, row: BatchRow) -> list[Problem]:
        """The caps are reached already: what clients know as "wait, and ask again"."""
        room = self._allowance.room_for(row.tenant)
        if room is None or (room.rub > ZERO and not self._others_wait(room)):
            return []
        told = (
            f"Enqueued token limit reached: the cap of {show(room.cap)} a {room.period.value} is"
            " used up. Please try again once some in_progress batches have been completed, or"
            f" after {room.ends:%Y-%m-%d %H:%M %Z}."
        )
        return [problem("token_limit_exceeded", told)]

    def _others_wait(self, room: Room) -> bool:
        """Whether a job rests because not one request more fits this cap."""
        for store in self._home.stores():
            job = store.job()
            key = job.spec.origin.key if job.spec.origin else ""
            is_full = job.reason == PauseReason.CAP_REACHED and job.goes_on_at is not None
            if is_full and room.key in ("", key):
                return True
        return False

    def _check_limits(self, file: FileRow, path: Path) -> list[Problem]:
        """OpenAI's, where the server enforces them."""
        if not self.setting.strict:
            return []
        if file.bytes > MOST_BYTES:
            return [problem("invalid_request", "File is too large.", param="file_id")]
        count, first, others = 0, "", list[Problem]()
        for number, model in models_by_line(path):
            count, first = count + 1, first or model
            if model != first and len(others) < MOST:
                others.append(line_errors.other_model(model, number))
        if count > MOST_LINES:
            told = f"The batch has {count} requests; the most is {MOST_LINES}."
            return [problem("too_many_tasks", told)]
        return others

    def _make(self, row: BatchRow, file: FileRow, path: Path) -> list[Problem]:
        key = self._registry.key(row.tenant)
        spec = _spec(self.setting, row, file, key.priority if key else None)
        try:
            try:
                self._publish(row, spec, path)
            except UnknownModels as error:
                spec = _renamed(spec, error)
                self._publish(row, spec, path)
        except UnknownModels as error:
            return _unknown_models(path, error.models)
        except Refused as refused:
            return _problems(
                path, refused.report.faults, KINDS[batch_options.full_url(row.endpoint)]
            )
        except InvalidInput as error:
            return [problem("empty_file", error.message)]
        except UsageError as error:
            return [problem("invalid_request", error.message)]
        return []

    def _publish(self, row: BatchRow, spec: Spec, path: Path) -> None:
        def tell(_lines: int) -> None:
            found = self._registry.batch(row.id)
            if found is None or found.cancelling_at is not None:
                raise _Cancelled

        tell(0)
        report = submit(self._home, row.job, spec, path, tell)
        log.info("%s is %s, %d requests", row.id, row.job, report.requests)


def _no_file(row: BatchRow) -> Problem:
    whose = row.tenant or "this server"
    told = f"Cannot find file {row.input_file[:100]}, or {whose} does not have access to it."
    return problem("invalid_request", told, param="file_id")


def _spec(setting: Setting, row: BatchRow, file: FileRow, priority: float | None) -> Spec:
    """What all batches have in common, and what this one wants."""
    wanted = batch_options.unpack(row.wishes)
    common = Spec(**setting.spec)
    caps = [rub for rub in (common.budget.rub, wanted.budget_rub) if rub is not None]
    budget = common.budget.model_copy(update={"rub": min(caps, default=None)})
    return common.model_copy(
        update={
            "name": wanted.name or (row.id if file.filename == NAMELESS else file.filename),
            "source": file.filename,
            "output_dir": str(Path(setting.batches) / row.id),
            "key": key_fingerprint(os.environ),
            "budget": budget,
            "priority": wanted.priority or priority or common.priority,
            "window": wanted.window or common.window,
            "deadline": datetime.fromtimestamp(row.expires_at, UTC),
            "endpoint": batch_options.full_url(row.endpoint),
            "origin": Origin(batch=row.id, key=row.tenant, file=file.id),
        }
    )


def _renamed(spec: Spec, error: UnknownModels) -> Spec:
    """A bare name stands for the one model of that name which the endpoint lists: `author/name`.

    Raises the error again where a name stands for none, or for several.
    """
    found = {}
    for name in error.models:
        fitting = [listed for listed in error.listed if listed.partition("/")[2] == name]
        if len(fitting) != 1:
            raise error
        found[name] = fitting[0]
    return spec.model_copy(update={"model_map": {**spec.model_map, **found}})


# ---- what is wrong, line by line ---------------------------------------------------------------


def _problems(path: Path, found: list[Fault], kind: Kind) -> list[Problem]:
    first = sorted(found, key=lambda fault: fault.line)[:MOST]
    raw = lines_at(path, {fault.line for fault in first})
    return [line_errors.problem_of(fault, raw.get(fault.line, b""), kind) for fault in first]


def lines_at(path: Path, wanted: set[int]) -> dict[int, bytes]:
    """Some lines of a file, from 1; overlong ones are left out. Constant memory."""
    found = {}
    for number, line in _lines(path):
        if number in wanted:
            found[number] = line
            if len(found) == len(wanted):
                break
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 1
    with path.open("rb") as content:
        while line := content.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
                while line and not line.endswith(b"\n"):
                    line = content.readline(LONGEST_LINE)
            else:
                yield number, line
            number += 1


class _Body(msgspec.Struct):
    model: str = ""


class _Line(msgspec.Struct):
    body: _Body


def models_by_line(path: Path) -> Iterator[tuple[int, str]]:
    """Which model each line asks for; lines that cannot be read are left out."""
    decode = msgspec.json.Decoder(_Line).decode
    for number, line in _lines(path):
        try:
            yield number, decode(line).body.model
        except (ValueError, RecursionError):
            continue


def _unknown_models(path: Path, models: list[str]) -> list[Problem]:
    """The lines that ask for them; of all together if it is an option of ours that names them."""
    lacking, found = set(models), list[Problem]()
    for number, model in models_by_line(path):
        if model in lacking:
            found.append(line_errors.unknown_model(model, number))
            if len(found) == MOST:
                break
    return found or [line_errors.unknown_model(model, None) for model in models]


# ---- the process --------------------------------------------------------------------------------


def _listen(intake: Intake) -> None:
    """Somebody has something new; at the end of input nobody is there any more."""
    for _line in sys.stdin.buffer:
        intake.news.set()
    os._exit(0)


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Runs it; what is left to do is seen to at once."""
    log_to_stderr(log_level(environ, "INFO"), "%(asctime)s %(message)s")
    setting = msgspec.json.decode(sys.stdin.buffer.readline(), type=Setting)
    try:
        intake = Intake(setting)
    except NightshiftError as error:
        log.error("%s", error.message)  # noqa: TRY400
        return error.exit_code
    intake.news.set()
    threading.Thread(target=_listen, args=(intake,), daemon=True, name="parent").start()
    intake.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
