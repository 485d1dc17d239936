"""The JSON that programs get, as types: docs/schemas is made of these, and tests hold output to it.

A field that is new is described here; then `python -m scripts.schemas` writes the schemas.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"
BASE = "https://json-schema.org/draft/2020-12/schema"

Rub = Annotated[str, Meta(pattern=r"^-?\d+(\.\d+)?$", description="₽, exact")]
Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[float | None, Meta(description="Unix seconds")]
Lines = Annotated[list[int], Meta(description="the first lines of the input, from 1")]


class Cause(Struct):
    """Requests that failed alike, or lines that were skipped for the same reason."""

    code: Annotated[str, Meta(description='see docs/reference.md; "" for all beyond the first 40')]
    status: Annotated[int | None, Meta(description="HTTP status, null where no answer came")]
    message: Annotated[str, Meta(description="the endpoint's words, or ours, of the first")]
    requests: Count
    lines: Lines


class Flagged(Struct):
    """Answers with the same flag."""

    flag: str
    requests: Count
    lines: Lines


class Trouble(Struct):
    """What went wrong last."""

    code: str
    at: float
    times: Count


class Attention(Struct):
    """Why what is told of a job may be old: since when, and of when it is."""

    text: str
    since: float
    shown_at: float
    age_s: float


class BoundBy(Struct):
    """What its requests wait for most, in the last minute."""

    cause: str
    text: str
    share: Annotated[float, Meta(description="of the time, from 0 to 1")]
    enough: Annotated[
        str, Meta(description="a limit of the job's own that would hold it up less, else empty")
    ]
    remedy: Annotated[str, Meta(description="a command that would help, else empty")]


class Stall(Struct):
    """Why a job stands still though nobody paused it, and since when (Unix seconds)."""

    reason: Literal[
        "copied",
        "no_coordinator",
        "coordinator_silent",
        "redis_away",
        "job_unusable",
        "no_worker",
        "no_progress",
    ]
    since: float
    text: str = ""


class Origin(Struct):
    """The batch of the Batch API that a job came from: its id, the key's name, the file's id."""

    batch: str
    key: str
    file: str


class Reason(Struct):
    """Why answers were not valid."""

    reason: str
    requests: Count


class Checked(Struct):
    """Requests whose answers are checked, by how they ended."""

    at_once: Count
    repaired: Count
    asked_again: Count
    escalated: Count
    invalid: Count
    reasons: list[Reason]


class PackSize(Struct):
    """The sample in packs of one size; 1: alone."""

    pack: Count
    rows: Count
    answered: Annotated[int, Meta(description="with a valid answer")]
    agreement: Annotated[float, Meta(description="0 to 1: answered as alone")]
    calls: Count
    cost_rub: Rub | None
    tokens: Count


class Packs(Struct):
    """What was measured before the rest was sent."""

    chosen: Annotated[int, Meta(description="rows in a call")]
    min_agreement: float
    sizes: list[PackSize]


class ClassScore(Struct):
    """One of the answers that may be given; shares from 0 to 1."""

    name: str
    precision: float | None
    recall: float | None
    expected: Count


class Confused(Struct):
    """So many rows were answered so; null: nothing valid."""

    expected: str
    answered: str | None
    rows: Count


class ColumnScore(Struct):
    """One column of the answer."""

    column: str
    classes: list[ClassScore]
    confusion: list[Confused]


class Score(Struct):
    """Answers held against known ones; `low` and `high` are Wilson's interval of 95 %."""

    rows: Count
    right: Count
    accuracy: float
    low: float
    high: float
    columns: list[ColumnScore]


class Reviewed(Struct):
    """Rows that a person checked: those at random stand for all; null: none was checked."""

    random: Score | None
    suspect: Score | None


class Job(Struct):
    """How a job stands: status JOB, run, submit, pause, cancel, and each line of watch."""

    version: Literal[1]
    job: str
    name: str
    state: str
    reason: Annotated[str, Meta(description="why it rests, else empty")]
    reason_text: str
    needs_action: Annotated[bool, Meta(description="whether nothing moves until you act")]
    remedy: Annotated[str, Meta(description="the command that continues it, else empty")]
    requests: Count
    completed: Count
    failed: Count
    invalid: Annotated[int, Meta(description="lines that were skipped")]
    truncated: Annotated[int, Meta(description="answers cut off at their limit of tokens")]
    rate: Annotated[float, Meta(description="requests per second")]
    left_s: Annotated[float | None, Meta(description="of calls in flight where it stops")]
    spent_rub: Rub
    uncertain_rub: Annotated[str, Meta(description="₽, the bounds of calls of unknown cost")]
    uncertain_calls: Count
    unbounded_calls: Annotated[int, Meta(description="those of them that nothing bounds")]
    budget_rub: Rub | None
    forecast_rub: Annotated[str | None, Meta(description="₽ that all of it will have cost")]
    in_flight: Count
    workers: int | None
    refusals: Annotated[int, Meta(description="calls that cost nothing and are made again")]
    refusals_by_code: dict[str, int]
    down: Annotated[bool, Meta(description="whether the endpoint does not answer")]
    down_s: float
    stopping: Annotated[bool, Meta(description="whether its workers end, once their calls have")]
    done_at: Moment
    late: Annotated[bool, Meta(description="whether the deadline comes before")]
    wait: Annotated[dict[str, Any] | None, Meta(description="what the endpoint asked to wait for")]
    trouble: Trouble | None
    bound: Annotated[BoundBy | None, Meta(description="what holds its requests up")]
    stall: Annotated[Stall | None, Meta(description="why it stands still, if it does")]
    attention: Annotated[Attention | None, Meta(description="Redis or the coordinator is silent")]
    created_at: Moment
    started_at: Moment
    ended_at: Moment
    goes_on_at: Moment
    deadline: Moment
    origin: Origin | None
    output_dir: str
    model: str | None
    base_url: str
    checked: Annotated[Checked | None, Meta(description="null where any answer will do")]
    packs: Annotated[Packs | None, Meta(description="of a table: packs held against single calls")]
    gold: Annotated[Score | None, Meta(description="of a table: known answers (--gold)")]
    review: Annotated[Reviewed | None, Meta(description="of a table: what a person checked")]
    reused: Copies
    failures: list[Cause]
    skipped: list[Cause]
    flagged: list[Flagged]


class ReviewOf(Struct):
    """review JOB --read FILE."""

    version: Literal[1]
    job: str
    random: Score | None
    suspect: Score | None


class Jobs(Struct):
    """status without JOB: all jobs of the home."""

    version: Literal[1]
    jobs: list[Job]


class Tokens(Struct):
    """Tokens as the endpoint counted them."""

    prompt: Count
    completion: Count
    cached: Count
    cache_written: Count
    reasoning: Count


class OfModel(Struct):
    """What one model came to."""

    cost_rub: Rub
    calls: Count
    uncertain_calls: Count
    tokens: Tokens


class Unlisted(Struct):
    """Calls that cost something else than their tokens do by the catalogue."""

    model: str
    provider: str
    calls: Count
    billed_rub: Rub
    by_prices_rub: Rub
    lines: Lines


class Uncertain(Struct):
    """Calls whose cost nobody knows."""

    calls: Count
    at_most_rub: Annotated[str | None, Meta(description="₽, null where nothing bounds some")]
    calls_without_bound: Count
    estimated_rub: Rub | None = None


class Lost(Struct):
    """Chunks whose worker fell silent for good."""

    chunks: Count
    at_most_rub: Rub | None


class Copies(Struct):
    """Requests that were given the answer of one alike, of this job or of an earlier one."""

    requests: Count
    saved_rub: Rub


class Outcome(Struct):
    """The estimate at submission, and what came of it."""

    low_rub: Rub | None
    likely_rub: Rub | None
    high_rub: Rub | None
    at_most_rub: Rub | None
    basis: str
    answers: Count
    outcome_rub: Rub
    ratio: float | None


class Caps(Struct):
    """The caps of a job; null: none."""

    rub: Rub | None
    tokens: int | None
    requests: int | None


class Prices(Struct):
    """A version of the catalogue."""

    taken_at: str
    source: str
    sha256: str
    models: dict[str, Any]


class Cost(Struct):
    """cost.json, and cost JOB."""

    version: Literal[1]
    job: str
    name: str
    currency: Literal["RUB"]
    cost_rub: Annotated[str, Meta(description="₽, all known costs")]
    exact: Annotated[bool, Meta(description="whether the cost of every call is known")]
    requests: Count
    completed: Count
    failed: Count
    invalid: Count
    failures: list[Cause]
    skipped: list[Cause]
    flagged: list[Flagged]
    calls: Count
    refused_calls: dict[str, int]
    tokens: Tokens
    by_model: dict[str, OfModel]
    by_service_tier: Annotated[
        dict[str, Any], Meta(description="cost_rub and calls by service tier")
    ]
    by_source: Annotated[dict[str, str], Meta(description="₽ by who told: endpoint, lookup")]
    saved_by_cache_rub: Rub
    unlisted: list[Unlisted]
    of_failed_requests_rub: Annotated[str, Meta(description="₽, the sum of errors.jsonl")]
    of_repeated_calls_rub: Annotated[str, Meta(description="₽, calls before the one that answered")]
    uncertain: Uncertain
    lost: Lost
    copies: Copies
    reused: Copies
    forecast_rub: Rub | None
    estimate: Outcome
    budget: Caps
    prices: list[Prices]


class Failures(Struct):
    """failures JOB."""

    version: Literal[1]
    job: str
    requests: Count
    failed: Count
    invalid: Count
    failures: list[Cause]
    skipped: list[Cause]
    flagged: list[Flagged]


class Sent(Struct):
    """Requests that a resume sends for one reason; ₽ null without a price or a bound."""

    group: str
    requests: Count
    likely_rub: Rub | None
    at_most_rub: Rub | None
    may_be_paid_twice: bool
    code: str = ""


class Total(Struct):
    """All that a resume sends."""

    requests: Count
    likely_rub: Rub | None
    at_most_rub: Rub | None


class Resume(Struct):
    """resume JOB: what it sends and what that may cost."""

    version: Literal[1]
    job: str
    state: str
    requests: Count
    completed: Count
    failed: Count
    send: list[Sent]
    total: Total
    running: Annotated[bool, Meta(description="whether it runs, so that only retries are sent")]
    answered: Annotated[int, Meta(description="requests whose results are still with a worker")]
    forecast_rub: Rub | None
    spent_rub: Rub
    uncertain: Uncertain
    set_aside_rub: Rub
    budget: Caps
    left: Caps
    dry_run: bool


class Range(Struct):
    """₽ in all: low, likely, high, and the most that it can be."""

    low: Rub | None
    likely: Rub | None
    high: Rub | None
    at_most: Rub | None


class Estimate(Struct):
    """estimate INPUT."""

    version: Literal[1]
    requests: Count
    invalid: Count
    copies: Count
    reused: Count
    models: list[str]
    unpriced: list[str]
    rub: Range
    prompt_tokens: dict[str, int]
    output_tokens: dict[str, int]
    hours: float
    hours_because: str
    basis: str
    answers: Count
    job: str = ""


class Fault(Struct):
    """A line that is no request."""

    line: int
    byte: int | None
    code: str
    message: str
    custom_id: str | None


class Previewed(Struct):
    """A request as it would be sent."""

    name: Annotated[str, Meta(description="custom_id, of several rows theirs with commas")]
    prompt_bound: Annotated[int, Meta(ge=0, description="tokens that the prompt cannot exceed")]
    body: dict[str, Any]


class Preview(Struct):
    """preview INPUT."""

    version: Literal[1]
    requests: list[Previewed]
    columns: Annotated[list[str], Meta(description="that the answers add to a table")]


class Validate(Struct):
    """validate INPUT."""

    version: Literal[1]
    requests: Count
    invalid: Count
    models: list[str]
    faults: list[Fault]


class Check(Struct):
    """One thing that was looked at."""

    what: str
    ok: bool
    text: str
    cure: str


class Doctor(Struct):
    """doctor."""

    version: Literal[1]
    ok: bool
    checks: list[Check]


class Used(Struct):
    """A day, or a month."""

    cap_rub: Rub | None
    spent_rub: Rub
    set_aside_rub: Rub
    used_rub: Rub


class Budget(Struct):
    """budget: caps over all jobs of the home."""

    version: Literal[1]
    zone: str
    day: Used
    month: Used


class CodeCause(Struct):
    """Requests that failed alike, without the endpoint's words."""

    code: str
    status: int | None
    requests: Count
    lines: Lines


class Notification(Struct):
    """What a webhook gets."""

    version: Literal[1]
    event: str
    job: str
    name: str
    state: str
    reason: str
    stall: Annotated[Stall | None, Meta(description="why it stands still, if it does")]
    remedy: Annotated[str, Meta(description="the command that continues it, else empty")]
    requests: Count
    completed: Count
    failed: Count
    left: Count
    truncated: Count
    failures: list[CodeCause]
    flagged: list[Flagged]
    spent_rub: Rub
    uncertain_rub: Rub
    uncertain_calls: Count
    budget_rub: Rub | None


class Response(Struct):
    """An answer over HTTP."""

    status_code: int | None
    request_id: str
    body: Any


class Error(Struct):
    """Why there is none."""

    code: str
    message: str


class Facts(Struct):
    """What a line has beyond the Batch form."""

    line: int
    attempts: Count
    cost_rub: Annotated[str, Meta(description="₽ of all calls whose cost is known")]
    cost_source: Annotated[
        str, Meta(description="the least certain: endpoint, lookup, unknown, copy, reused, none")
    ]
    latency_s: float = 0.0
    flags: list[str] = []
    together: Annotated[int, Meta(description="requests that had the call together")] = 1
    copy_of: str = ""
    answer: Annotated[Any, Meta(description="what a repaired answer says (--check)")] = None
    reused_from: Annotated[str, Meta(description="the earlier job that was given this answer")] = ""
    uncertain_calls: Count = 0
    uncertain_rub: Annotated[str | None, Meta(description="₽, null where nothing bounds some")] = (
        None
    )
    code: str = ""
    message: str = ""
    raw: Annotated[str, Meta(description="the beginning of an answer that is not JSON")] = ""
    response: Annotated[
        Response | None, Meta(description="an error or a useless answer under status 200")
    ] = None


class Line(Struct):
    """A line of output.jsonl or errors.jsonl: OpenAI's Batch form, and `nightshift`."""

    id: Annotated[str, Meta(pattern=r"^batch_req_")]
    custom_id: str | None
    response: Response | None
    error: Error | None
    nightshift: Facts


class Settle(Struct):
    """settle JOB: what is set aside for workers that fell silent, and whether it was given up."""

    version: Literal[1]
    job: str
    chunks: Count
    at_most_rub: Rub | None
    gave_up: bool


class Happened(Struct):
    """An event; what is not told is "", 0, false or null."""

    at: float
    kind: Literal["submitted", "state", "changed", "retried", "prices", "worker_lost", "trouble"]
    by_user: bool = False
    state: str = ""
    reason: str = ""
    text: str = ""
    until: float | None = None
    changes: Annotated[
        dict[str, tuple[str, str]], Meta(description="settings: the value before and now")
    ] = {}
    requests: int = 0
    code: str = ""


class History(Struct):
    """history JOB: what happened to it, oldest first."""

    version: Literal[1]
    job: str
    events: list[Happened]


class ShownCall(Struct):
    """A call of the ledger; one that several rows shared stands at each of them, whole."""

    sent_at: float
    latency_s: float
    status: int | None
    code: str
    cost: Rub | None
    bound: Rub | None
    prompt: Count | None
    completion: Count | None
    cached: Count | None
    reasoning: Count | None
    provider: str
    generation_id: str


class Shown(Struct):
    """show JOB ROW: a request as it was submitted, its end and its calls."""

    version: Literal[1]
    custom_id: str
    line: Count
    state: Literal["pending", "completed", "failed"]
    body: dict[str, Any]
    response: Response | None
    error: Error | None
    nightshift: Facts | None
    calls: list[ShownCall]


DOCUMENTS: dict[str, type[Struct]] = {
    "job": Job,
    "jobs": Jobs,
    "cost": Cost,
    "failures": Failures,
    "resume": Resume,
    "estimate": Estimate,
    "preview": Preview,
    "validate": Validate,
    "doctor": Doctor,
    "budget": Budget,
    "settle": Settle,
    "show": Shown,
    "review": ReviewOf,
    "history": History,
    "notification": Notification,
    "line": Line,
}
"""By the name of their schema."""

COMMANDS: dict[str, type[Struct]] = {
    **dict.fromkeys(("run", "submit", "pause", "cancel", "watch", "status"), Job),
    **{name: DOCUMENTS[name] for name in DOCUMENTS if name not in ("job", "jobs", "line")},
}
"""What `--json` of a command prints; status without JOB prints `Jobs`."""


def schema(name: str) -> str:
    """A JSON Schema as its file holds it."""
    found = {"$schema": BASE, "title": name, **msgspec.json.schema(DOCUMENTS[name])}
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def check(text: str | bytes, kind: type[Struct]) -> None:
    """Raises `msgspec.ValidationError` where a document is not of its kind."""
    msgspec.json.decode(text, type=kind)


def main() -> int:
    """Writes all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        (FOLDER / f"{name}.schema.json").write_text(schema(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
