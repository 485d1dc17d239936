"""The names of files, Redis keys, queues and tasks: all of them, in one list.

The home, on the user's side:

    <home>/home.id                      random; a copy of the home has the same
    <home>/coordinator.lock             held by the one coordinator
    <home>/fence.json                   what Redis must know while its memory is whole
    <home>/caps.json                    what all jobs together may spend in a day, in a month
    <home>/removed.json                 what removed jobs spent of that, lately
    <home>/lessons.sqlite               what answers taught about the models' tokens
    <home>/post.secret                  what signs all that passes Redis (jobs.signing)
    <home>/registry.sqlite              API keys, files and batches of `nightshift serve`
    <home>/files/<file>                 what programs uploaded
    <home>/batches/<batch>/             results of a batch; what was told of it
    <home>/redis/                       the embedded server's folder
    <home>/jobs/<job>/job.sqlite        spec, requests, calls, results, chunks
    <home>/jobs/<job>/input.blocks      the request bodies, compressed, in blocks
    <home>/jobs/<job>/input.table       the table that was brought, as it came
    <home>/jobs/<job>/notices.json      what the user was told of it, and what not yet

The output folder:

    output.jsonl, errors.jsonl, cost.json, report.html

Redis, all under `ns:` (Celery's own keys under `ns.celery:`); each has an end of its life, and what
makes anyone act is signed:

    ns:fence:<fence>                    how often a coordinator found Redis's memory whole (batch.
                                        coordinator.fence); chunks are taken only under one
    ns:nonces                           hash of what each worker asks coordinators to vouch under
    ns:voucher:<nonce>                  hash: the fences vouched for, the worker's own count
    ns:payload:<job>:<chunk>            a chunk, until it is closed
    ns:claim:<job>:<chunk>              who runs it; lives as long as it is renewed; or LOST
    ns:taken:<job>:<chunk>              who took it, alive or not: nobody else runs this chunk
    ns:permit:<job>:<chunk>             who alone may make its calls, as the home has it on disk
    ns:results:<job>                    stream of deliveries
    ns:acks:<outbox>                    list of sequence numbers that are on disk in the home
    ns:hold:<job>                       why nothing new of the job may be sent
    ns:progress:<job>                   what the coordinator last published of it (JSON)
    ns:series:<job>                     how it went over time (batch.watching.time_series, packed)
    ns:series:<job>:events              what happened to it (batch.store.events, JSON)
    ns:jobs                             sorted set of the jobs that Flower lists
    ns:wishes                           hash of what was clicked in Flower, by job, until heard
    ns:answer:<token>                   what came of a click
    ns:serves:<id of a home>            which coordinator has it: a copy of the home has the same id
    ns:coordinator:<home>               who works on a home (JSON); lives as long as it is renewed
    ns:worker:<worker>                  who is there (JSON); lives as long as it is renewed
    ns:pace:<scope>                     shared pace of an endpoint, key and model
    ns:slots:<scope>                    calls in flight that each worker was given
    ns:minute:<scope>                   what was let in and granted in the last minute
"""

from __future__ import annotations

import hashlib

DATABASE = "job.sqlite"
BLOCKS = "input.blocks"
TABLE = "input.table"
LOCK = "coordinator.lock"
HOME_ID = "home.id"
NOTICES = "notices.json"
CAPS = "caps.json"
REMOVED = "removed.json"
FENCE = "fence.json"
LESSONS = "lessons.sqlite"
REGISTRY = "registry.sqlite"
SECRET = "post.secret"  # noqa: S105  a name
OUTPUT, ERRORS, COST, REPORT = "output.jsonl", "errors.jsonl", "cost.json", "report.html"

LONGEST_LIFE_S = 30 * 24 * 3600
"""Of keys whose owner may be away; a home that is gone leaves none behind for ever."""

LOST = b"lost"
"""A claim by nobody, signed by the coordinator: of a chunk that was given up."""

NONCES = "ns:nonces"
CELERY_PREFIX = "ns.celery:"
RUN_CHUNK = "nightshift.run_chunk"
LOOK_UP = "nightshift.look_up"
JOBS = "ns:jobs"
WISHES = "ns:wishes"


def fence_key(fence: str) -> str:
    """Where a coordinator counts how often it found Redis's memory whole."""
    return f"ns:fence:{fence}"


def voucher_key(nonce: str) -> str:
    """Which fences are vouched for to the worker that made up this nonce."""
    return f"ns:voucher:{nonce}"


def payload_key(job: str, chunk: int | str) -> str:
    """Where a chunk's payload stands."""
    return f"ns:payload:{job}:{chunk}"


def claim_key(job: str, chunk: int) -> str:
    """Where a worker writes that it runs a chunk."""
    return f"ns:claim:{job}:{chunk}"


def taken_key(job: str, chunk: int) -> str:
    """Where the worker that takes a chunk writes its name, once and for all."""
    return f"ns:taken:{job}:{chunk}"


def permit_key(job: str, chunk: int) -> str:
    """Where a coordinator tells who alone may make the calls of a chunk."""
    return f"ns:permit:{job}:{chunk}"


def results_key(job: str) -> str:
    """The stream of a job's deliveries."""
    return f"ns:results:{job}"


def acks_key(outbox: str) -> str:
    """Where an outbox learns which of its deliveries are on disk."""
    return f"ns:acks:{outbox}"


def hold_key(job: str) -> str:
    """Where workers see that a job is paused or cancelled."""
    return f"ns:hold:{job}"


def progress_key(job: str) -> str:
    """What Flower shows of a job."""
    return f"ns:progress:{job}"


def series_key(job: str) -> str:
    """What Flower draws of a job."""
    return f"ns:series:{job}"


def events_key(job: str) -> str:
    """What Flower tells of what happened to a job."""
    return f"{series_key(job)}:events"


def answer_key(token: str) -> str:
    """Where Flower hears what came of a click."""
    return f"ns:answer:{token}"


def serves_key(home_id: str) -> str:
    """Where the coordinator of a home, or of its copy, writes its name."""
    return f"ns:serves:{home_id}"


def coordinator_key(home: str) -> str:
    """A coordinator's sign of life."""
    return f"ns:coordinator:{home}"


def wish_place(job: str) -> str:
    """What a click for a job is signed for."""
    return f"{WISHES}:{job}"


def ask_place(job: str) -> str:
    """What a worker's question is signed for, whether it may begin a chunk of a job."""
    return f"ns:permit:{job}"


def lookup_place(job: str) -> str:
    """What a question for the cost of a job's calls is signed for."""
    return f"{LOOK_UP}:{job}"


def worker_key(worker: str) -> str:
    """A worker's sign of life."""
    return f"ns:worker:{worker}"


def pace_key(scope: str) -> str:
    """The pace that the workers of a scope share."""
    return f"ns:pace:{scope}"


def slots_key(scope: str) -> str:
    """Which of them may have how many calls in flight."""
    return f"ns:slots:{scope}"


def minute_key(scope: str) -> str:
    """What was let in and granted in the last minute."""
    return f"ns:minute:{scope}"


def scope_name(base_url: str, key_fingerprint: str, model: str) -> str:
    """What shares one pace. The fingerprint is of the key, never the key."""
    digest = hashlib.sha256(f"{base_url.rstrip('/')} {key_fingerprint} {model}".encode())
    return digest.hexdigest()[:16]
