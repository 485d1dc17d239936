"""What tests of all tiers share: a simulated endpoint, a server, the installed command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from batch import embedded_redis
from batch.coordinator.redis import redis_client
from jobs.errors import NightshiftError
from jobs.signing import Seal
from scripts.simulator import Simulator
from scripts.torturing.key_expiry import endless_keys
from tests.readers import check_outputs

# Tests read English, whatever whoever runs them reads.
os.environ["NIGHTSHIFT_LANG"] = "en"

# Where tests run in the background of a script, Ctrl-C is ignored, and so it would be by every
# command they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that does other things too takes its time.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

ROOT = Path(__file__).parent.parent
CANARY = "canary-key-5f3a9c"
"""The API key of all tests: it must appear nowhere."""

SECRET = b"a secret of thirty-two characters"
SEAL = Seal(SECRET)
"""Of tests that play one side of the post themselves."""


UNITS = {"batch", "jobs", "simulator", "workers"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deals tests out to several processes, so that neither cores nor waiting tests are idle.

    Tests that share what took long to start stay together, in one process each file, and begin
    first. The others that start programs, which mostly wait, are spread among those that compute.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    together, waiting, computing = [], [], []
    for item in items:
        if item.path.relative_to(ROOT).parts[1] in UNITS:
            computing.append(item)
        elif _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
            together.append(item)
        else:
            waiting.append(item)
    for several in (together, waiting):  # the longest are faults, the shortest acceptance
        several.sort(key=lambda item: "acceptance" in item.path.parts)
        several.sort(key=lambda item: "faults" not in item.path.parts)
    each = len(computing) // (len(waiting) + 1) + 1
    items[:] = together
    for number, item in enumerate(waiting):
        items += [item, *computing[number * each : (number + 1) * each]]
    items += computing[len(waiting) * each :]


def _shares(item: pytest.Item) -> bool:
    """Whether it stands on a fixture of its file."""
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return any(one.scope == "module" for several in fixtures.values() for one in several)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Starts a simulated endpoint with these options; its book stands in the test's folder."""
    started: list[Simulator] = []

    def start(*options: str) -> Simulator:
        one = Simulator(*options, book=tmp_path / f"book-{len(started)}.jsonl")
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture(autouse=True)
def readable_outputs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test had written as results, all readers can read."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    yield
    check_outputs(folder)


class Server:
    """A Redis-compatible server on a port of loopback, without persistence."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.process = subprocess.Popen(
            [
                embedded_redis.binary(),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "no", "--dir", str(self._folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self.answers:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    @property
    def answers(self) -> bool:
        """Whether it is there."""
        try:
            redis_client.check(self.url)
        except NightshiftError:
            return False
        return True

    def kill(self) -> None:
        """Ends it at once; its memory is gone."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own. Whatever our programs left there has an end of its life."""
    folder = tmp_path / "server"
    folder.mkdir()
    one = Server(folder)
    yield one
    # What tests write there themselves, in the programs' place, is theirs.
    endless = endless_keys(one.port) if "workdir" in request.fixturenames else []
    one.kill()
    assert endless == []


class Workdir:
    """A scratch folder in which the installed `nightshift` runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if "NIGHTSHIFT" not in name},
            "NIGHTSHIFT_LANG": "en",
            "NIGHTSHIFT_HOME": str(folder / "home"),
            "ROUTERAI_API_KEY": CANARY,
            "PYTHONPATH": str(ROOT),
        }
        self.environ.pop("OPENAI_API_KEY", None)
        self._started: list[subprocess.Popen[str]] = []

    def point_at(self, simulator: Simulator, server: Server | None = None) -> None:
        """Has all commands from now on use this endpoint and this server."""
        self.environ["NIGHTSHIFT_BASE_URL"] = simulator.base_url
        if server is not None:
            self.environ["NIGHTSHIFT_REDIS_URL"] = server.url

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "batch", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command that serves; it is killed at the test's end."""
        log = (self.folder / f"{arguments[0]}-{len(self._started)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "batch", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        log.close()
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kills what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def workdir(tmp_path: Path) -> Iterator[Workdir]:
    """A scratch folder with a home and a key of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    one = Workdir(folder)
    yield one
    one.end()
