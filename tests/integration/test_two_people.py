"""Two people with a key each, and one Redis: nobody's requests are sent with another's key, nor
with another's headers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.simulator import Simulator
from scripts.simulator.book import Book
from tests.acceptance.conftest import MODEL, batch_lines
from tests.acceptance.foreign import Answer, Asked, completion, foreign
from tests.conftest import Server, Workdir

ROWS = 30
ANNA, BORIS = "canary-key-anna", "canary-key-boris"
PATIENCE_S = 90.0


class Person(Workdir):
    """A home and a key of one's own."""

    def __init__(self, folder: Path, key: str, endpoint: Simulator, server: Server) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.key(key)
        self.point_at(endpoint, server)

    def key(self, key: str) -> None:
        """From now on this one."""
        self.environ["ROUTERAI_API_KEY"] = key

    def serve(self) -> None:
        """Services that take jobs."""
        self.start("coordinator")
        self.start("worker")

    def submit(self, first: int) -> str:
        """A job of its own rows; its id."""
        self.write("in.jsonl", batch_lines(ROWS, first=first))
        done = self.run("submit", "in.jsonl", "-o", f"out-{first}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait(self, job: str) -> None:
        """Until it is complete."""
        until(lambda: self.told(job)["state"] == "completed")

    def told(self, job: str) -> dict[str, object]:
        """What `status` says to programs."""
        found: dict[str, object] = json.loads(self.run("status", job, "--json").stdout)
        return found

    def says(self, *command: str) -> str:
        """What a command says to people."""
        done = self.run(*command)
        return done.stdout + done.stderr


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "that did not come about"
        time.sleep(0.2)


def by(key: str, book: Book) -> list[str]:
    """The bodies that were sent with a key."""
    name = hashlib.sha256(key.encode()).hexdigest()
    return [call.body_hash or "" for call in book.chats() if call.key_hash == name]


@pytest.fixture
def endpoint(simulator: Callable[..., Simulator]) -> Simulator:
    return simulator("--latency", "uniform:0.01:0.05")


@pytest.fixture
def people(tmp_path: Path, endpoint: Simulator, server: Server) -> Iterator[tuple[Person, Person]]:
    both = (
        Person(tmp_path / "anna", ANNA, endpoint, server),
        Person(tmp_path / "boris", BORIS, endpoint, server),
    )
    yield both
    for person in both:
        person.end()


def test_two_people_on_one_redis_each_call_with_their_own_key(
    people: tuple[Person, Person], endpoint: Simulator
) -> None:
    anna, boris = people
    for person in people:
        person.serve()

    jobs = [(anna, anna.submit(0)), (boris, boris.submit(100)), (anna, anna.submit(200))]
    for person, job in jobs:
        person.wait(job)

    mine, theirs = by(ANNA, endpoint.book()), by(BORIS, endpoint.book())
    assert (len(mine), len(theirs)) == (2 * ROWS, ROWS)
    assert not set(mine) & set(theirs)


def test_a_job_waits_for_its_key_says_so_and_goes_on_with_a_new_one(
    people: tuple[Person, Person], endpoint: Simulator
) -> None:
    """A home of one person, whose key was changed after the worker was started."""
    anna, _ = people
    anna.serve()
    anna.key(BORIS)
    job = anna.submit(0)
    until(lambda: "no worker has this job's API key" in anna.says("status", job))

    assert "no worker has this job's API key" in anna.says("doctor")
    assert len(endpoint.book().chats()) == 0

    anna.key(ANNA)
    assert "the job keeps running" in anna.says("resume", job, "--yes")
    anna.wait(job)
    assert len(by(ANNA, endpoint.book())) == ROWS
    assert by(BORIS, endpoint.book()) == []


def test_a_job_that_was_submitted_where_no_key_is_takes_the_only_one_there_is(
    people: tuple[Person, Person], endpoint: Simulator
) -> None:
    """As in compose: only workers have the key. Another home's worker is not asked."""
    anna, boris = people
    boris.serve()
    anna.serve()
    anna.key("")

    anna.wait(anna.submit(0))

    assert len(by(ANNA, endpoint.book())) == ROWS
    assert by(BORIS, endpoint.book()) == []


def locked(asked: Asked) -> Answer:
    """Shows its catalogue to who has a key alone."""
    if asked.path == "/v1/models":
        known = asked.headers.get("authorization", "Bearer sk-nightshift").find("sk-nightshift") < 0
        return (200, {"data": [{"id": MODEL}]}) if known else (401, {"error": "no key"})
    return (200, completion()) if asked.method == "POST" else (404, {})


def test_a_worker_takes_no_chunk_that_is_meant_for_other_headers(
    people: tuple[Person, Person],
) -> None:
    """One key, one home, one Redis. The coordinator has neither key nor headers."""
    anna, _ = people
    with foreign(locked) as endpoint:
        anna.environ["NIGHTSHIFT_BASE_URL"] = f"{endpoint.root}/v1"
        anna.environ["NIGHTSHIFT_HEADER"] = "X-Org=env:ORG"
        anna.environ["ORG"] = "canary-org-1"
        anna.serve()
        anna.environ["ORG"] = "canary-org-2"
        mine, other = anna.submit(0), "no worker sends this job's headers (x-org)"
        until(lambda: other in anna.says("status", mine))
        doctor = anna.says("doctor")
        assert endpoint.chats() == []

        anna.start("worker")
        anna.wait(mine)
        assert {call.headers["x-org"] for call in endpoint.chats()} == {"canary-org-2"}

    assert other in doctor
    assert "the catalogue needs a key, which the running coordinator does not have" in doctor
    kept = b"".join(path.read_bytes() for path in anna.folder.rglob("*") if path.is_file())
    assert b"canary-org" not in kept
