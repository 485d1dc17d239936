"""What the user gets: lines as OpenAI writes them, whole files, costs to the last digit."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import math
import os
import re
import tracemalloc
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.reports import finished_lines, write_all
from batch.reports import output_lines as lines
from batch.reports.cost_report import cost_json, cost_of
from batch.reports.output_files import whole_file
from batch.reports.output_lines import embedded
from batch.reports.page import write_page
from batch.reports.rows import rows
from batch.store import delivery_ledger
from batch.store.jobstore import JobStore
from batch.store.stored_estimate import Guess
from jobs.budget import Amount
from jobs.chunk import WORKER_DIED
from jobs.errors import StorageUnavailable
from jobs.job_options import Budget
from jobs.message import Message
from jobs.names import COST, ERRORS, OUTPUT, REPORT
from jobs.outcome import Answered
from jobs.prices import ModelPrice, Offer, PriceList, Rates
from jobs.request import Fault
from jobs.states import JobState
from jobs.usage import Usage
from tests.batch.making import (
    ANSWER,
    JOB,
    MODEL,
    OTHER,
    answered,
    call,
    closing,
    delivery,
    feed,
    prices,
    publish,
    request,
    result,
)
from workers.calling.classifier import classify
from workers.calling.endpoint import Reply

FILES = (OUTPUT, ERRORS, COST, REPORT)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read as JSONL is to be read: UTF-8, split at line feeds and nowhere else."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line.decode()) for line in data.split(b"\n")[:-1]]


def one_of_each(folder: Path) -> JobStore:
    """Answered after a repeat, refused, never answered, not run; and a line that was no request."""
    store = publish(
        folder,
        [request(1), request(3), request(4), request(5)],
        faults=[Fault(2, "input.json", Message("not JSON"), custom_id=None)],
        priced=prices(),
        skip_invalid=True,
        budget=Budget(rub=Decimal(50)),
    )
    feed(store, 3, Amount(Decimal(20), None))
    refusal = b'{"error":{"message":"too long","code":400}}'
    calls = [
        call(0, id="a", cost="0.1", code="endpoint.empty"),
        call(0, id="b", cost="0.0000522948192", attempt=2),
        call(1, id="c", cost="0"),
        call(2, id="d", cost=None, bound="2.5", status=None, code="endpoint.timeout"),
        call(2, id="e", cost="0.3", attempt=2, code="endpoint.empty"),
    ]
    results = [
        result(0, call="b", attempts=2, request_id="req-1", flags=("truncated",), body=0),
        result(1, code="endpoint.context_length", call="c", body=1),
        result(2, code="endpoint.timeout", call="e", status=None, attempts=2),
    ]
    closed = [closing(1, refusals={"endpoint.rate_limited": 4})]
    delivery_ledger.apply(store, [delivery(calls, results, closed, bodies=[ANSWER, refusal])])
    return store


# ── Lines (DESIGN 5) ─────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_a_line_of_the_batch_api_and_one_key_more(tmp_path: Path) -> None:
    write_all(one_of_each(tmp_path))

    assert lines_of(tmp_path / "out" / OUTPUT) == [
        {
            "id": f"batch_req_{JOB.removeprefix('job_')}_1",
            "custom_id": "r-1",
            "response": {
                "status_code": 200,
                "request_id": "req-1",
                "body": json.loads(ANSWER),
            },
            "error": None,
            "nightshift": {
                "line": 1,
                "attempts": 2,
                "cost_rub": "0.1000522948192",
                "cost_source": "endpoint",
                "latency_s": 1.5,
                "flags": ["truncated"],
            },
        }
    ]


def test_errors_stand_in_the_order_of_the_input_with_what_was_no_request(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)
    store.set_state(JobState.CANCELLING)

    write_all(store)

    found = lines_of(tmp_path / "out" / ERRORS)
    assert [(line["nightshift"]["line"], line["nightshift"]["code"]) for line in found] == [
        (2, "input.json"),
        (3, "endpoint.context_length"),
        (4, "endpoint.timeout"),
        (5, "not_run.cancelled"),
    ]
    assert all(line["nightshift"]["message"] for line in found)


def test_a_refusal_that_was_answered_has_its_response_and_no_error(tmp_path: Path) -> None:
    write_all(one_of_each(tmp_path))

    line = lines_of(tmp_path / "out" / ERRORS)[1]

    assert line["error"] is None
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"] == {"error": {"message": "too long", "code": 400}}
    assert line["nightshift"]["cost_rub"] == "0"


def test_what_never_got_an_answer_has_an_error_and_no_response(tmp_path: Path) -> None:
    write_all(one_of_each(tmp_path))

    line = lines_of(tmp_path / "out" / ERRORS)[2]

    assert line["response"] is None
    assert line["error"] == {"code": "endpoint.timeout", "message": "says endpoint.timeout"}
    assert line["nightshift"] == {
        "line": 4,
        "attempts": 2,
        "cost_rub": "0.3",
        "cost_source": "unknown",
        "uncertain_calls": 1,
        "uncertain_rub": "2.5",
        **line["error"],
    }


def test_a_refusal_without_a_body_was_answered_all_the_same(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    refused = result(0, code="endpoint.too_large", status=413)
    delivery_ledger.apply(store, [delivery([], [refused], bodies=[])])

    write_all(store)

    line = lines_of(tmp_path / "out" / ERRORS)[0]
    assert line["response"]["status_code"] == 413
    assert line["response"]["body"]["error"]["code"] == "endpoint.too_large"


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b"", b"\xff\xfe", b"[]", b"null", b'"text"', b'{"detail":"no"}']
)
def test_a_refusal_in_another_form_gets_the_form_of_the_api_e19(
    tmp_path: Path, body: bytes
) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    refused = result(0, code="endpoint.bad_body", status=502, body=0)
    delivery_ledger.apply(store, [delivery([], [refused], bodies=[body])])

    write_all(store)

    line = lines_of(tmp_path / "out" / ERRORS)[0]
    assert line["response"]["body"] == {
        "error": {"code": "endpoint.bad_body", "message": "says endpoint.bad_body"}
    }


def test_of_an_answer_that_is_no_json_the_error_quotes_the_beginning_e34(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    refused = result(0, code="endpoint.bad_body", status=502, body=0)
    delivery_ledger.apply(store, [delivery([], [refused], bodies=[b"<h1>Bad gateway</h1>" * 500])])

    write_all(store)

    quoted = lines_of(tmp_path / "out" / ERRORS)[0]["nightshift"]["raw"]
    assert quoted.startswith("<h1>Bad gateway</h1>")
    assert len(quoted) == 2048


def test_the_lines_so_far_are_those_of_finished_requests(tmp_path: Path) -> None:
    found = [json.loads(line)["custom_id"] for line in finished_lines(one_of_each(tmp_path))]

    assert found == ["r-1", "r-3", "r-4"]


def test_lines_are_in_the_order_of_the_input_however_they_came(tmp_path: Path) -> None:
    store = publish(tmp_path, 9)
    for ordinals in ((6, 2), (8, 0, 4)):
        chunk = store.chunks.grant(
            [each for each in store.queue.waiting(9) if each.ordinal in ordinals], Amount(), 1001.0
        )
        delivery_ledger.apply(store, [answered(chunk, *sorted(ordinals, reverse=True))])

    write_all(store)

    output, errors = (lines_of(tmp_path / "out" / name) for name in (OUTPUT, ERRORS))
    assert [line["nightshift"]["line"] for line in output] == [1, 3, 5, 7, 9]
    assert [line["nightshift"]["line"] for line in errors] == [2, 4, 6, 8]
    assert {line["nightshift"]["cost_rub"] for line in output} == {"0.5"}


# ── Whatever the endpoint sends (FAULTS E41) ─────────────────────────────────────────────────────

CHOICES = b'"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]'


def choice(content: bytes, before: bytes = b"{", after: bytes = b"}") -> bytes:
    return before + CHOICES % content + after


BODIES = {
    "plain": choice("да".encode()),
    "several lines": b"{\n  " + CHOICES % b"x" + b"\r\n}\n",
    "bare carriage returns": b"{\r" + CHOICES % b"x" + b"\r}",
    "keep-alive blanks": b" \n \n  " + choice(b"x"),
    "byte order mark": b"\xef\xbb\xbf" + choice(b"x"),
    "lone surrogate": choice(rb"a\ud800b"),
    "surrogates in wrong order": choice(rb"\udc00\ud800"),
    "pair": choice(rb"\ud83d\ude00"),
    "line separators": choice("a\u2028b\u2029c\x85d – €".encode()),
    "escaped controls": choice(rb"\u0000\u001b[31m\n\r\u2028"),
    "html": choice(rb"</script><img src=x onerror=\"alert(1)\">"),
    "NaN": choice(b"x", b'{"usage":{"cost":NaN},'),
    "infinities": choice(b"NaN and -Infinity", b'{"usage":{"cost":Infinity,"x":-Infinity},'),
    "huge number": choice(b"x", b'{"usage":{"cost":1e999,"n":-1E-999},'),
    "many digits": choice(b"x", b'{"usage":{"cost":0.1000000000000000055511151231257827},'),
    "2^64": choice(b"x", b'{"usage":{"prompt_tokens":18446744073709551616},'),
    "4000 digits": choice(b"x", b'{"n":' + b"7" * 4000 + b","),
    "duplicate keys": choice(b"x", b'{"id":"a","id":"b",'),
    "deep": choice(b"x", b'{"deep":' + b"[" * 150 + b"]" * 150 + b","),
    "deeper": choice(b"x", b'{"deep":' + b"[" * 900 + b"]" * 900 + b","),
    "brackets in text": choice(b"[{" * 500),
}


def as_read(text: str) -> Any:
    """Of two answers that are the same to a reader; NaN is no number, and here a text."""
    found = json.loads(text.removeprefix("\ufeff"), parse_constant=str, parse_float=str)
    return whole(found)


def whole(value: Any) -> Any:
    """With U+FFFD for half a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(re.sub("[\ud800-\udfff]", "\ufffd", text))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_answer_is_one_line_of_json_that_says_the_same_e41(tmp_path: Path, body: bytes) -> None:
    reply = Reply(200, {"content-type": "application/json"}, body, 1.0)
    assert isinstance(classify(reply, asked_model=MODEL, now=0.0), Answered)
    store = publish(tmp_path, 1)
    feed(store, 1)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0, body=0)], bodies=[body])])

    write_all(store)

    data = (tmp_path / "out" / OUTPUT).read_bytes()
    assert data.count(b"\n") == 1
    assert b"\r" not in data
    line = json.loads(data.decode(), parse_float=str, parse_constant=_not_json)
    found = line["response"]["body"]
    assert found == (body.decode() if isinstance(found, str) else as_read(body.decode()))
    assert isinstance(found, dict) or body in (BODIES["deeper"], BODIES["4000 digits"])


def _not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def readable(body: bytes) -> Any:
    """What any reader of a line finds in place of this answer."""
    line = msgspec.json.encode({"body": embedded(body)[0]}).decode()
    assert "\n" not in line
    assert "\r" not in line
    return json.loads(line, parse_constant=_not_json)["body"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1, "\r\n"]))
def test_json_says_the_same_within_a_line(value: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return

    assert readable(body) == value


@given(st.binary(max_size=80))
def test_bytes_of_any_kind_are_a_text_within_a_line_or_the_json_that_they_are(body: bytes) -> None:
    found = readable(body)

    if not isinstance(found, str):
        assert found == as_read(body.decode()) or isinstance(found, float)


@given(st.text(alphabet='{}[]",:\\ \n\rNa0fIinty-eE.\ufeff\ud83d', max_size=40))
def test_what_looks_like_json_is_json_or_a_text_within_a_line(text: str) -> None:
    readable(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (rb"a\ud800b", "a\ufffdb"),
        (rb"\uDC00\uD800", "\ufffd\ufffd"),
        (rb"\ud800\ud83d\ude00", "\ufffd😀"),
        (rb"\\ud800", "\\ud800"),
        (rb"\\\ud800\n", "\\\ufffd\n"),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_flagged(
    tmp_path: Path, content: bytes, read: str
) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    body = choice(content)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0, body=0)], bodies=[body])])

    write_all(store)

    (line,) = lines_of(tmp_path / "out" / OUTPUT)
    assert line["response"]["body"]["choices"][0]["message"]["content"] == read
    assert ("lone_surrogate" in line["nightshift"].get("flags", [])) == ("\ufffd" in read)


def test_an_error_under_status_200_is_read_as_a_success_by_nobody(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    feed(store, 2)
    bodies = [b'{"error":{"message":"busy","code":502}}', b'{"choices":[]}']
    failed = [result(n, code="endpoint.empty", status=200, body=n) for n in (0, 1)]
    delivery_ledger.apply(store, [delivery([call(0), call(1)], failed, bodies=bodies)])

    write_all(store)

    first, second = lines_of(tmp_path / "out" / ERRORS)
    assert first["response"] is second["response"] is None
    assert first["error"] == {"code": "endpoint.empty", "message": "says endpoint.empty"}
    assert first["nightshift"]["response"] == {
        "status_code": 200,
        "request_id": "",
        "body": json.loads(bodies[0]),
    }
    assert second["nightshift"]["response"]["body"] == {"choices": []}


def test_no_two_jobs_have_rows_of_one_id(tmp_path: Path) -> None:
    lines = []
    for job in (JOB, OTHER):
        store = publish(tmp_path, 2, job=job, faults=[Fault(3, "input.json", Message("not JSON"))])
        write_all(store, tmp_path / job)
        lines += lines_of(tmp_path / job / ERRORS)

    assert len({line["id"] for line in lines}) == 6
    assert all(line["id"].startswith("batch_req_") for line in lines)


def test_infinity_within_a_text_stays_a_text() -> None:
    assert readable(b'{"a":"NaN, \\"Infinity\\"","b":-Infinity}') == {
        "a": 'NaN, "Infinity"',
        "b": "-Infinity",
    }


def test_an_answer_that_is_not_json_is_kept_whole() -> None:
    body = b"<p>" + b"x" * 5000

    assert readable(body) == body.decode()


# ── Files (FAULTS P7, F3, F13) ───────────────────────────────────────────────────────────────────


def test_writing_twice_gives_the_same_bytes_l9_p7(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)
    write_all(store)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}

    write_all(store)

    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == before


def test_results_are_for_their_owner_alone_f14(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_all(one_of_each(tmp_path))
    finally:
        os.umask(before)

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("call_of", ["fsync", "rename", "open"])
def test_a_disk_that_refuses_leaves_the_old_file_f1_f3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_of: str
) -> None:
    path = tmp_path / OUTPUT
    path.write_text("old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"new")

    with monkeypatch.context() as patch:
        patch.setattr(os, call_of, refuse)
        with pytest.raises(StorageUnavailable, match="No space left on device") as refusal:
            write()

    assert "nightshift results" in refusal.value.hint
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == [OUTPUT]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StorageUnavailable])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / OUTPUT
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise error("midway")

    with pytest.raises(error):
        write()

    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == [OUTPUT]


def test_a_killed_writer_leaves_no_half_file_and_its_leftovers_are_removed_p7_f13(
    tmp_path: Path,
) -> None:
    store = one_of_each(tmp_path)
    child = os.fork()
    if child == 0:
        with whole_file(tmp_path / "out" / OUTPUT) as file:
            file.write(b"half a li")
            file.flush()
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    (left,) = (tmp_path / "out").iterdir()
    assert left.name.startswith(".nightshift-")
    (tmp_path / "out" / f".{OUTPUT}.part").write_bytes(b"what 0.2.0 left")

    write_all(store)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


def test_of_two_that_write_a_file_at_a_time_neither_shows_half_of_the_others(
    tmp_path: Path,
) -> None:
    with ExitStack() as second:
        with whole_file(tmp_path / OUTPUT) as file:
            file.write(b"the first")
            second.enter_context(whole_file(tmp_path / OUTPUT)).write(b"the second")
        assert (tmp_path / OUTPUT).read_bytes() == b"the first"
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the second"]


def test_a_draft_that_another_writer_took_for_a_dead_ones_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, others = fcntl.flock, ["one that begins between a draft and its lock"]

    def flock(file: int, how: int) -> None:
        if others:
            others.clear()
            with whole_file(tmp_path / "another"):
                pass
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with whole_file(tmp_path / OUTPUT) as file:
        file.write(b"whole")

    assert not others
    assert (tmp_path / OUTPUT).read_bytes() == b"whole"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["another", OUTPUT]


def test_answers_that_were_damaged_on_the_disk_are_told_and_not_written_f11(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)
    ((data,),) = store.db.execute("SELECT bodies FROM answers").fetchall()
    flipped = bytes([*data[:-6], data[-6] ^ 1, *data[-5:]])
    store.db.execute("UPDATE answers SET bodies = ?", (flipped,))

    with pytest.raises(StorageUnavailable, match="answers are damaged"):
        write_all(store)

    assert list((tmp_path / "out").iterdir()) == []


def test_a_job_without_requests_has_empty_results_and_costs_nothing_i15(tmp_path: Path) -> None:
    write_all(publish(tmp_path, 0))

    assert (tmp_path / "out" / OUTPUT).read_bytes() == b""
    assert (tmp_path / "out" / ERRORS).read_bytes() == b""
    assert json.loads((tmp_path / "out" / COST).read_bytes())["cost_rub"] == "0"


# ── Cost (FAULTS L7) ─────────────────────────────────────────────────────────────────────────────


def test_the_cost_is_told_by_model_source_and_fate(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)

    told = cost_json(store)

    assert told["cost_rub"] == "0.4000522948192"
    assert told["exact"] is False
    assert told["calls"] == 5
    assert told["refused_calls"] == {"endpoint.rate_limited": 4}
    assert told["of_repeated_calls_rub"] == "0.1"
    assert told["of_failed_requests_rub"] == "0.3"
    assert told["uncertain"] == {
        "calls": 1,
        "at_most_rub": "2.5",
        "calls_without_bound": 0,
        "estimated_rub": "0",
    }
    assert told["by_source"] == {"endpoint": "0.4000522948192"}
    assert told["by_model"][MODEL]["calls"] == 5
    assert told["tokens"]["prompt"] == 80
    assert (told["requests"], told["completed"], told["failed"], told["invalid"]) == (4, 1, 2, 1)
    assert told["budget"] == {"rub": "50", "tokens": None, "requests": None}
    assert [each["sha256"] for each in told["prices"]] == ["0" * 64]


def test_costs_of_lines_and_of_the_job_are_the_same_to_the_last_digit_l7(tmp_path: Path) -> None:
    store = publish(tmp_path, 200, priced=prices())
    feed(store, 200)
    calls, results = [], []
    for n in range(200):
        calls.append(call(n, id=f"a{n}", cost="0.0000522948192", code="endpoint.empty"))
        calls.append(call(n, id=f"b{n}", cost=f"{n}.{'1' * 13}"))
        results.append(result(n, call=f"b{n}", code="endpoint.refused" if n % 3 else ""))
    delivery_ledger.apply(store, [delivery(calls, results, [closing(1)])])

    write_all(store)

    every = [*lines_of(tmp_path / "out" / OUTPUT), *lines_of(tmp_path / "out" / ERRORS)]
    told = json.loads((tmp_path / "out" / COST).read_bytes())
    by_line = sum(Decimal(line["nightshift"]["cost_rub"]) for line in every)
    assert by_line == Decimal(told["cost_rub"]) == store.job().settled_rub == cost_of(store).rub
    parts = [told["of_repeated_calls_rub"], told["of_failed_requests_rub"]]
    parts += [str(sum(c.cost or 0 for c in calls if c.id == f"b{n}")) for n in range(0, 200, 3)]
    assert sum(map(Decimal, parts)) == by_line
    assert told["exact"] is True


def test_what_reading_from_caches_saved_is_told_by_the_prices_of_the_moment(tmp_path: Path) -> None:
    store = publish(tmp_path, priced=cached_prices("0.001", "0.0004", taken_at=1.0))
    store.add_prices(cached_prices("0.002", "0.0004", taken_at=2000.0))
    feed(store, 3)
    calls = [
        call(0, id="a", sent_at=1002.0, usage=Usage(100, 5, cached=60)),
        call(1, id="b", sent_at=2002.0, usage=Usage(100, 5, cached=10)),
        call(2, id="c", sent_at=2002.0, usage=Usage(100, 5)),
    ]
    delivery_ledger.apply(store, [delivery(calls, [result(n, call="abc"[n]) for n in range(3)])])

    write_all(store)

    told = json.loads((tmp_path / "out" / COST).read_bytes())
    assert told["saved_by_cache_rub"] == "0.052" == cost_json(store)["saved_by_cache_rub"]
    assert [each["models"][MODEL]["prompt_rub"] for each in told["prices"]] == ["0.001", "0.002"]


def test_calls_that_cost_something_else_than_their_tokens_do_are_listed(tmp_path: Path) -> None:
    store = publish(tmp_path, 7, priced=cached_prices("0.001", "0.0004", taken_at=1.0))
    store.add_prices(cached_prices("0.002", "0.0004", taken_at=2000.0))
    feed(store, 7)
    usage = Usage(100, 5, cached=60)
    costs = [
        # By the prices of the moment, a hundredth off, by those that were read a little later.
        *(("0.069", 1002.0), ("0.0696", 1002.0), ("0.114", 1002.0), ("0.114", 2002.0)),
        # By those of former times; by nobody's; and 2.45 times the price.
        *(("0.069", 2002.0), ("9", 2002.0), ("0.2793", 2002.0)),
    ]
    calls = [
        call(n, id=f"c{n}", sent_at=at, usage=usage, cost=cost)
        for n, (cost, at) in enumerate(costs)
    ]
    delivery_ledger.apply(store, [delivery(calls, [result(n, call=f"c{n}") for n in range(7)])])
    store.db.execute("UPDATE calls SET billing = 'unknown', cost = NULL WHERE cost = '9'")

    (found,) = cost_json(store)["unlisted"]
    page = io.BytesIO()
    write_page(store, page)

    assert (found["calls"], found["lines"]) == (2, [5, 7])
    assert (found["billed_rub"], found["by_prices_rub"]) == ("0.3483", "0.228")
    told = page.getvalue().decode().replace("\N{NO-BREAK SPACE}", " ")
    assert "2 calls for 0.3483 ₽, by the prices 0.228 ₽ (lines 5, 7)" in told


def cached_prices(prompt: str, read: str, taken_at: float) -> PriceList:
    rates = Rates(Decimal(prompt), Decimal(prompt), Decimal(read))
    offers = (Offer("", rates),)
    return PriceList(taken_at, "url", "0" * 64, {MODEL: ModelPrice(MODEL, offers)})


def test_one_walk_and_a_recount_tell_the_same_cost(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)
    write_all(store)

    walked = json.loads((tmp_path / "out" / COST).read_bytes())

    assert walked == json.loads(json.dumps(cost_json(store)))


def test_a_cost_that_nobody_told_is_not_exact_even_if_it_is_nothing(tmp_path: Path) -> None:
    store = publish(tmp_path, 1, priced=prices("0"))
    feed(store, 1)
    delivery_ledger.apply(store, [delivery([call(0, cost=None, usage=Usage(5, 5))], [result(0)])])

    told = cost_json(store)

    assert (told["cost_rub"], told["exact"], told["by_source"]) == ("0", False, {})
    assert told["uncertain"]["calls"] == 1


def test_all_calls_of_a_request_that_was_set_aside_are_of_a_failed_one_p12(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    delivery_ledger.apply(
        store, [delivery([call(0, cost="0.7")], closed=[closing(1, [(0, 3, 3)], WORKER_DIED)])]
    )
    store.failures.set_poison_aside(3, 1005.0)

    told = cost_json(store)

    assert (told["of_failed_requests_rub"], told["of_repeated_calls_rub"]) == ("0.7", "0")


def test_what_a_lost_chunk_may_have_cost_is_told(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    chunk = feed(store, 2, Amount(Decimal(9), None))
    delivery_ledger.apply(store, [delivery([call(0, cost="1")], [result(0)])])
    store.chunks.lose(chunk)

    told = cost_json(store)

    assert told["lost"] == {"chunks": 1, "at_most_rub": "8"}
    assert told["exact"] is False


def test_without_a_cap_nobody_knows_what_a_lost_chunk_may_have_cost(tmp_path: Path) -> None:
    store = publish(tmp_path, 2)
    store.chunks.lose(feed(store, 2))

    assert cost_json(store)["lost"] == {"chunks": 1, "at_most_rub": None}


def test_the_cost_stands_beside_what_was_expected(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    store.set_guess(
        Guess(Decimal("0.200"), Decimal("0.250"), Decimal(1), Decimal("1E+1"), basis="learned")
    )
    delivery_ledger.apply(store, [answered(feed(store, 1), cost="0.2")])

    assert cost_json(store)["estimate"] == {
        "low_rub": "0.2",
        "likely_rub": "0.25",
        "high_rub": "1",
        "at_most_rub": "10",
        "basis": "learned",
        "answers": 0,
        "outcome_rub": "0.2",
        "ratio": 0.8,
    }


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_read_without_their_answers_if_those_are_not_wanted(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)

    assert [row.body for row in rows(store, bodies=False)] == [b""] * 4
    assert [bool(row.body) for row in rows(store)] == [True, True, False, False]


def test_a_row_tells_the_least_certain_source_of_its_costs(tmp_path: Path) -> None:
    found = list(rows(one_of_each(tmp_path)))

    assert [(row.source, row.calls) for row in found] == [
        ("endpoint", 2),
        ("endpoint", 1),
        ("unknown", 2),
        ("none", 0),
    ]


def test_what_is_written_meanwhile_is_in_all_lines_or_in_none(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    feed(store, 4)
    delivery_ledger.apply(store, [delivery([call(0)], [result(0)])])
    reader = JobStore(store.folder, read_only=True)

    lines = finished_lines(reader)
    first = json.loads(next(lines))
    delivery_ledger.apply(store, [delivery([call(n) for n in (1, 2)], [result(n) for n in (1, 2)])])

    assert first["nightshift"]["cost_rub"] == "0.5"
    assert list(lines) == []
    assert len(list(finished_lines(reader))) == 3
    assert math.isfinite(cast(float, first["nightshift"]["latency_s"]))


NESTED = st.recursive(
    st.sampled_from(["[[", '"{"', "\\", '\\"[', "", "}}", 1, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('[]\\"'), inner),
    max_leaves=12,
)


def levels(value: object) -> int:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return 1 + max(map(levels, parts), default=0)
    return 0


@given(NESTED, st.integers(0, 6))
def test_the_depth_of_an_answer_is_told_without_reading_it(value: object, deepest: int) -> None:
    with mock.patch.object(lines, "_DEEPEST", deepest):
        assert lines._is_flat(json.dumps(value).encode()) is (levels(value) <= deepest)


@pytest.mark.parametrize("token", [b"[],", b'"",', b'["["],', b"{},"])
def test_an_answer_that_is_all_brackets_takes_little_more_than_its_size(token: bytes) -> None:
    body = b'{"error":[' + token * (2**20 // len(token)) + b"0]}"
    tracemalloc.start()
    try:
        found, _ = lines.embedded(body)
        assert lines._has_error(found)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 * len(body)


def test_what_failed_requests_cost_is_the_sum_of_the_errors(tmp_path: Path) -> None:
    store = one_of_each(tmp_path)
    feed(store, 1)
    delivery_ledger.apply(
        store, [delivery([call(3, 2, id="f", cost="0.07")], [], [closing(2, [(3, 1, 0)])])]
    )
    write_all(store)

    told = json.loads((tmp_path / "out" / COST).read_text())
    lines = lines_of(tmp_path / "out" / ERRORS)
    spent = sum(Decimal(line["nightshift"]["cost_rub"]) for line in lines)
    assert Decimal(told["of_failed_requests_rub"]) == spent == Decimal("0.37")
    assert told["by_model"][MODEL]["uncertain_calls"] == 1


def test_a_call_of_unknown_cost_without_a_bound_has_none_in_any_file(tmp_path: Path) -> None:
    store = publish(tmp_path, 1)
    feed(store, 1)
    unknown = call(0, cost=None, bound=None)
    delivery_ledger.apply(store, [delivery([unknown], [result(0, body=0)], bodies=[ANSWER])])

    write_all(store)

    told = json.loads((tmp_path / "out" / COST).read_text())
    assert told["uncertain"]["at_most_rub"] is None
    assert told["uncertain"]["calls_without_bound"] == store.job().unbounded == 1
    (line,) = lines_of(tmp_path / "out" / OUTPUT)
    assert (line["nightshift"]["uncertain_calls"], line["nightshift"]["uncertain_rub"]) == (1, None)
    page = (tmp_path / "out" / REPORT).read_text()
    assert "no upper bound" in page
    assert not re.search(r"at most 0[.,]00|>0[.,]00 ₽</td>", page)


def test_failures_are_told_by_cause_with_the_words_and_the_first_lines(tmp_path: Path) -> None:
    store = publish(tmp_path, 4)
    feed(store, 4)
    words = ["limit 8192, you sent 9000", "limit 8192, you sent 9001", "no such role", ""]
    failed = [
        result(n, code="endpoint.bad_request" if said else "endpoint.5xx", message=said)
        for n, said in enumerate(words)
    ]
    delivery_ledger.apply(store, [delivery([], failed, bodies=[])])

    told = cost_json(store)["failures"]

    assert [(each["code"], each["requests"], each["lines"]) for each in told] == [
        ("endpoint.bad_request", 2, [1, 2]),
        ("endpoint.5xx", 1, [4]),
        ("endpoint.bad_request", 1, [3]),
    ]
    assert told[0]["message"] == words[0]
    assert told[0]["status"] == 400
