"""Each fault of the endpoint in a whole run: a job through all services, and the books afterwards.

How a single answer is judged stands in tests/workers (test_classifier, test_endpoint); endpoints
that go away, refuse the key or have no money in tests/integration/test_faults_run.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from scripts.auditor import Audit
from scripts.simulator import Simulator
from scripts.simulator.book import BookEntry
from scripts.torturing import fault_pairs, journal_delay
from scripts.torturing.installation import Installation
from tests.acceptance.conftest import Shell, batch_lines, read_lines
from tests.conftest import Workdir

ROWS = 12
MIB = 2**20
_numbers = count(1)


@dataclass
class Run:
    """A job that is over: its audit, the calls made for it, the ledger, and its lines."""

    found: Audit
    calls: list[BookEntry]
    ledger: list[tuple[Any, ...]]
    answers: list[dict[str, Any]]
    errors: list[dict[str, Any]]

    @property
    def spoiled(self) -> BookEntry:
        """The only call that went wrong."""
        (one,) = (call for call in self.calls if call.fault)
        return one

    @property
    def sources(self) -> dict[str, str]:
        """Of each call in the ledger with a generation id, where its cost comes from."""
        return {generation: source for _, generation, _, source in self.ledger if generation}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All services, for one job after another."""
    with Installation(
        tmp_path_factory.mktemp("endpoint"), workers=1, endpoint=("--latency", "uniform:0.05:0.2")
    ) as one:
        yield one


@pytest.fixture
def run(house: Installation) -> Callable[..., Run]:
    """Runs a job against an endpoint with these faults; `again`: calls that may be paid twice."""

    def go(*rules: str, again: int = 0, rows: int = ROWS, options: tuple[str, ...] = ()) -> Run:
        name = f"job{next(_numbers)}"
        house.simulator.control("faults", list(rules))
        before = len(house.simulator.book())
        job = house.submit(name, rows, *options)
        house.wait(name)
        found = house.audit(name, job, again)
        asked = "SELECT ordinal, generation_id, code, source FROM calls"
        output = house.output(name)
        run = Run(
            found,
            [call for call in house.simulator.book()[before:] if call.is_chat],
            house.at_home(job, asked),
            read_lines(output / "output.jsonl"),
            read_lines(output / "errors.jsonl"),
        )
        assert found.broken == []
        assert found.completed + found.failed == rows
        return run

    return go


def all_completed(one: Run, rows: int = ROWS) -> None:
    assert (one.found.completed, one.found.failed) == (rows, 0)


def seconds(call: BookEntry) -> float:
    """From a call's arrival until its end, as the endpoint saw it."""
    assert call.finished_mono is not None
    return call.finished_mono - call.received_mono


def test_e1_after_a_429_nobody_calls_for_as_long_as_it_says(run: Callable[..., Run]) -> None:
    one = run("429:retry_after=3,times=1,from_call=1", rows=30, options=("--max-in-flight", "3"))
    told = one.spoiled.finished_mono
    assert told is not None
    # What had left before the answer came was in flight.
    later = [call.received_mono - told for call in one.calls if call.received_mono > told + 0.3]

    all_completed(one, 30)
    assert one.found.billed_calls == 30
    assert later
    assert min(later) >= 3


@pytest.mark.parametrize("rule", ["never:times=1", "whitespace:every=0.2,times=1"])
def test_e10_e12_a_call_without_end_is_cut_at_the_deadline_and_sent_once_more(
    rule: str, run: Callable[..., Run]
) -> None:
    one = run(rule, again=1, options=("--timeout", "2"))

    all_completed(one)
    assert one.spoiled.delivery in {"none", "cut"}
    assert seconds(one.spoiled) >= 1.9
    assert len(one.calls) == ROWS + 1
    assert len(one.ledger) == ROWS + 1


def test_e11_headers_and_then_silence_leave_an_id_that_tells_the_cost(
    run: Callable[..., Run],
) -> None:
    one = run("silence:times=1", again=1, options=("--timeout", "2"))

    all_completed(one)
    assert one.sources[one.spoiled.generation_id] == "lookup"
    assert (one.found.uncertain, one.found.bought_twice) == (0, 1)


def test_e13_a_slow_answer_is_an_answer(run: Callable[..., Run]) -> None:
    one = run("slow:seconds=2,times=3")

    all_completed(one)
    assert len(one.calls) == ROWS


def test_e15_a_reset_before_any_byte_is_booked_and_sent_once_more(run: Callable[..., Run]) -> None:
    one = run("reset:bill=true,after=1.5,times=1", again=1)

    all_completed(one)
    assert len(one.calls) == ROWS + 1
    assert one.found.uncertain == 1
    assert one.found.booked_rub > 0


@pytest.mark.parametrize("rule", ["cut:times=1", "reset_body:times=1", "length:off=10,times=1"])
def test_e16_e17_a_body_that_is_cut_is_looked_up_and_sent_once_more(
    rule: str, run: Callable[..., Run]
) -> None:
    one = run(rule, again=1, options=("--timeout", "3"))

    all_completed(one)
    assert one.sources[one.spoiled.generation_id] == "lookup"
    assert (one.found.uncertain, one.found.bought_twice) == (0, 1)


def test_e33_a_model_that_is_not_there_any_more_pauses_the_job_after_a_few_calls(
    house: Installation,
) -> None:
    name = f"job{next(_numbers)}"
    house.simulator.control("faults", ["404:meaning=model"])
    before = len(house.simulator.book().chats())
    job = house.submit(name, 200, "--max-in-flight", "5")
    deadline = time.monotonic() + 60
    while not house.is_paused(job):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tried = len(house.simulator.book().chats()) - before
    house.simulator.control("faults", [])
    house.command("resume", job, "--yes")
    house.wait(name)
    found = house.audit(name, job)

    assert found.broken == []
    assert found.completed + found.failed == 200
    # Five are in flight when the first is doubted; it is believed when it is so 2 s later.
    assert found.failed == 0
    assert 3 <= tried <= 12
    assert found.bought_twice == 0


def test_e36_s13_a_second_response_on_a_connection_is_nobodys_answer(
    run: Callable[..., Run],
) -> None:
    one = run("desync:times=3", again=3)

    all_completed(one)
    # The auditor compared each answer with what was sent for that very request.
    assert len({answer["response"]["body"]["id"] for answer in one.answers}) == ROWS


def test_e37_one_id_for_two_attempts_is_one_cost(run: Callable[..., Run]) -> None:
    one = run("same_id", "cut:times=1", options=("--timeout", "3"))
    first, second = (call for call in one.calls if call.body_hash == _repeated(one))

    all_completed(one)
    assert first.generation_id == second.generation_id
    assert one.found.billed_calls == ROWS


def _repeated(one: Run) -> str:
    """The body that was asked for twice."""
    asked = [call.body_hash for call in one.calls]
    (body,) = {body for body in asked if asked.count(body) > 1}
    return body


@pytest.mark.parametrize("rule", ["huge:bytes=200000000", "bomb:bytes=1000000000"])
def test_e39_s13_a_huge_answer_is_cut_not_asked_for_again_and_takes_little_memory(
    rule: str, house: Installation, run: Callable[..., Run]
) -> None:
    run()
    pid = house.processes["worker-0"].pid
    usual = _most_memory(pid)

    one = run(f"{rule},times=1")

    assert (one.found.completed, one.found.failed) == (ROWS - 1, 1)
    assert len(one.calls) == ROWS
    assert one.errors[0]["nightshift"]["code"].startswith("endpoint.")
    # 64 MB of an answer are read.
    assert _most_memory(pid) - usual < 100 * MIB


def _most_memory(pid: int) -> int:
    """The most that a process ever had in memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("rule", ["big_headers", "http09", "early_hints"])
def test_e42_odd_heads_cost_at_most_one_more_call(rule: str, run: Callable[..., Run]) -> None:
    one = run(f"{rule}:times=1", again=1)

    all_completed(one)
    assert len(one.calls) <= ROWS + 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="NOT RUN: needs openssl")
def test_e43_a_certificate_that_nobody_signed_gets_no_byte_of_a_request(
    workdir: Workdir, simulator: Callable[..., Simulator], tmp_path: Path
) -> None:
    shell, pem, key = Shell(workdir), tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(pem)),
        ],
        check=True,
        capture_output=True,
    )
    endpoint = simulator("--tls-cert", str(pem), "--tls-key", str(key))
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(3))
    try:
        ended = shell("run", "in.jsonl", "-o", "out", "--yes", code=3)
    finally:
        shell.end()

    assert "certificate" in ended.err.lower()
    assert not endpoint.book()


@pytest.mark.timeout(100)
def test_p3_a_worker_killed_between_an_answers_last_byte_and_its_journal_loses_that_answer_alone(
    tmp_path: Path,
) -> None:
    """How short that time is: `scripts/torture window`."""
    result = fault_pairs.run(tmp_path, ["before-answered"], ["none"])

    assert result.unmet == []
    assert result.broken == []
    assert 0 < result.bought_twice <= result.in_flight


def test_p3_the_window_of_every_answer_is_measured(tmp_path: Path) -> None:
    found = journal_delay.run(tmp_path, 30)

    assert len(found) == 30
    assert 0 < found[0] <= found[-1]


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("point", "fault"),
    [("answered", "e6"), ("headers", "e16"), ("booked", "e20"), ("before-reports", "e1")],
)
def test_p20_a_kill_at_a_named_point_while_the_endpoint_errs(
    point: str, fault: str, tmp_path: Path
) -> None:
    """All pairs: `scripts/torture pairs`."""
    result = fault_pairs.run(tmp_path, [point], [fault])

    assert result.tried == 1
    assert result.unmet == []
    assert result.broken == []
