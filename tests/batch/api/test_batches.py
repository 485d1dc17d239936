"""Batches of the API: created, validated, run, cancelled, as OpenAI's clients know them."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batch.removal import remove
from batch.store.registry import Registry
from batch.submission import pricing
from jobs.errors import ServiceUnavailable
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.api.conftest import CHAT, OTHER_MODEL, Office, jsonl, line
from tests.batch.making import MODEL

KEYS = {
    *(
        "id",
        "object",
        "endpoint",
        "model",
        "errors",
        "input_file_id",
        "completion_window",
        "status",
    ),
    *("output_file_id", "error_file_id", "created_at", "in_progress_at", "expires_at"),
    *("finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at"),
    *("request_counts", "metadata", "usage", "nightshift"),
}
NOTHING = {"total": 0, "completed": 0, "failed": 0}


def test_a_batch_goes_from_validating_to_completed(office: Office) -> None:
    file = office.upload(jsonl(*map(line, range(3))))["id"]
    new = office.create(file, metadata={"run": "1"}).json()
    office.intake.turn()
    running = office.get(new["id"])
    office.work(new["id"], failing={1: "http.400"})
    office.end(new["id"])
    done = office.get(new["id"])

    assert set(new) == set(running) == set(done) == KEYS
    assert (new["status"], new["request_counts"], new["errors"]) == ("validating", NOTHING, None)
    assert new["expires_at"] == new["created_at"] + 86_400
    assert new["metadata"] == {"run": "1"}
    assert (running["status"], running["model"]) == ("in_progress", MODEL)
    assert running["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    assert running["in_progress_at"] is not None
    assert running["output_file_id"] is None
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert done["finalizing_at"] <= done["completed_at"]
    assert done["usage"]["total_tokens"] == 3 * 25
    assert done["nightshift"]["cost_rub"] == "1.5"
    assert done["nightshift"]["cost_source"] == "endpoint"
    assert [each.row.id for each in office.ended] == [done["id"]]


def test_results_have_openais_form_and_nothing_else(office: Office) -> None:
    batch = office.batch(*map(line, range(4)))
    office.work(batch["id"], failing={1: "http.400", 2: "system.poison_row"}, some=3)
    office.end(batch["id"], JobState.CANCELLING, JobState.CANCELLED)
    done = office.get(batch["id"])

    (answered,) = office.lines(done["output_file_id"])
    refused, broken, left = office.lines(done["error_file_id"])

    assert set(answered) == {"id", "custom_id", "response", "error"}
    assert (answered["custom_id"], answered["error"]) == ("r-0", None)
    assert answered["response"]["status_code"] == 200
    assert answered["response"]["body"]["choices"][0]["message"]["content"] == "да"
    for each in (refused, broken):
        assert (each["response"]["status_code"], each["error"]) == (400, None)
        assert set(each["response"]["body"]["error"]) == {"message", "type", "param", "code"}
    assert left["response"] is None
    assert left["error"]["code"] == "batch_cancelled"
    files = [
        office.ask("GET", f"/v1/files/{done[each]}").json()
        for each in ("output_file_id", "error_file_id")
    ]
    assert [each["purpose"] for each in files] == ["batch_output"] * 2
    assert [each["bytes"] for each in files] == [len(office.content(each["id"])) for each in files]


def test_what_expired_keeps_what_was_answered(office: Office) -> None:
    batch = office.batch(
        line(0), line(1), output_expires_after={"anchor": "created_at", "seconds": 3600}
    )
    office.work(batch["id"], some=1)
    with closing(office.store(batch["id"])) as store:
        store.set_state(JobState.PAUSED, reason=PauseReason.DEADLINE)
    office.end(batch["id"], JobState.EXPIRED)
    done = office.get(batch["id"])

    assert (done["status"], done["expired_at"] is None) == ("expired", False)
    assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 0}
    (left,) = office.lines(done["error_file_id"])
    assert left["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
    file = office.ask("GET", f"/v1/files/{done['output_file_id']}").json()
    assert file["expires_at"] == file["created_at"] + 3600


def test_nothing_answered_is_no_output_file(office: Office) -> None:
    batch = office.batch(line(0))
    office.work(batch["id"], failing={0: "http.400"})
    office.end(batch["id"])
    done = office.get(batch["id"])

    assert (done["status"], done["output_file_id"]) == ("completed", None)
    assert done["error_file_id"]


def without(name: str) -> dict[str, Any]:
    whole = line(0)
    del whole[name]
    return whole


def body(**change: Any) -> dict[str, Any]:
    return {**line(0)["body"], **change}


FAULTS = [
    (without("custom_id"), "missing_required_parameter", "custom_id"),
    (without("method"), "missing_required_parameter", "method"),
    (without("url"), "missing_required_parameter", "url"),
    (without("body"), "missing_required_parameter", "body"),
    (body(), "missing_required_parameter", "custom_id"),
    (line(0, custom_id=7), "invalid_custom_id", "custom_id"),
    (line(0, method="GET"), "invalid_method", "method"),
    (line(0, url="/v1/embeddings"), "invalid_url", "url"),
    (line(0, url="https://evil.example/v1/chat/completions"), "invalid_url", "url"),
    (line(0, body=[]), "invalid_request", "body"),
    (line(0, body={"messages": body()["messages"]}), "invalid_request", "body.model"),
    (line(0, body={"model": MODEL}), "invalid_request", "body.messages"),
    (line(0, body=body(stream=True)), "streaming_unsupported", "body.stream"),
    (line(0, body=body(n=2)), "invalid_request", "body.n"),
    (line(0, body=body(model="no/such")), "model_not_found", "body.model"),
]


@pytest.mark.parametrize(("bad", "code", "param"), FAULTS)
def test_a_faulty_line_fails_the_whole_batch_by_openais_code(
    office: Office, bad: dict[str, Any], code: str, param: str
) -> None:
    failed = office.batch(line(1), line(2), bad)

    assert (failed["status"], failed["failed_at"] is None) == ("failed", False)
    assert failed["errors"]["object"] == "list"
    (told,) = failed["errors"]["data"]
    assert (told["code"], told["line"], told["param"]) == (code, 3, param)
    assert told["message"]
    assert failed["request_counts"] == NOTHING
    assert (failed["output_file_id"], failed["error_file_id"]) == (None, None)
    assert office.home.job_ids() == []
    assert [each.status for each in office.ended] == ["failed"]


def test_every_faulty_line_is_told_up_to_a_hundred(office: Office) -> None:
    data = jsonl(line(0), line(0)) + b"{half\n" * 200
    made = office.create(office.upload(data)["id"]).json()
    office.intake.turn()
    errors = office.get(made["id"])["errors"]["data"]

    assert [each["line"] for each in errors] == list(range(2, 102))
    assert errors[0]["code"] == "duplicate_custom_id"
    assert {each["code"] for each in errors[1:]} == {"invalid_json_line"}


def test_a_bare_name_stands_for_the_one_model_of_that_name(office: Office) -> None:
    batch = office.batch(line(0, body=body(model="minimax-m1")))

    assert (batch["status"], batch["model"]) == ("in_progress", MODEL)


def test_models_may_differ_unless_openais_limits_are_enforced(
    tmp_path: Path, office: Office
) -> None:
    lines = [line(0), line(1, body=body(model=OTHER_MODEL))]
    strict = Office(tmp_path / "strict", strict=True)

    assert office.batch(*lines)["status"] == "in_progress"
    (told,) = strict.batch(*lines)["errors"]["data"]
    assert (told["code"], told["line"]) == ("mismatched_model", 2)


@pytest.mark.parametrize("purpose", ["user_data", None])
def test_a_file_that_cannot_be_used_fails_the_batch(office: Office, purpose: str | None) -> None:
    file = office.upload(jsonl(line(0)), purpose=purpose)["id"] if purpose else "file-none"
    made = office.create(file)
    office.intake.turn()
    (told,) = office.get(made.json()["id"])["errors"]["data"]

    assert made.status_code == 200
    assert (told["code"], told["line"], told["param"]) == ("invalid_request", None, "file_id")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"input_file_id": None}, "input_file_id", "missing_required_parameter"),
        ({"input_file_id": 7}, "input_file_id", "invalid_type"),
        ({"endpoint": None}, "endpoint", "missing_required_parameter"),
        ({"endpoint": "/v1/moderations"}, "endpoint", "invalid_value"),
        ({"completion_window": None}, "completion_window", "missing_required_parameter"),
        ({"completion_window": "99 years"}, "completion_window", "invalid_value"),
        ({"completion_window": "31d"}, "completion_window", "invalid_value"),
        ({"metadata": []}, "metadata", "invalid_type"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        (
            {"metadata": {"nightshift_buget_rub": "5"}},
            "metadata.nightshift_buget_rub",
            "invalid_value",
        ),
        (
            {"metadata": {"nightshift_budget_rub": "-5"}},
            "metadata.nightshift_budget_rub",
            "invalid_value",
        ),
        ({"metadata": {"nightshift_window": "23"}}, "metadata.nightshift_window", "invalid_value"),
        (
            {"metadata": {"nightshift_webhook": "http://1.2.3.4/"}},
            "metadata.nightshift_webhook",
            "invalid_value",
        ),
        (
            {"output_expires_after": {"anchor": "created_at"}},
            "output_expires_after.seconds",
            "missing_required_parameter",
        ),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
            "integer_below_min_value",
        ),
    ],
)
def test_a_request_that_makes_no_sense_makes_no_batch(
    office: Office, change: dict[str, Any], param: str, code: str
) -> None:
    told = office.create("file-x", **change)

    assert told.status_code == 400
    assert (told.json()["error"]["param"], told.json()["error"]["code"]) == (param, code)
    assert office.ask("GET", "/v1/batches").json()["data"] == []


@pytest.mark.parametrize("sent", [b"{", b"[]", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(office: Office, sent: bytes) -> None:
    assert office.ask("POST", "/v1/batches", content=sent).status_code == 400


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("8h", 8), ("7d", 168)])
def test_the_window_is_the_jobs_deadline(office: Office, text: str, hours: int) -> None:
    batch = office.batch(line(0), completion_window=text)

    with closing(office.store(batch["id"])) as store:
        deadline = store.job().spec.deadline
    assert deadline is not None
    assert int(deadline.timestamp()) == batch["expires_at"] == batch["created_at"] + hours * 3600


def test_what_openai_has_no_field_for_stands_in_metadata_or_headers(office: Office) -> None:
    own = {"nightshift_budget_rub": "12.50", "nightshift_window": "23:00-07:00@Europe/Moscow"}
    batch = office.batch(line(0), metadata=own, headers={"X-Nightshift-Budget-Rub": "7"})

    with closing(office.store(batch["id"])) as store:
        spec = store.job().spec
    assert (str(spec.budget.rub), spec.window) == ("7", own["nightshift_window"])
    assert batch["nightshift"]["budget_rub"] == "7"
    assert (spec.origin and spec.origin.batch) == batch["id"]


def test_lists_go_on_until_their_end(office: Office) -> None:
    file = office.upload(jsonl(line(0)))["id"]
    ids = [office.create(file, metadata={"n": str(n)}).json()["id"] for n in range(3)]

    first = office.ask("GET", "/v1/batches", params={"limit": 2}).json()
    rest = office.ask("GET", "/v1/batches", params={"limit": 2, "after": first["last_id"]}).json()

    assert [each["id"] for each in first["data"]] == [ids[2], ids[1]]
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert first["has_more"] is True
    for query in ({"limit": 101}, {"limit": 0}, {"after": "batch_none"}):
        assert office.ask("GET", "/v1/batches", params=query).status_code == 400


def test_a_running_batch_is_cancelled_through_its_job(office: Office) -> None:
    batch = office.batch(line(0))
    coordinator = office.home.lock()

    told = office.ask("POST", f"/v1/batches/{batch['id']}/cancel").json()
    again = office.ask("POST", f"/v1/batches/{batch['id']}/cancel", json={}).json()

    assert (told["status"], told["cancelling_at"] is None) == ("cancelling", False)
    assert again == told
    coordinator.release()
    office.end(batch["id"], JobState.CANCELLED)
    done = office.get(batch["id"])
    assert (done["status"], done["cancelled_at"] is None) == ("cancelled", False)
    assert done["cancelling_at"] == told["cancelling_at"]
    assert office.ask("POST", f"/v1/batches/{batch['id']}/cancel").json() == done


def test_a_batch_that_nobody_works_on_is_cancelled_at_once(office: Office) -> None:
    batch = office.batch(line(0))

    told = office.ask("POST", f"/v1/batches/{batch['id']}/cancel").json()

    assert (told["status"], told["cancelling_at"] is None) == ("cancelled", False)


def test_a_batch_cancelled_before_its_validation_never_is_a_job(office: Office) -> None:
    made = office.create(office.upload(jsonl(line(0)))["id"]).json()

    told = office.ask("POST", f"/v1/batches/{made['id']}/cancel").json()
    office.intake.turn()

    assert told["status"] == "cancelling"
    assert office.get(made["id"])["status"] == "cancelled"
    assert office.home.job_ids() == []


def test_what_is_over_cannot_be_cancelled_and_is_not_asked_again(office: Office) -> None:
    batch = office.batch(line(0))
    office.work(batch["id"])
    office.end(batch["id"])

    told = office.ask("POST", f"/v1/batches/{batch['id']}/cancel")

    assert (told.status_code, told.headers["x-should-retry"]) == (409, "false")
    assert told.json()["error"]["message"] == "Cannot cancel a batch with status 'completed'."


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("POST", "/cancel")])
def test_a_batch_that_is_not_there_is_not_found(office: Office, method: str, end: str) -> None:
    told = office.ask(method, f"/v1/batches/batch_none{end}")

    assert told.status_code == 404
    assert told.json()["error"]["message"] == "No batch found with id 'batch_none'."


# ---- never twice ---------------------------------------------------------------------------------


def test_a_create_that_an_sdk_repeats_is_the_same_batch(office: Office) -> None:
    file = office.upload(jsonl(line(0)))["id"]
    first = office.create(file).json()["id"]

    again = office.create(file, headers={"x-stainless-retry-count": "1"}).json()["id"]
    other = office.create(file, headers={"x-stainless-retry-count": "0"}).json()["id"]
    changed = office.create(file, metadata={"n": "2"}, headers={"x-stainless-retry-count": "1"})

    assert again == first
    assert len({first, other, changed.json()["id"]}) == 3


def test_a_create_whose_reply_was_lost_is_found_again(office: Office) -> None:
    file = office.upload(jsonl(line(0)))["id"]
    first = office.create(file).json()["id"]
    # As a kill between the commit and the reply leaves it.
    with office.desk.registry.transaction():
        office.desk.registry._db.execute("UPDATE batches SET told = 0")

    assert office.create(file).json()["id"] == first
    assert office.create(file).json()["id"] != first


def test_two_batches_stay_two_when_the_clock_is_put_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = office.upload(jsonl(line(0)))["id"]
    first = office.create(file).json()

    before = time.time() - 3600
    monkeypatch.setattr("batch.api.batches.time.time", lambda: before)

    assert office.create(file).json()["id"] != first["id"]


def test_an_idempotency_key_names_one_batch(office: Office) -> None:
    file = office.upload(jsonl(line(0)))["id"]
    named = {"Idempotency-Key": "night-7"}
    first = office.create(file, headers=named).json()["id"]

    assert office.create(file, headers=named).json()["id"] == first
    told = office.create(file, metadata={"other": "1"}, headers=named)
    assert (told.status_code, told.headers["x-should-retry"]) == (409, "false")
    assert office.create(file, headers={"Idempotency-Key": "x" * 256}).status_code == 400


def test_an_intake_that_died_with_the_job_made_does_not_make_it_again(office: Office) -> None:
    batch = office.batch(line(0))
    with office.desk.registry.transaction():
        office.desk.registry._db.execute("UPDATE batches SET state = 'validating'")

    office.intake.turn()

    assert office.get(batch["id"])["status"] == "in_progress"
    assert len(office.home.job_ids()) == 1


def test_a_file_that_kills_the_intake_fails_its_batch_in_the_end(office: Office) -> None:
    made = office.create(office.upload(jsonl(line(0)))["id"]).json()
    for _ in range(3):
        office.desk.registry.tried(made["id"])

    office.intake.turn()

    assert office.get(made["id"])["status"] == "failed"


def test_an_endpoint_that_is_away_delays_a_batch_and_fails_none(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ServiceUnavailable(Message("nobody there"))

    made = office.create(
        office.upload(jsonl(line(0)))["id"], metadata={"nightshift_budget_rub": "5"}
    ).json()
    monkeypatch.setattr("batch.api.job_creation._AGAIN_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(pricing, "read_prices", away)
        for _ in range(5):
            office.intake.turn()
        assert office.get(made["id"])["status"] == "validating"

    office.intake.turn()
    assert office.get(made["id"])["status"] == "in_progress"


def test_a_job_that_somebody_goes_on_with_is_a_running_batch_again(office: Office) -> None:
    batch = office.batch(line(0), line(1))
    office.work(batch["id"], some=1)
    office.end(batch["id"], JobState.CANCELLING, JobState.CANCELLED)
    ended = office.get(batch["id"])
    with closing(office.store(batch["id"])) as store:
        store.set_state(JobState.IN_PROGRESS)
    going = office.get(batch["id"])
    office.work(batch["id"])
    office.end(batch["id"])
    done = office.get(batch["id"])

    assert (ended["status"], going["status"], done["status"]) == (
        "cancelled",
        "in_progress",
        "completed",
    )
    assert done["output_file_id"] == ended["output_file_id"]
    assert len(office.lines(done["output_file_id"])) == 2


def test_a_job_that_rests_is_a_batch_in_progress_and_says_why(office: Office) -> None:
    batch = office.batch(line(0))
    with closing(office.store(batch["id"])) as store:
        store.set_state(JobState.PAUSED, reason=PauseReason.KEY_REJECTED)
    told = office.get(batch["id"])

    assert told["status"] == "in_progress"
    assert told["nightshift"]["paused_by"] == "key_rejected"


def test_a_registry_outlives_its_server(office: Office) -> None:
    batch = office.batch(line(0))

    assert Registry(office.home.folder).batch(batch["id"]) is not None
    assert office.ask("GET", f"/openai{CHAT.removesuffix('/chat/completions')}/batches").json()[
        "data"
    ]


# ---- beyond OpenAI's API -------------------------------------------------------------------------


def test_what_failed_is_retried_in_the_same_batch(office: Office) -> None:
    batch = office.batch(line(0), line(1))
    office.work(batch["id"], failing={1: "http.400"})
    early = office.ask("POST", f"/v1/batches/{batch['id']}/retry")
    office.end(batch["id"])
    before = office.get(batch["id"])

    told = office.ask("POST", f"/v1/batches/{batch['id']}/retry").json()
    office.work(batch["id"])
    office.end(batch["id"])
    done = office.get(batch["id"])

    assert early.status_code == 409
    assert (told["status"], told["output_file_id"]) == ("in_progress", None)
    assert told["expires_at"] >= before["expires_at"]
    assert done["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert done["output_file_id"] == before["output_file_id"]
    assert done["error_file_id"] is None
    assert office.ask("POST", f"/v1/batches/{batch['id']}/retry").status_code == 409


def test_a_deleted_batch_takes_its_job_and_results_along(office: Office) -> None:
    batch = office.batch(line(0))
    early = office.ask("DELETE", f"/v1/batches/{batch['id']}")
    office.work(batch["id"])
    office.end(batch["id"])
    done = office.get(batch["id"])

    told = office.ask("DELETE", f"/v1/batches/{batch['id']}").json()

    assert early.status_code == 409
    assert told == {"id": batch["id"], "object": "batch", "deleted": True}
    for path in (f"/v1/batches/{batch['id']}", f"/v1/files/{done['output_file_id']}"):
        assert office.ask("GET", path).status_code == 404
    assert office.home.job_ids() == []
    assert list(office.desk.batches_folder.iterdir()) == []
    # A list in which it was the last one goes on.
    after = office.ask("GET", "/v1/batches", params={"after": batch["id"]})
    assert (after.status_code, after.json()["data"]) == (200, [])


def test_a_batch_whose_job_was_removed_is_told_as_it_was(office: Office) -> None:
    batch = office.batch(line(0))
    office.work(batch["id"])
    office.end(batch["id"])
    done = office.get(batch["id"])

    remove(office.home, office.home.job_ids()[0])

    assert office.get(batch["id"]) == done
    assert office.content(done["output_file_id"])


def test_lists_can_be_of_one_status(office: Office) -> None:
    failed = office.batch(without("url"))
    running = [office.batch(line(0), metadata={"n": str(n)})["id"] for n in range(3)]

    first = office.ask("GET", "/v1/batches", params={"status": "in_progress", "limit": 2}).json()
    rest = {"status": "in_progress", "after": first["last_id"]}
    last = office.ask("GET", "/v1/batches", params=rest).json()

    assert [each["id"] for each in first["data"] + last["data"]] == running[::-1]
    assert (first["has_more"], last["has_more"]) == (True, False)
    found = office.ask("GET", "/v1/batches", params={"status": "failed"}).json()["data"]
    assert [each["id"] for each in found] == [failed["id"]]
    assert office.ask("GET", "/v1/batches", params={"status": "new"}).status_code == 400


def test_answers_are_told_as_they_come(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = office.batch(*map(line, range(5)))

    def ask(query: str = "") -> tuple[list[str], str, str]:
        told = office.ask("GET", f"/v1/batches/{batch['id']}/output{query}")
        names = [json.loads(each)["custom_id"] for each in told.content.splitlines()]
        return names, told.headers["x-last-line"], told.headers["x-incomplete"]

    assert ask() == ([], "0", "true")
    office.work(batch["id"], some=3, failing={1: "http.400"})
    assert ask() == (["r-0", "r-2"], "2", "true")
    assert ask("?offset=1&limit=1") == (["r-2"], "2", "true")
    office.work(batch["id"], some=2)
    assert ask("?offset=2") == (["r-3", "r-4"], "4", "true")
    office.end(batch["id"])
    assert ask("?offset=4") == ([], "4", "false")
    whole = office.ask("GET", f"/v1/batches/{batch['id']}/output").content
    assert sorted(whole.splitlines()) == sorted(
        office.content(office.get(batch["id"])["output_file_id"]).splitlines()
    )
    assert ask("?limit=4")[1:] == ("4", "false")
    # The output file is given in the same way, from any of its lines on.
    file = f"/v1/files/{office.get(batch['id'])['output_file_id']}/content"
    lines = office.ask("GET", file).content.splitlines(keepends=True)
    for query, some, headers in (
        ("?offset=1", lines[1:], ("4", "false")),
        ("?offset=1&limit=2", lines[1:3], ("3", "true")),
        ("?limit=4", lines, ("4", "false")),
        ("?offset=9", [], ("4", "false")),
    ):
        told = office.ask("GET", file + query)
        assert (told.status_code, told.content) == (200, b"".join(some))
        assert (told.headers["x-last-line"], told.headers["x-incomplete"]) == headers
    # Long ones come in more pieces.
    monkeypatch.setattr("batch.reports.MOST_AT_ONCE", 1)
    assert ask() == (["r-0"], "1", "true")
    assert ask("?offset=3") == (["r-4"], "4", "false")
    for query in ("?offset=-1", "?limit=0", "?offset=x"):
        assert office.ask("GET", f"/v1/batches/{batch['id']}/output{query}").status_code == 400
    assert office.ask("GET", "/v1/batches/batch_none/output").status_code == 404


def test_a_batch_that_is_still_checked_has_no_output_yet(office: Office) -> None:
    wish = {"nightshift_budget_rub": "5"}
    batch = office.create(office.upload(jsonl(line(0)))["id"], metadata=wish).json()

    told = office.ask("GET", f"/v1/batches/{batch['id']}/output")
    office.intake.turn()

    assert (told.status_code, told.content, told.headers["x-incomplete"]) == (200, b"", "true")
    own = batch["nightshift"]
    assert (own["state"], own["budget_rub"]) == ("validating", "5")
    assert own.keys() == office.get(batch["id"])["nightshift"].keys()
