"""Batches when something comes between: a kill, a full disk, an operator, two at a time."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch import job_control
from batch.api import webhooks
from batch.api.housekeeping import Closing
from batch.api.webhooks import Hooks
from batch.notifications.http_post import Undelivered
from batch.removal import check_over, remove
from batch.serve_processes import Child, Team
from batch.store.home import Home
from batch.store.registry import Registry
from jobs.errors import ServiceUnavailable, StorageUnavailable, UsageError
from jobs.job_commands import Change, Resume
from jobs.message import Message
from jobs.names import REGISTRY
from jobs.states import JobState
from tests.batch.api.conftest import Office, jsonl, line
from tests.batch.making import MODEL


def broken(*_: Any, **__: Any) -> Any:
    raise StorageUnavailable(Message("no room"))


def state(office: Office, batch_id: str) -> JobState:
    with closing(office.store(batch_id)) as store:
        return store.job().state


def finished(office: Office, *, failing: dict[int, str] | None = None) -> Any:
    """A batch of two lines that is over."""
    batch = office.batch(line(0), line(1))
    office.work(batch["id"], failing=failing)
    office.end(batch["id"])
    return office.get(batch["id"])


# ---- cancels -------------------------------------------------------------------------------------


def test_a_cancel_that_failed_half_way_is_carried_out_when_repeated(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = office.batch(line(0))
    with monkeypatch.context() as patch:
        patch.setattr(job_control, "command", broken)
        first = office.ask("POST", f"/v1/batches/{batch['id']}/cancel")

    told = office.ask("POST", f"/v1/batches/{batch['id']}/cancel")

    assert (first.status_code, told.status_code) == (503, 200)
    assert state(office, batch["id"]) is JobState.CANCELLED


def test_a_cancel_finds_a_job_that_was_made_meanwhile(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = office.create(office.upload(jsonl(line(0)))["id"]).json()
    cancel = office.desk.registry.cancel

    def late(batch_id: str, now: float) -> None:
        office.intake.turn()
        cancel(batch_id, now)

    monkeypatch.setattr(office.desk.registry, "cancel", late)
    office.ask("POST", f"/v1/batches/{made['id']}/cancel")

    assert state(office, made["id"]) is JobState.CANCELLED


def test_an_intake_killed_before_it_tells_of_a_cancel_leaves_it_to_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = office.batch(line(0))
    with office.desk.registry.transaction():
        office.desk.registry._db.execute("UPDATE batches SET state = 'validating'")
    office.desk.registry.cancel(batch["id"], 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(job_control, "command", broken)
        office.intake.turn()
    office.intake._later.clear()

    office.intake.turn()

    assert state(office, batch["id"]) is JobState.CANCELLED


def test_a_cancel_that_never_came_to_the_job_is_repeated_by_itself(office: Office) -> None:
    batch = office.batch(line(0))
    office.desk.registry.cancel(batch["id"], 1.0)

    office.desk.look()

    assert state(office, batch["id"]) is JobState.CANCELLED


def test_a_cancel_that_an_operator_took_back_is_not_repeated(office: Office) -> None:
    batch = office.batch(line(0))
    coordinator = office.home.lock()
    office.ask("POST", f"/v1/batches/{batch['id']}/cancel")
    job_control.command(office.home, batch["nightshift"]["job"], Resume())
    coordinator.release()

    office.desk.look()

    found = office.get(batch["id"])
    assert (found["status"], found["cancelling_at"]) == ("in_progress", None)


def test_a_cancelled_batch_that_an_operator_resumes_is_in_progress_until_its_deadline(
    office: Office,
) -> None:
    batch = office.batch(line(0))
    office.ask("POST", f"/v1/batches/{batch['id']}/cancel")
    assert office.get(batch["id"])["status"] == "cancelled"

    later = Change(fields={"deadline": "2099-01-01T00:00:00Z"})
    job_control.command(office.home, batch["nightshift"]["job"], later, Resume(mended=True))

    found = office.get(batch["id"])
    assert (found["status"], found["cancelling_at"]) == ("in_progress", None)
    assert found["expires_at"] == 4_070_908_800


# ---- jobs that are gone --------------------------------------------------------------------------


def test_a_job_whose_end_no_server_saw_is_not_removed(office: Office) -> None:
    batch = office.batch(line(0))
    office.work(batch["id"])
    office.end(batch["id"])
    job = batch["nightshift"]["job"]

    with pytest.raises(UsageError, match="collected") as refused:
        remove(office.home, job)
    office.get(batch["id"])
    with closing(office.home.open(job)) as store:
        check_over(store)

    assert refused.value.hint == "nightshift serve"


def test_a_batch_whose_job_is_gone_is_failed_and_disturbs_no_other(office: Office) -> None:
    batch, other = office.batch(line(0)), office.batch(line(1), metadata={"n": "2"})
    office.work(other["id"])
    office.end(other["id"])
    (office.home.jobs_folder / batch["nightshift"]["job"]).rename(office.home.folder / "away")

    office.desk.look()

    found = office.get(batch["id"])
    assert (found["status"], found["errors"]["data"][0]["code"]) == ("failed", "job_removed")
    assert {each.row.id for each in office.ended} == {batch["id"], other["id"]}
    for method, end, status in (("POST", "/retry", 409), ("POST", "/cancel", 409)):
        assert office.ask(method, f"/v1/batches/{batch['id']}{end}").status_code == status
    assert office.ask("GET", "/v1/batches").status_code == 200
    assert office.ask("DELETE", f"/v1/batches/{batch['id']}").status_code == 200


def test_a_batch_that_cannot_be_read_keeps_no_other_waiting(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, other = office.batch(line(0)), finished(office)
    office.desk.registry.reopen(other["id"])
    read = office.desk.standings._read

    def partly(job: str, touched: float) -> Any:
        return broken() if job == batch["nightshift"]["job"] else read(job, touched)

    monkeypatch.setattr(office.desk.standings, "_read", partly)
    office.desk.standings._known.clear()
    office.desk.look()

    assert [each.row.id for each in office.ended] == [other["id"]] * 2


def test_files_expire_whatever_becomes_of_batches(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = threading.Event()
    monkeypatch.setattr("batch.api.housekeeping._LOOK_S", 0.01)
    monkeypatch.setattr(office.desk, "look", broken)
    monkeypatch.setattr(office.desk, "sweep", lambda _now: swept.set())

    with closing(Closing(office.desk)):
        assert swept.wait(10)


def test_a_batch_whose_job_was_removed_is_not_retried(office: Office) -> None:
    done = finished(office, failing={1: "http.400"})
    remove(office.home, done["nightshift"]["job"])

    assert office.ask("POST", f"/v1/batches/{done['id']}/retry").status_code == 409


# ---- webhooks ------------------------------------------------------------------------------------


def test_the_second_end_of_a_batch_is_told_like_the_first(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(webhooks, "send_standard", lambda *told: sent.append(told[1]["type"]))
    office.add_key("mine", webhook="https://hooks.example/")
    teller = Hooks(office.desk.batches_folder, office.desk.registry)
    monkeypatch.setattr(office.desk, "_tell", teller.tell)
    monkeypatch.setattr(office.desk, "_untell", teller.untell)
    done = finished(office, failing={1: "http.400"})

    office.ask("POST", f"/v1/batches/{done['id']}/retry")
    office.work(done["id"], some=1)
    office.end(done["id"])
    office.desk.look()
    teller.close()

    assert sent == ["batch.completed"] * 2


def test_a_batch_is_not_deleted_before_its_end_is_told(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Undelivered("nobody there")

    monkeypatch.setattr(webhooks, "send_standard", away)
    office.add_key("mine", webhook="https://hooks.example/")
    teller = Hooks(office.desk.batches_folder, office.desk.registry)
    monkeypatch.setattr(office.desk, "_tell", teller.tell)
    done = finished(office)
    teller.close()

    told = office.ask("DELETE", f"/v1/batches/{done['id']}")

    assert told.status_code == 409
    assert "webhook" in told.json()["error"]["message"]
    assert office.get(done["id"]) == done


# ---- full disks ----------------------------------------------------------------------------------


def test_an_intake_outlives_a_disk_without_room(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = office.create(office.upload(jsonl(line(0)))["id"]).json()
    monkeypatch.setattr("batch.api.job_creation._AGAIN_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tried", broken)
        office.intake.turn()

    office.intake.turn()

    assert office.get(made["id"])["status"] == "in_progress"


def test_an_input_that_nobody_thought_of_ends_no_others_intake(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise AttributeError

    made = office.create(office.upload(jsonl(line(0)))["id"]).json()
    monkeypatch.setattr("batch.api.job_creation._AGAIN_S", 0.0)
    monkeypatch.setattr("batch.api.job_creation.submit", crash)
    for _ in range(4):
        office.intake.turn()

    assert office.get(made["id"])["status"] == "failed"


def test_a_line_of_no_shape_is_told_by_its_number(office: Office) -> None:
    url = "/v1/responses"
    spec = {**office.intake.setting.spec, "responses_by": "chat"}
    office.intake.setting = msgspec.structs.replace(office.intake.setting, spec=spec)
    bad = line(0, url=url, body={"model": MODEL, "input": "x", "reasoning": "high"})
    failed = office.batch(bad, endpoint=url)

    (told,) = failed["errors"]["data"]
    assert (failed["status"], told["line"]) == ("failed", 1)
    assert "reasoning" in told["message"]


def test_a_disk_without_room_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    met = [
        OSError(28, "no room"),
        StorageUnavailable(Message("no room")),
        ServiceUnavailable(Message("it exits")),
    ]
    monkeypatch.setattr("batch.serve_processes._LOOK_S", 0.0)
    team = Team.__new__(Team)
    ended: list[int] = []
    team._over, team.failure = threading.Event(), None
    team._intake = Child("intake", [], {})
    team._failed = lambda: ended.append(len(met))

    def tend() -> None:
        raise met.pop(0)

    monkeypatch.setattr(team, "_tend", tend)
    team._run()

    assert ended == [0]
    assert isinstance(team.failure, ServiceUnavailable)


# ---- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"input_file_id": "\\ud800"}',
        b'{"input_file_id": "f", "metadata": {"a": "\\udfff"}}',
        b'{"input_file_id": "f", "metadata": {"\\ud800": "a"}}',
    ],
)
def test_half_a_surrogate_pair_is_no_text(office: Office, body: bytes) -> None:
    whole = body[:-1] + b', "endpoint": "/v1/chat/completions", "completion_window": "24h"}'

    assert office.ask("POST", "/v1/batches", content=whole).status_code == 400


@pytest.mark.parametrize("limit", ["--5", "-", "", "٣", "9" * 30])
def test_a_limit_is_a_number(office: Office, limit: str) -> None:
    assert office.ask("GET", "/v1/batches", params={"limit": limit}).status_code == 400


def test_of_two_that_delete_a_batch_one_does(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = finished(office)
    answers: list[int] = []

    def second(home: Home, job: str) -> None:
        monkeypatch.setattr("batch.api.batches.remove", remove)
        answers.append(office.ask("DELETE", f"/v1/batches/{done['id']}").status_code)
        remove(home, job)

    monkeypatch.setattr("batch.api.batches.remove", second)
    answers.append(office.ask("DELETE", f"/v1/batches/{done['id']}").status_code)

    assert answers == [200, 404]


def test_a_registry_of_an_older_nightshift_gets_what_is_new(tmp_path: Path) -> None:
    Registry(tmp_path).close_here()
    with closing(sqlite3.connect(tmp_path / REGISTRY)) as db:
        for name in ("files_expiring", "files_with_results"):
            db.execute(f"DROP INDEX {name}")
        db.execute("DROP TRIGGER files_gone")
        db.execute("DROP TRIGGER batches_gone")
        db.execute("DROP TABLE gone")

    registry = Registry(tmp_path)
    assert registry.place("files", "", "file-1") is None
    registry.close_here()

    with closing(sqlite3.connect(tmp_path / REGISTRY)) as db:
        queries = (
            "SELECT * FROM files WHERE expires_at <= 1",
            "DELETE FROM files WHERE batch = 'b'",
        )
        plans = [db.execute(f"EXPLAIN QUERY PLAN {each}").fetchone()[3] for each in queries]
    assert "files_expiring" in plans[0]
    assert "files_with_results" in plans[1]
