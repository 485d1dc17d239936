"""Keys of the server: whose is what, what each may spend and ask."""

from __future__ import annotations

import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from batch.api.api_errors import ApiError
from batch.api.tenants import Limiter
from batch.coordinator.metrics import Metrics
from batch.money.caps import Caps, KeyCaps, read_caps, write_caps
from batch.money.spend_tracker import Allowance
from jobs.pause_reasons import PauseReason
from jobs.period import Period
from jobs.states import JobState
from tests.batch.api.conftest import Office, jsonl, line
from tests.conftest import Workdir

ROUTES = [
    ("GET", "/v1/files/{file}"),
    ("GET", "/v1/files/{file}/content"),
    ("GET", "/v1/files/{output}"),
    ("GET", "/v1/files/{output}/content"),
    ("GET", "/v1/files?after={file}"),
    ("GET", "/v1/batches/{batch}"),
    ("GET", "/v1/batches/{batch}/output"),
    ("GET", "/v1/batches?after={batch}"),
    ("POST", "/v1/batches/{batch}/cancel"),
    ("POST", "/v1/batches/{batch}/retry"),
    ("DELETE", "/v1/batches/{batch}"),
    ("DELETE", "/v1/files/{file}"),
    ("DELETE", "/v1/files/{output}"),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_nobody_sees_or_touches_what_is_anothers(office: Office, method: str, route: str) -> None:
    mine = office.add_key("mine")
    batch = office.batch(line(0))
    office.work(batch["id"])
    office.end(batch["id"])
    done = office.get(batch["id"])
    names = {"file": done["input_file_id"], "output": done["output_file_id"], "batch": done["id"]}
    office.add_key("other")

    told = office.ask(method, route.format(**names))
    absent = office.ask(method, route.format(**dict.fromkeys(names, "file-none")))

    assert told.status_code in (400, 404)
    assert told.status_code == absent.status_code
    assert [told.json()["error"][each] for each in ("type", "param", "code")] == [
        absent.json()["error"][each] for each in ("type", "param", "code")
    ]
    office.key = mine
    assert office.get(batch["id"]) == done
    assert office.content(done["output_file_id"])


def test_lists_and_new_batches_know_only_what_is_ones_own(office: Office) -> None:
    office.add_key("mine")
    batch = office.batch(line(0))
    office.add_key("other")

    for route in ("/v1/files", "/v1/batches"):
        assert office.ask("GET", route).json()["data"] == []
    made = office.create(batch["input_file_id"]).json()
    office.intake.turn()
    (told,) = office.get(made["id"])["errors"]["data"]
    assert (told["code"], told["param"]) == ("invalid_request", "file_id")


def test_one_keys_idempotency_key_is_not_anothers(office: Office) -> None:
    ids = []
    for name in ("one", "two"):
        office.add_key(name)
        ids.append(office.create("file-x", headers={"Idempotency-Key": "7"}).json()["id"])

    assert len({*ids}) == 2


@pytest.mark.parametrize(
    ("header", "code"),
    [("", None), ("Basic x", None), ("Bearer ", None), ("Bearer sk-wrong", "invalid_api_key")],
)
def test_who_has_no_key_gets_nothing(office: Office, header: str, code: str | None) -> None:
    office.add_key("mine")
    for method, path in [
        ("GET", "/v1/files"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/models"),
        ("GET", "/none"),
    ]:
        told = office.client.request(method, path, headers={"Authorization": header})
        assert (told.status_code, told.json()["error"]["code"]) == (401, code)


def test_a_revoked_key_opens_nothing_not_even_when_it_was_the_last(office: Office) -> None:
    office.add_key("mine")
    assert office.ask("GET", "/v1/files").status_code == 200

    office.desk.registry.revoke("mine", 2.0)

    assert office.ask("GET", "/v1/files").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", ""])
def test_without_keys_no_page_of_a_stranger_is_served(office: Office, host: str) -> None:
    assert office.ask("GET", "/v1/files", headers={"Host": host}).status_code == 403
    assert office.client.get("/v1/files").status_code == 401
    assert office.client.get("/health").json() == {"status": "ok"}


def test_without_keys_other_addresses_are_not_served(tmp_path: Path) -> None:
    assert Office(tmp_path, keyless=False).ask("GET", "/v1/files").status_code == 401


def test_a_key_may_not_take_more_of_the_pace_than_it_has(office: Office) -> None:
    office.add_key("low", priority=1.0)
    batch = office.batch(line(0))
    told = office.create(batch["input_file_id"], metadata={"nightshift_priority": "high"})

    with closing(office.store(batch["id"])) as store:
        assert store.job().spec.priority == 1.0
    assert told.status_code == 400


def test_a_key_may_have_no_host_called_but_its_own(office: Office) -> None:
    office.add_key("mine", webhook="https://hooks.example/mine")

    for url, status in (("https://hooks.example/b", 200), ("https://10.0.0.1/", 400)):
        told = office.create("file-x", metadata={"nightshift_webhook": url})
        assert told.status_code == status


def cap(office: Office, **rub: str) -> None:
    keys = {name: KeyCaps(Decimal(amount)) for name, amount in rub.items()}
    write_caps(office.home.folder, Caps(keys=keys))


def spent(office: Office, batch_id: str) -> None:
    """Two calls of half a rouble, today."""
    now = time.time()
    with closing(office.store(batch_id)) as store, store.transaction() as db:
        db.execute("INSERT INTO spending VALUES (?, ?)", (int(now) // 900, "1"))


def test_a_keys_cap_counts_what_it_spent_and_nothing_else(office: Office) -> None:
    office.add_key("other")
    other = office.batch(line(0), line(1))
    spent(office, other["id"])
    office.add_key("mine")
    cap(office, mine="10", other="1")
    batch = office.batch(line(0))
    allowance = Allowance(office.home)

    with closing(office.store(batch["id"])) as store:
        room = allowance.room(store.job().id, store)
    with closing(office.store(other["id"])) as store:
        others = allowance.room(store.job().id, store)

    assert room is not None
    assert others is not None
    assert (room.rub, room.key) == (Decimal(10), "mine")
    assert (others.rub, others.key) == (Decimal(0), "other")
    assert allowance.used_by_keys()["other"][Period.DAY][0] == Decimal(1)


def test_a_batch_of_a_key_whose_cap_is_used_up_fails_as_clients_know_it(office: Office) -> None:
    office.add_key("mine")
    first = office.batch(line(0))
    spent(office, first["id"])
    cap(office, mine="1")

    failed = office.batch(line(0))

    assert failed["status"] == "failed"
    (told,) = failed["errors"]["data"]
    assert (told["code"], told["line"], told["param"]) == ("token_limit_exceeded", None, None)


@pytest.mark.parametrize(("tenant", "codes"), [("mine", ["token_limit_exceeded"]), ("other", [])])
def test_a_cap_of_which_too_little_is_left_is_used_up(
    office: Office, tenant: str, codes: list[str]
) -> None:
    keys = {name: office.add_key(name) for name in ("other", "mine")}
    first = office.batch(line(0))
    cap(office, mine="100", other="100")
    with closing(office.store(first["id"])) as store:
        store.set_state(JobState.PAUSED, reason=PauseReason.CAP_REACHED, goes_on_at=9e9)
    office.key = keys[tenant]

    errors = office.batch(line(0), metadata={"n": "2"})["errors"] or {"data": []}
    assert [each["code"] for each in errors["data"]] == codes


def test_who_asks_too_often_waits() -> None:
    now = [0.0]
    limiter = Limiter(60, lambda: now[0])
    for _ in range(60):
        limiter.take("a")

    with pytest.raises(ApiError) as refused:
        limiter.take("a")
    limiter.take("b")
    now[0] = 1.0
    limiter.take("a")

    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "1"})


# ---- nightshift keys -----------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked(workdir: Workdir) -> None:
    made = workdir.run("keys", "add", "night", "--budget-rub-per-day", "500", "--priority", "low")
    again = workdir.run("keys", "add", "night")
    listed = workdir.run("keys", "list")
    revoked = workdir.run("keys", "revoke", "night")
    gone = workdir.run("keys", "revoke", "night")
    key = made.stdout.strip()

    assert made.returncode == 0, made.stderr
    assert len(key) > 40
    assert again.returncode == 2
    assert "nightshift keys revoke night" in again.stderr
    assert "night" in listed.stdout
    assert "500.00 ₽" in listed.stdout
    assert key not in listed.stdout
    assert (revoked.returncode, gone.returncode) == (0, 2)
    home = Path(workdir.environ["NIGHTSHIFT_HOME"])
    assert read_caps(home).keys["night"].rub_per_day == 500
    assert all(key.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_caps_of_all_jobs_and_of_keys_do_not_touch_each_other(workdir: Workdir) -> None:
    workdir.run("keys", "add", "night", "--budget-rub-per-day", "5")
    workdir.run("budget", "--budget-rub-per-day", "7")
    workdir.run("budget", "--no-caps")

    caps = read_caps(Path(workdir.environ["NIGHTSHIFT_HOME"]))
    assert (caps.rub_per_day, caps.keys["night"].rub_per_day) == (None, Decimal(5))


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65])
def test_a_key_needs_a_plain_name(workdir: Workdir, name: str) -> None:
    assert workdir.run("keys", "add", name).returncode == 2


def test_the_input_of_a_batch_is_kept_apart_from_its_file(office: Office) -> None:
    office.add_key("mine")
    file = office.upload(jsonl(line(0)))["id"]
    batch = office.create(file).json()
    office.intake.turn()
    office.ask("DELETE", f"/v1/files/{file}")

    assert office.get(batch["id"])["status"] == "in_progress"


def test_prometheus_is_told_what_each_key_spent(office: Office) -> None:
    for name, requests in (("one", 1), ("two", 3)):
        office.add_key(name)
        batch = office.batch(*map(line, range(requests)))
        office.work(batch["id"])
    metrics = Metrics(Allowance(office.home, lambda: 1002.0).used_by_keys)

    (told,) = [each for each in metrics.collect() if each.name == "nightshift_key_spent_roubles"]

    assert {(at.labels["key"], at.labels["period"]): at.value for at in told.samples} == {
        ("one", "day"): 0.5,
        ("one", "month"): 0.5,
        ("two", "day"): 1.5,
        ("two", "month"): 1.5,
    }
