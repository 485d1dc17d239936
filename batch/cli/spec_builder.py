"""What options mean: the input, who is to hear of a job, and its spec."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from batch.cli.click_options import JOB_OPTIONS, flag_of, text, values
from batch.cli.table_options import LADDER, take_task
from batch.reading.source import check_readable, check_stream
from jobs import headers
from jobs.deadline import parse_deadline
from jobs.errors import UsageError, told_by
from jobs.job_options import Spec
from jobs.message import N_, Message
from jobs.notify import Notify
from jobs.option_declaration import nested
from jobs.window import parse_window

_LONGEST_STEM = 200
"""Bytes of an input's name in the name of its results' folder; file systems allow 255 in all."""


_AS_THEY_ARE = [
    each for each in JOB_OPTIONS if each.path[0] not in ("headers", "deadline", "notify", "task")
]
"""Options that say what their field is, by themselves."""

_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet")


def open_source(source: Path) -> Path | BinaryIO:
    """The input: a path, or standard input."""
    if str(source) != "-":
        return source
    check_stream(sys.stdin.buffer)
    return sys.stdin.buffer


def _stem(source: Path) -> str:
    """The input's name without its endings."""
    if str(source) == "-":
        return "stdin"
    stem = text(source.name)
    for ending in (".zst", ".gz", *_ENDINGS):
        stem = stem.removesuffix(ending)
    return stem


def _beside(source: Path) -> Path:
    return Path.cwd() if str(source) == "-" else source.absolute().parent


def _cut(stem: str) -> str:
    """As much of it as leaves room for a job's id in the name of a folder."""
    return stem.encode()[:_LONGEST_STEM].decode(errors="ignore")


def _check_output(folder: Path) -> None:
    try:
        str(folder).encode()
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except UnicodeEncodeError:
        raise UsageError(
            N_("the name of the folder {text} is not UTF-8", text=text(str(folder))),
            hint=N_("choose another with --output-dir"),
        ) from None
    except OSError as error:
        raise UsageError(
            N_("{folder} cannot be used as the output directory: {why}", folder=folder, why=error),
            hint=N_("choose another with --output-dir"),
        ) from None


def notify_of(options: dict[str, Any]) -> Notify:
    """Who is to hear of a job."""
    ways = [each for each in JOB_OPTIONS if each.path[0] == "notify"]
    try:
        return Notify(**{each.path[1]: options[each.name] or None for each in ways})
    except ValidationError as error:
        raise _told(error, "notify") from None


def _deadline(text: str | None, window: str | None) -> datetime | None:
    return None if text is None else read_deadline(text, window)


def read_deadline(text: str, window: str | None) -> datetime:
    """A deadline by the clock of the job's hours or of this machine; `UsageError` if it is none."""
    now = datetime.now().astimezone()
    zone = now.tzinfo or UTC
    with suppress(ValueError):
        zone = ZoneInfo(parse_window(window).zone) if window else zone
    try:
        return parse_deadline(text, now, zone)
    except ValueError as error:
        raise UsageError(N_("--deadline: {why}", why=error)) from None


def make_spec(job_id: str, source: Path, options: dict[str, Any]) -> Spec:
    """The spec of these options; `UsageError` tells which of them makes no sense.

    `InvalidInput` for an input that is not there: nobody is asked about it, and nothing started.
    """
    ladder = {(name,): options[name] for name in LADDER} if options["check"] else {}
    task = take_task(options)
    if options["off_peak"] and options["window"]:
        raise UsageError(
            N_("--off-peak and --window both set hours"), hint=N_("choose one of them")
        )
    if str(source) != "-":
        check_readable(source)
    stem = _stem(source)
    output: Path = options["output_dir"] or _beside(source) / f"{_cut(stem)}.{job_id}"
    _check_output(output.absolute())
    found = values(options, _AS_THEY_ARE) | {
        ("name",): text(options["name"] or stem),
        ("source",): text(str(source)),
        ("output_dir",): str(output.absolute()),
        ("headers",): headers.names(options["header"]),
        ("deadline",): _deadline(options["deadline"], options["window"]),
        ("notify",): notify_of(options),
        ("task",): task,
        ("beside",): task is not None and options["output_dir"] is None and str(source) != "-",
        **ladder,
    }
    try:
        return Spec(**nested(found))
    except ValidationError as error:
        raise _told(error) from None


def _told(error: ValidationError, *within: str) -> UsageError:
    first = error.errors()[0]
    flag = flag_of((*within, *first["loc"])) or "--" + str(first["loc"][-1]).replace("_", "-")
    return UsageError(Message("{flag}: {why}", flag=flag, why=told_by(first)))
