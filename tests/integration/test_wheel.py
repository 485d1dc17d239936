"""The built wheel in an empty environment, by its own metadata, far from the checkout."""

from __future__ import annotations

import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import Shell, read_lines, shell, wait_until
from tests.conftest import ROOT, Server
from tests.integration.test_hostile_folder import environ, hostile, run, serving

__all__ = ["hostile", "shell"]
Simulators = Callable[..., Simulator]
EXAMPLE = ROOT / "examples" / "app-descriptions.jsonl"
ROWS = 40


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def installed(wheel: Path, folder: Path, resolution: str) -> Path:
    """The command of an environment that holds the wheel and what that says it needs."""
    uv: list[str | Path] = [sys.executable, "-m", "uv", "--no-config", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    # Lowest are the versions that pyproject.toml itself names; what these need is as new as it is.
    names = [wheel] if resolution == "highest" else [wheel, "-r", ROOT / "pyproject.toml"]
    command: list[str | Path] = [
        "pip",
        "install",
        "--python",
        folder,
        "--resolution",
        resolution,
        *names,
    ]
    subprocess.run([*uv, *command], check=True, timeout=150)
    return folder / "bin" / "nightshift"


def test_the_wheel_has_its_licence_and_says_that_it_is_typed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {f"{room}/py.typed" for room in ("jobs", "batch", "workers")} <= set(names)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_the_whole_way_with_the_newest_and_the_oldest_packages(
    resolution: str,
    wheel: Path,
    hostile: Path,
    shell: Shell,
    simulator: Simulators,
    server: Server,
) -> None:
    program = installed(wheel, hostile.parent / "env", resolution)
    endpoint = simulator("--latency", "constant:0.5")
    shell.point_at(endpoint)
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]
    (hostile / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    first = subprocess.Popen(
        [program, "run", "in.jsonl", "-o", "out", "--max-in-flight", "4"],
        cwd=hostile,
        env=environ(shell),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until("some are answered", lambda: bool(endpoint.book().billed()))
    first.send_signal(signal.SIGINT)

    assert "nightshift resume job_" in first.communicate(timeout=60)[1]
    assert first.returncode == 130
    assert run(shell, "resume", "latest", "--yes", program=program).returncode == 0
    assert len(read_lines(hostile / "out" / "output.jsonl")) == ROWS
    assert run(shell, "doctor", program=program).returncode == 0
    shell.environ["NIGHTSHIFT_REDIS_URL"] = server.url
    with serving(program, shell):
        submitted = run(shell, "submit", "in.jsonl", "-o", "again", program=program)
        assert submitted.returncode == 0, submitted
        wait_until("the services do it", (hostile / "again" / "output.jsonl").exists)


def test_a_module_that_is_missing_is_named(shell: Shell) -> None:
    hides = "import sys; sys.modules['msgspec'] = None; from batch.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", hides, "status"],
        cwd=shell.folder,
        env=shell.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 4
    assert "the Python module msgspec" in ended.stderr
    assert "reinstall nightshift" in ended.stderr


def test_a_module_that_a_worker_lacks_is_named(shell: Shell) -> None:
    hides = (
        "import sys, runpy; sys.modules['uvloop'] = None;"
        " runpy.run_module('workers', run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", hides],
        cwd=shell.folder,
        env=shell.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "nightshift worker: the Python module uvloop" in ended.stderr
