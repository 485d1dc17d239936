"""Some requests of an input as they would be sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import BinaryIO

from batch.store.call_units import Asked
from batch.store.home import Home
from batch.submission.pricing import offered
from batch.submission.request_check import opened, staged
from batch.submission.submit import new_job_id
from batch.tables.answer_judge import judge_of
from jobs.errors import InvalidInput
from jobs.job_options import Spec
from jobs.message import N_
from jobs.request import Fault, Request
from jobs.table_task import MOST_PACKED


@dataclass(frozen=True)
class Shown:
    """A request as it would be sent, and the lines or rows that it is for."""

    name: str
    prompt_bound: int
    body: bytes


@dataclass(frozen=True)
class Preview:
    """Some requests of an input; the spec tells the form of a table."""

    spec: Spec
    shown: list[Shown]


OTHERS = 3
"""Requests that are shown besides the first and the longest."""


def preview(home: Home, spec: Spec, source: Path | BinaryIO) -> Preview:
    """The first request, the longest, and some others; of packs what the first rows make.

    Raises `InvalidInput` where nothing could be sent, with the first fault.
    """
    with staged(home, new_job_id(), spec) as draft:
        spec, lines = opened(draft, spec, source, offered(spec))
        first: list[Request] = []
        longest: Request | None = None
        others, dice, fault = list[Request](), Random(0), None  # noqa: S311  no secret
        for count, item in enumerate(each for each in lines):
            if isinstance(item, Fault):
                fault = fault or item
                continue
            if len(first) < MOST_PACKED:
                first.append(item)
            longest = item if longest is None or len(item.body) > len(longest.body) else longest
            if len(others) < OTHERS:
                others.append(item)
            elif (place := dice.randrange(count + 1)) < OTHERS:
                others[place] = item
    if longest is None:
        raise InvalidInput(
            N_(
                "{source} holds nothing that could be sent; the first fault: {fault}",
                source=spec.source,
                fault=fault.message,
            )
            if fault
            else N_("{source} holds nothing that could be sent", source=spec.source)
        )
    return Preview(spec, list(_shown(spec, first, longest, others)))


def _shown(
    spec: Spec, first: list[Request], longest: Request, others: list[Request]
) -> Iterator[Shown]:
    judge = judge_of("preview", spec)
    if judge is not None and spec.task is not None and spec.task.pack > 1:
        rows = [Asked(place, each.body) for place, each in enumerate(first[: spec.task.pack])]
        for unit in judge.units(rows):
            names = ", ".join(first[member].custom_id for member in unit.members)
            yield Shown(names, unit.prompt_bound, unit.body)
        return
    for each in dict.fromkeys((first[0], longest, *others)):
        yield Shown(each.custom_id, each.prompt_bound, each.body)
