"""What is known of a table's answers: how well packs agree, how many known ones are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batch.cli.terminal import safe
from batch.language import _, decimal, money, ngettext, number
from batch.store.answer_checks import Checked, how_checked
from batch.store.jobstore import JobStore
from batch.tables.pack_sizes import Packs, packs_of
from batch.tables.score import NOTHING, Confusion, Review, Score, gold_of, review_of
from jobs.money import plain

_MOST_CLASSES = 12
_MOST_MISTAKES = 8
_MOST_REASONS = 5


def quality_lines(store: JobStore) -> Iterator[str]:
    """For a person; none for a job without a table, or of which nothing was measured."""
    packs, gold, checked = packs_of(store), gold_of(store), how_checked(store)
    if checked is not None:
        yield from checked_lines(checked)
    if packs is not None:
        yield from pack_lines(packs)
    if gold is not None:
        yield from score_lines(gold, _("known answers"))
    if (review := review_of(store)) is not None:
        yield from review_lines(review)


def checked_lines(found: Checked) -> Iterator[str]:
    """How many were valid and how; then why others were not."""
    yield _(
        "valid at once: {at_once}, repaired: {repaired}, asked again: {again}, escalated:"
        " {escalated}, invalid: {invalid}"
    ).format(
        at_once=number(found.at_once),
        repaired=number(found.repaired),
        again=number(found.asked_again),
        escalated=number(found.escalated),
        invalid=number(found.invalid),
    )
    for reason, count in found.reasons[:_MOST_REASONS]:
        yield _("  {count} because: {reason}").format(count=number(count), reason=safe(reason))


def pack_lines(packs: Packs) -> Iterator[str]:
    """Every size that was tried, and what is chosen."""
    alone, *tried = packs.sizes
    for each in tried:
        told = _("{pack} rows per call: agreement {share} ({agreed} of {answered})").format(
            pack=number(each.pack),
            share=percent(each.agreement),
            agreed=number(each.agreed),
            answered=number(each.answered),
        )
        if again := each.rows - each.answered:
            told += ", " + ngettext(
                "{count} row asked again", "{count} rows asked again", again
            ).format(count=number(again))
        if alone.price:
            told += ", " + _("{ratio} × the cost of single calls").format(
                ratio=decimal(each.price / alone.price, 2)
            )
        if each.rub is not None:
            told += " " + _("({rub} per row)").format(rub=money(each.rub / each.rows))
        yield told
    if packs.chosen == 1:
        yield _("no pack agrees by {least}: rows are sent one by one").format(
            least=percent(packs.least)
        )
    else:
        yield _("the rest is sent in packs of {count} rows").format(count=number(packs.chosen))


def score_lines(found: Score, name: str) -> Iterator[str]:
    """Accuracy, then by class, then what is taken for what."""
    low, high = found.interval
    yield _(
        "{name}: {right} of {rows} right, accuracy {share} (95 % interval {low} to {high})"
    ).format(
        name=name,
        right=number(found.right),
        rows=number(found.rows),
        share=percent(found.accuracy),
        low=percent(low),
        high=percent(high),
    )
    for column in found.columns:
        yield from _class_lines(column, alone=len(found.columns) == 1)


def _class_lines(column: Confusion, *, alone: bool) -> Iterator[str]:
    lead = "  " if alone else f"  {safe(column.column)} "
    for each in column.classes[:_MOST_CLASSES]:
        yield lead + _("{name}: precision {precision}, recall {recall} (expected {count})").format(
            name=safe(each.name),
            precision=_share(each.precision),
            recall=_share(each.recall),
            count=number(each.expected),
        )
    mistakes = sorted((each for each in column.pairs if each[0] != each[1]), key=lambda p: -p[2])
    for wanted, told, count in mistakes[:_MOST_MISTAKES]:
        yield lead + _("{wanted} answered as {told}: {count}").format(
            wanted=safe(wanted),
            told=safe(told) if told != NOTHING else _("nothing valid"),
            count=number(count),
        )


def review_lines(found: Review) -> Iterator[str]:
    """What a person's check says: the random part stands for all rows."""
    if found.random.rows:
        yield from score_lines(found.random, _("random rows"))
    if found.suspect.rows:
        yield from score_lines(found.suspect, _("rows most likely wrong"))


def review_json(found: Review) -> dict[str, Any]:
    """See `score_json`; null where no row of that part was checked."""
    parts = {"random": found.random, "suspect": found.suspect}
    return {name: score_json(part) if part.rows else None for name, part in parts.items()}


def percent(share: float) -> str:
    """`97.5 %`."""
    return _("{share} %").format(share=decimal(100 * share, 1))


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share)


def quality_json(store: JobStore) -> dict[str, Any]:
    """For programs; null where nothing was measured."""
    packs, gold, review = packs_of(store), gold_of(store), review_of(store)
    checked = how_checked(store)
    return {
        "checked": None if checked is None else _checked_json(checked),
        "packs": None if packs is None else _packs_json(packs),
        "gold": None if gold is None else score_json(gold),
        "review": None if review is None else review_json(review),
    }


def _checked_json(found: Checked) -> dict[str, Any]:
    reasons = [{"reason": reason, "requests": count} for reason, count in found.reasons]
    return {**found._asdict(), "reasons": reasons}


def _packs_json(packs: Packs) -> dict[str, Any]:
    return {
        "chosen": packs.chosen,
        "min_agreement": packs.least,
        "sizes": [
            {
                "pack": each.pack,
                "rows": each.rows,
                "answered": each.answered,
                "agreement": each.agreement,
                "calls": each.calls,
                "cost_rub": None if each.rub is None else plain(each.rub),
                "tokens": each.tokens,
            }
            for each in packs.sizes
        ],
    }


def score_json(found: Score) -> dict[str, Any]:
    """Shares are from 0 to 1."""
    low, high = found.interval
    return {
        "rows": found.rows,
        "right": found.right,
        "accuracy": found.accuracy,
        "low": low,
        "high": high,
        "columns": [_column_json(each) for each in found.columns],
    }


def _column_json(column: Confusion) -> dict[str, Any]:
    return {
        "column": column.column,
        "classes": [
            {
                "name": each.name,
                "precision": each.precision,
                "recall": each.recall,
                "expected": each.expected,
            }
            for each in column.classes
        ],
        "confusion": [
            {"expected": wanted, "answered": told or None, "rows": count}
            for wanted, told, count in column.pairs
        ],
    }
