"""What packs of several sizes are worth: the same rows asked alone and together."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from batch.store.jobstore import JobStore
from batch.store.quality_trials import Bill
from batch.tables.answer_validation import Verdict, check_of, columns_of, text_of
from jobs.table_task import Task

KIND = "packs"
"""Of the finding."""

SIZES = (2, 5, 10, 20, 50)
"""Rows in a call that `--pack auto` tries, as far as the sample goes."""

MOST_ROWS = 100
_ENOUGH = 0.8
"""So many rows of a pack must have a valid answer, or it saves nothing."""


class Size(msgspec.Struct, frozen=True):
    """Of packs of `pack` rows (1: alone): `rows` were asked, `answered` validly, of whom `agreed`
    with what they were answered alone; what that came to, ₽ exact or None where it is not known.
    """

    pack: int
    rows: int
    answered: int
    agreed: int
    calls: int
    rub: Decimal | None
    tokens: int

    @property
    def agreement(self) -> float:
        """Of the rows that were answered both ways, the share that was answered alike."""
        return self.agreed / self.answered if self.answered else 0.0

    @property
    def price(self) -> float:
        """₽ of a row; where costs are not known, tokens."""
        return float(self.tokens if self.rub is None else self.rub) / max(self.rows, 1)


class Packs(msgspec.Struct, frozen=True):
    """The sizes that were tried, the first of them alone, and the one that was `chosen`."""

    sizes: list[Size]
    chosen: int
    least: float

    @property
    def ratio(self) -> float:
        """What a row costs in packs of the chosen size, in shares of what it costs alone: those
        without a valid answer are asked once more in smaller packs.
        """
        alone, *packed = self.sizes
        if self.chosen == 1 or not packed or not alone.price:
            return 1.0
        tried = [each for each in packed if each.pack <= self.chosen]
        last = tried[-1] if tried else packed[-1]
        smaller = next((each for each in packed if 4 * each.pack >= self.chosen), last)
        again = (1 - last.answered / last.rows) * smaller.price
        return (_price_at(self.chosen, tried or packed) + again) / alone.price


def _price_at(pack: int, tried: list[Size]) -> float:
    """Of a row; beyond the largest size that was tried by what a call and a row of it cost."""
    last = tried[-1]
    if pack <= last.pack or len(tried) < 2:
        return last.price
    before = tried[-2]
    of_row = (last.price * last.pack - before.price * before.pack) / (last.pack - before.pack)
    of_call = (last.price - of_row) * last.pack
    return of_row + of_call / pack if 0 < of_row < last.price else last.price


def sizes_of(task: Task, rows: int) -> tuple[int, ...]:
    """The sizes to be tried on so many rows; none where nothing is packed."""
    if task.auto_pack:
        return tuple(size for size in SIZES if size <= rows)
    if task.pack == 1 or rows < 2:
        return ()
    # By two sizes it is known what a call costs, and what a row of it: that tells larger ones.
    half = (rows // 2,) if task.pack > rows >= 4 else ()
    return (*half, min(task.pack, rows))


def values_of(task: Task) -> Callable[[str], str | None]:
    """The text of an answer → what of it is compared, JSON; None where it is not valid."""
    check, names = check_of(task), comparable(task)

    return lambda text: told_values(check(text), names)


def told_values(verdict: Verdict, names: tuple[str, ...]) -> str | None:
    """The values of these columns, JSON; None where the answer is not valid."""
    if verdict.problem:
        return None
    kept = {name: verdict.values.get(name) for name in names}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def comparable(task: Task) -> tuple[str, ...]:
    """The columns of an answer that two answers alike have alike: no free text, if there are
    others.
    """
    columns = columns_of(task)
    if task.answer_schema is None:
        return columns
    properties = json.loads(task.answer_schema).get("properties", {})
    strict = tuple(name for name in columns if not _is_free(properties.get(name)))
    return strict or columns


def _is_free(schema: Any) -> bool:
    is_text = isinstance(schema, dict) and schema.get("type") == "string"
    return is_text and not {"enum", "const"} & schema.keys()


def measure(store: JobStore, task: Task, rows: list[int]) -> Packs:
    """Compares what these rows were answered alone with what they were in packs."""
    trials, values = store.trials, values_of(task)
    alone = {ordinal: values(text_of(raw)) for ordinal, raw in trials.answers(rows)}
    valid = sum(told is not None for told in alone.values())
    sizes = [_size(1, len(rows), valid, valid, trials.bill(among=rows))]
    for pack in trials.sizes():
        said = trials.said(pack)
        both = [n for n, told in said.items() if told is not None and alone.get(n) is not None]
        agreed = sum(said[n] == alone[n] for n in both)
        sizes.append(_size(pack, trials.asked(pack), len(both), agreed, trials.bill(pack)))
    chosen = chosen_of(sizes, task) if task.auto_pack else task.pack
    return Packs(sizes, chosen, task.min_agreement)


def _size(pack: int, rows: int, answered: int, agreed: int, bill: Bill) -> Size:
    tokens = bill.prompt + bill.completion
    return Size(pack, rows, answered, agreed, bill.calls, bill.rub, tokens)


def chosen_of(sizes: list[Size], task: Task) -> int:
    """The largest size that agrees well enough, and is no dearer than a smaller one that does."""
    best = sizes[0]
    for each in sizes[1:]:
        enough = each.rows and each.answered >= _ENOUGH * each.rows
        if enough and each.agreement >= task.min_agreement and each.price <= best.price:
            best = each
    return best.pack


def packs_of(store: JobStore) -> Packs | None:
    """What was measured of a job."""
    told = store.trials.found(KIND)
    return None if told is None else msgspec.json.decode(told, type=Packs)
