"""Why requests failed and which answers are worth a look, in lines, and the commands that help."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from batch.cli.terminal import safe
from batch.language import _, ngettext, number
from batch.store.failure_causes import LASTING, MEANINGS, TRUNCATED, Cause, Why
from batch.watching.latest_incidents import meaning

_MOST, _LONGEST = 10, 300
"""Causes that are told, and characters of an endpoint's words; --json has them all."""


def cause_lines(why: Why, job: str) -> Iterator[str]:
    """A line for each cause, the most frequent first, then one for each flag of the answers."""
    for causes in (why.failures, why.skipped):
        yield from (f"  {_cause(cause)}" for cause in islice(causes, _MOST))
        if len(causes) > _MOST:
            told = ngettext(
                "… and {count} more cause: nightshift failures {job} --json",
                "… and {count} more causes: nightshift failures {job} --json",
                len(causes) - _MOST,
            )
            yield "  " + told.format(count=number(len(causes) - _MOST), job=job)
    yield from (f"  {_flagged(cause)}" for cause in islice(why.flagged, _MOST))


def _cause(cause: Cause) -> str:
    status = "" if cause.status is None else f" (HTTP {cause.status})"
    words = _(cause.message) or meaning(cause.code)
    words = words if len(words) <= _LONGEST else words[:_LONGEST] + "…"
    code = safe(cause.code) or _("other causes")
    said = safe(" ".join(words.split()))
    return f"{number(cause.count)} × {code}{status}, {_lines(cause)}: {said}"


def _flagged(cause: Cause) -> str:
    told = ngettext("{count} answer {what}", "{count} answers {what}", cause.count)
    what = _(MEANINGS.get(cause.code, "")) or safe(cause.code)
    return f"{told.format(count=number(cause.count), what=what)}, {_lines(cause)}"


def _lines(cause: Cause) -> str:
    listed, more = ", ".join(map(str, cause.lines)), cause.count - len(cause.lines)
    if more:
        told = _("lines {lines} and {count} more")
        return told.format(lines=listed, count=number(more))
    return ngettext("line {lines}", "lines {lines}", cause.count).format(lines=listed)


def ways_out(why: Why, job: str) -> Iterator[tuple[str, str]]:
    """What can be done about them, and the command that does it."""
    codes = {cause.code for cause in why.failures}
    lasting = sorted(codes & LASTING)
    if passing := sorted(codes - LASTING):
        again = ",".join(passing) if lasting and "" not in passing else "failed"
        yield _("retry the failed requests with:"), f"nightshift resume {job} --retry {again}"
    if lasting:
        only = f" --code {','.join(lasting)}" if passing else ""
        yield (
            _("a retry would fail again; print their input lines, correct them and submit:"),
            f"nightshift failures {job}{only} --input > failed.jsonl",
        )
    if why.truncated:
        yield (
            _("retry truncated answers with a higher limit:"),
            retry_truncated(why.better_limit, job),
        )


def retry_truncated(limit: int, job: str) -> str:
    """The command that buys cut answers again."""
    return f"nightshift resume {job} --retry {TRUNCATED} --max-tokens {limit}"
