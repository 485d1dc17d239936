"""scripts/run without a key: its simulated endpoint outlives Ctrl-C and returns for a resume."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from scripts.simulator import read_book
from tests.acceptance.conftest import Shell, batch_lines, end_server, ids, read_lines, wait_until
from tests.conftest import ROOT

ROWS = 60
EXAMPLE = ROOT / "examples" / "app-descriptions.jsonl"
SCRIPT = ROOT / "scripts" / "run"


def environ(folder: Path) -> dict[str, str]:
    keys = ("KEY", "NIGHTSHIFT", "PYTHONPATH")
    clean = {name: each for name, each in os.environ.items() if not any(k in name for k in keys)}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **clean,
        "NIGHTSHIFT_HOME": str(folder / "home"),
        "NIGHTSHIFT_LANG": "en",
        "TMPDIR": str(temporary),
    }


@pytest.mark.timeout(240)
def test_ctrl_c_loses_no_call_and_resume_ends_what_was_begun(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]
    (tmp_path / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    log = tmp_path / "log"
    with log.open("wb") as err:
        command = [str(SCRIPT), "in.jsonl", "-o", "out", "--max-in-flight", "4"]
        # A group of its own, which Ctrl-C reaches as a whole.
        running = subprocess.Popen(
            command, cwd=tmp_path, env=environ(tmp_path), stderr=err, start_new_session=True
        )
    simulated = tmp_path / "home" / "simulated"
    wait_until("calls are billed", lambda: billed(simulated) >= 4)
    os.killpg(running.pid, signal.SIGINT)

    assert running.wait(60) == 130
    said = log.read_text()
    assert "a SIMULATED endpoint answers" in said
    assert "scripts/run resume" in said
    wait_until("the simulator has ended", lambda: not simulators(simulated))
    before = billed(simulated)

    ended = subprocess.run(
        [SCRIPT, "resume"],
        cwd=tmp_path,
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert ended.returncode == 0, ended
    assert before < ROWS
    assert len(read_lines(tmp_path / "out" / "output.jsonl")) == ROWS
    assert len(set(ids(tmp_path / "out" / "output.jsonl"))) == ROWS
    assert list(simulated.iterdir()) == []
    assert list((tmp_path / "tmp").glob("nightshift*")) == []
    assert not simulators(simulated)
    end_server(tmp_path / "home")


def test_the_simulator_ends_with_a_script_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    with (tmp_path / "log").open("wb") as err:
        running = subprocess.Popen(
            [SCRIPT, "in.jsonl"],
            cwd=tmp_path,
            env=environ(tmp_path),
            stderr=err,
            start_new_session=True,
        )
    simulated = tmp_path / "home" / "simulated"
    wait_until("calls are billed", lambda: billed(simulated) >= 1)
    os.killpg(running.pid, signal.SIGKILL)

    running.wait()
    wait_until("nothing of it is left", lambda: not simulators(simulated))
    end_server(tmp_path / "home")


def test_resume_of_a_job_whose_endpoint_is_gone_says_so(shell: Shell) -> None:
    shell.write("in.jsonl", batch_lines(1))
    shell("submit", "in.jsonl")

    ended = subprocess.run(
        [SCRIPT, "resume"],
        env={**environ(shell.folder), "NIGHTSHIFT_HOME": shell.environ["NIGHTSHIFT_HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "run the input again" in ended.stderr


def billed(simulated: Path) -> int:
    """Calls in the book of the one simulator there."""
    return sum(len(read_book(path).billed()) for path in simulated.glob("*/book.jsonl"))


def simulators(simulated: Path) -> str:
    """Processes that keep a book there."""
    rows = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    return "\n".join(row for row in rows.stdout.splitlines() if f"--book {simulated}" in row)
