"""What options mean: the input, who is to hear of a job, and its spec."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from batch.dialogue.tasks import take_task
from batch.reading.source import check_readable
from jobs import headers
from jobs.deadline import parse_deadline
from jobs.errors import UsageError
from jobs.notify import Notify
from jobs.spec import Budget, Limits, Spec
from jobs.window import parse_window

_LONGEST_STEM = 200
"""Bytes of an input's name in the name of its results' folder; file systems allow 255 in all."""


_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet")


def open_source(source: Path) -> Path | BinaryIO:
    """The input: a path, or standard input."""
    return sys.stdin.buffer if str(source) == "-" else source


def _stem(source: Path) -> str:
    """The input's name without its endings."""
    if str(source) == "-":
        return "stdin"
    stem = _text(source.name)
    for ending in (".zst", ".gz", *_ENDINGS):
        stem = stem.removesuffix(ending)
    return stem


def _beside(source: Path) -> Path:
    return Path.cwd() if str(source) == "-" else source.absolute().parent


def _text(name: str) -> str:
    """A name as text; bytes in it that are none are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


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
            f"the name of the folder {_text(str(folder))} is not UTF-8",
            hint="choose another with --output-dir",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be used as the output directory: {error.strerror}",
            hint="choose another with --output-dir",
        ) from None


def _absolute(path: Path | None) -> str | None:
    return None if path is None else _text(str(path.absolute()))


def notify_of(options: dict[str, Any]) -> Notify:
    """Who is to hear of a job."""
    return Notify(
        url=options["notify_url"] or None,
        telegram=options["notify_telegram"] or None,
        mail=options["notify_mail"] or None,
    )


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
        raise UsageError(f"--deadline: {error}") from None


def make_spec(job_id: str, source: Path, options: dict[str, Any]) -> Spec:
    """The spec of these options; `UsageError` tells which of them makes no sense.

    `InvalidInput` for an input that is not there: nobody is asked about it, and nothing started.
    """
    task = take_task(options)
    if options["off_peak"] and options["window"]:
        raise UsageError("--off-peak and --window both set hours", hint="choose one of them")
    if str(source) != "-":
        check_readable(source)
    stem = _stem(source)
    output: Path = options["output_dir"] or _beside(source) / f"{_cut(stem)}.{job_id}"
    _check_output(output.absolute())
    try:
        return Spec(
            name=_text(options["name"] or stem),
            source=_text(str(source)),
            output_dir=str(output.absolute()),
            base_url=options["base_url"],
            insecure_http=options["insecure_http"],
            headers=headers.names(options["header"]),
            model=options["model"],
            max_tokens=options["max_tokens"],
            model_map=options["model_map"],
            override_model=options["override_model"],
            drop_last_assistant=options["drop_last_assistant"],
            max_tokens_field=options["max_tokens_field"],
            service_tier=options["service_tier"],
            skip_invalid=options["skip_invalid"],
            limits=Limits(
                rpm=options["rpm"],
                tpm=options["tpm"],
                max_in_flight=options["max_in_flight"],
                rub_per_hour=options["rub_per_hour"],
                refusals=options["max_refusals"],
                stop_after_rows=options["stop_after_rows"],
                stop_after_s=options["stop_after_s"],
            ),
            priority=options["priority"],
            budget=Budget(
                rub=options["budget_rub"],
                tokens=options["budget_tokens"],
                requests=options["budget_requests"],
            ),
            window=options["window"],
            off_peak=options["off_peak"],
            deadline=_deadline(options["deadline"], options["window"]),
            dedupe="all" if options["dedupe_all"] else "same" if options["dedupe"] else "",
            reuse="all" if options["reuse_all"] else "same" if options["reuse"] else "",
            max_attempts=options["max_attempts"],
            price_file=_absolute(options["price_file"]),
            usd_rate=options["usd_rate"],
            gateway=options["gateway"],
            currency=options["currency"],
            request_bound_rub=options["request_bound_rub"],
            max_price_rise=options["max_price_rise"],
            never_pay_twice=options["never_pay_twice"],
            total_timeout_s=options["total_timeout_s"],
            chunk_size=options["chunk_size"],
            notify=notify_of(options),
            task=task,
        )
    except ValidationError as error:
        first = error.errors()[0]
        way = "notify-" if error.title == "Notify" else ""
        where = f"--{way}" + str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
