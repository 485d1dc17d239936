"""Small values: ids, names, the queue's settings, usage, requests and outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.transport.redis import Transport
from redis import Redis

from jobs import names
from jobs.celery_settings import celery_settings
from jobs.errors import (
    AlreadyRunning,
    BadMessage,
    InvalidInput,
    NightshiftError,
    NoSuchJob,
    ServiceUnavailable,
    StorageUnavailable,
    UsageError,
)
from jobs.ids import check_job_id, check_outbox
from jobs.message import Message
from jobs.outcome import MAYBE_BILLED, NOT_BILLED, Billing, CostSource
from jobs.redis_url import parse_redis_url
from jobs.request import HIDDEN_TOKENS, TOKENS_PER_MESSAGE, Request
from jobs.signing import Seal, Target
from jobs.usage import Usage

JOB = "job_01k1abcdefghjkmnpqrstvwxyz"

# ── Ids ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_id_is_a_job_id() -> None:
    assert check_job_id(JOB) == JOB


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "job_",
            JOB[:-1],
            JOB + "0",
            JOB + "\n",
            " " + JOB,
            JOB.upper(),
            JOB.replace("1", "i"),
        ),
        *("../" + JOB, JOB + "/..", "/" + JOB, JOB[:10] + "\x00" + JOB[11:], "job_" + "ａ" * 26),
        *(None, 7, b"job_01k1abcdefghjkmnpqrstvwxyz", [JOB]),
    ],
)
def test_anything_else_is_not_a_job_id_s1(text: object) -> None:
    with pytest.raises(BadMessage):
        check_job_id(text)


@given(st.text(max_size=40))
def test_a_text_is_a_job_id_or_a_bad_message(text: str) -> None:
    try:
        assert check_job_id(text) == text
        assert "/" not in text
    except BadMessage:
        pass


def test_an_outbox_is_named_by_a_short_word() -> None:
    assert check_outbox("0a1b2c3d4e") == "0a1b2c3d4e"


# ── Names ────────────────────────────────────────────────────────────────────────────────────────


def test_every_key_of_redis_is_ours_and_no_two_are_the_same() -> None:
    keys = [
        names.payload_key(JOB, 1),
        names.payload_key(JOB, 11),
        names.claim_key(JOB, 1),
        names.results_key(JOB),
        names.acks_key("box"),
        names.hold_key(JOB),
        names.progress_key(JOB),
        names.worker_key("host:1"),
        names.NONCES,
    ]

    assert len(set(keys)) == len(keys)
    assert all(key.startswith("ns:") for key in keys)


def test_a_trailing_slash_makes_no_other_endpoint() -> None:
    one, other = "https://routerai.ru/api/v1", "https://routerai.ru/api/v1/"

    seal = Seal(b"x" * 32)
    assert seal.queue(Target(one, "k")) == seal.queue(Target(other, "k"))
    assert names.scope_name(one, "k", "m") == names.scope_name(other, "k", "m")


def test_keys_and_models_have_a_pace_of_their_own() -> None:
    scopes = {names.scope_name("https://x/v1", key, model) for key in "ab" for model in "mn"}

    assert len(scopes) == 4


# ── The queue ────────────────────────────────────────────────────────────────────────────────────


TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs")


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://queue", 0),
        ("redis://queue/", 0),
        ("redis://queue/3", 3),
        ("unix:///r.sock", 0),
    ],
)
def test_who_names_no_database_means_the_first(url: str, database: int) -> None:
    assert parse_redis_url(url).database == database


def as_celery_sees(url: str) -> dict[str, object]:
    """What kombu makes of the URL that Celery is given."""
    settings = celery_settings(url)
    channel = object.__new__(Transport.Channel)
    client = Connection(settings["broker_url"], ssl=settings["broker_use_ssl"])  # type: ignore[no-untyped-call]
    channel.connection = type("Of", (), {"client": client, "default_port": 6379})()
    for name, value in settings["broker_transport_options"].items():  # type: ignore[attr-defined]
        setattr(channel, name, value)
    parameters = channel._connparams()  # type: ignore[no-untyped-call]
    return {
        name: parameters.get(name)
        for name in ("path", "host", "port", "username", "password", "db", *TLS)
    }


@pytest.mark.parametrize(
    "url",
    [
        "unix:///run/night/redis.sock",
        "unix:///run/night/redis.sock?db=3",
        "unix://:secret@/run/redis.sock?db=2",
        "unix://me:secret@/run/redis.sock",
        "unix://:p%40ss%3A%2Fword@/run/redis.sock",
        "unix:///run/redis.sock?password=secret&db=1",
        "unix:///run/redis.sock?username=me&password=p%40s%2Bs",
        "unix:///run/a%20folder/redis.sock",
        "redis://:secret@queue:6379/1",
        "REDIS://queue?db=7",
        "redis://me:secret@[::1]:7000/2",
        "redis://",
        "rediss://:x@queue/0",
        "Rediss://:x@queue/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=no",
        "rediss://me:p%40ss@queue:6380/0",
    ],
)
def test_celery_goes_where_redis_py_goes_with_the_same_login(url: str) -> None:
    ours = Redis.from_url(parse_redis_url(url).redis_py()).connection_pool.connection_kwargs

    theirs = as_celery_sees(url)

    assert theirs["db"] == ours.get("db") or (theirs["db"], ours.get("db")) == (0, None)
    for name in [*("path", "host", "port", "username", "password"), *TLS]:
        assert (theirs[name] or None) == (ours.get(name) or None), name


def test_nothing_but_json_is_accepted_and_no_result_is_kept_s3() -> None:
    settings = celery_settings("redis://queue/0")

    assert settings["accept_content"] == ["json"]
    assert settings["task_ignore_result"] is True
    assert "result_backend" not in settings


def test_no_command_can_hang_a_process() -> None:
    options = celery_settings("redis://queue/0")["broker_transport_options"]

    assert options["socket_timeout"] < 60  # type: ignore[index]
    assert options["socket_connect_timeout"] < 60  # type: ignore[index]


# ── Usage, requests, outcomes ────────────────────────────────────────────────────────────────────

USAGES = st.builds(Usage, *[st.integers(0, 2**40)] * 5)


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_in_any_order(one: Usage, two: Usage, three: Usage) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Usage() == one
    assert (one + two).total == one.total + two.total


def test_cached_and_reasoning_tokens_are_parts_and_not_added_to_the_total() -> None:
    assert Usage(100, 50, cached=90, written=5, reasoning=40).total == 150


@given(st.text(max_size=300), st.integers(1, 20))
def test_a_prompt_has_no_more_tokens_than_its_bound(prompt: str, messages: int) -> None:
    request = Request(1, "r", "m", prompt.encode(), messages, None)

    room = HIDDEN_TOKENS + messages * TOKENS_PER_MESSAGE
    assert request.prompt_bound == len(prompt.encode()) + room


def test_a_call_that_may_be_billed_is_not_one_that_is_not() -> None:
    assert NOT_BILLED.billing is Billing.NONE
    assert MAYBE_BILLED.billing is Billing.UNKNOWN
    assert MAYBE_BILLED.cost is None
    assert [source.value for source in CostSource] == ["endpoint", "lookup", "balance", "unknown"]


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (InvalidInput, 2),
        (NoSuchJob, 2),
        (AlreadyRunning, 2),
        (ServiceUnavailable, 4),
        (StorageUnavailable, 4),
    ],
)
def test_an_error_ends_a_command_with_its_code(error: type[NightshiftError], code: int) -> None:
    raised = error(Message("a sentence"), hint=Message("the way out"))

    assert raised.exit_code == code
    assert (str(raised), raised.hint) == ("a sentence", "the way out")
