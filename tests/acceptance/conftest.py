"""The installed command as a person meets it: run it, feed it, interrupt it, look at its terminal.

A failure tells the command in a form that can be pasted into a shell.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from batch import embedded_redis
from scripts import schemas
from scripts.simulator import Simulator
from tests.conftest import CANARY, Server, Workdir

MODEL = "minimax/minimax-m1"
PATIENCE_S = 60.0
_ANSI = re.compile(r"\x07?\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-_])")
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_NOISE = ("Traceback", "celery", "kombu", "amqp", "Consumer", "internal error")


def batch_lines(count: int, *, model: str = MODEL, first: int = 0, max_tokens: int = 400) -> str:
    """An input in OpenAI's Batch form."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"r-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [{"role": "user", "content": f"Отзыв {number}"}],
                    "max_tokens": max_tokens,
                },
            },
            ensure_ascii=False,
        )
        + "\n"
        for number in range(first, first + count)
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def ids(path: Path) -> list[str]:
    """The `custom_id` of each line, in order."""
    return [line["custom_id"] for line in read_lines(path)]


def cost_of(folder: Path) -> Decimal:
    """What cost.json says that a job cost."""
    return Decimal(json.loads((folder / "cost.json").read_text())["cost_rub"])


def wait_until(what: str, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def worker_of(command: int) -> int:
    """The process id of the worker that a command brought."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    split = [row.split(maxsplit=2) for row in rows]
    (pid,) = (row[0] for row in split if int(row[1]) == command and "-m workers" in row[2])
    return int(pid)


@dataclass
class Ended:
    """What a command left behind."""

    line: str
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"\n$ {self.line}\n{self.out}{self.err}→ {self.code}"


class Running:
    """A command that was started; its words go to files."""

    def __init__(
        self, shell: Shell, process: subprocess.Popen[bytes], line: str, log: Path
    ) -> None:
        self._shell = shell
        self.process = process
        self._line = line
        self._log = log

    @property
    def err(self) -> str:
        """What it said so far on standard error."""
        return self._log.with_suffix(".err").read_text(encoding="utf-8", errors="replace")

    def says(self, text: str) -> None:
        """Waits until it said that."""
        wait_until(f"{self._line} says {text!r}; it said {self.err}", lambda: text in self.err)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def ends(self, code: int) -> Ended:
        """Waits for its end, which must be this."""
        self.process.wait(PATIENCE_S)
        out = self._log.with_suffix(".out").read_text(encoding="utf-8", errors="replace")
        return self._shell.check(Ended(self._line, self.process.returncode, out, self.err), code)


class Shell:
    """Runs `nightshift` in the scratch folder of a test."""

    def __init__(self, workdir: Workdir) -> None:
        self.folder = workdir.folder
        self.environ = workdir.environ
        self.environ.pop("NO_COLOR", None)
        self._point_at = workdir.point_at
        self._started: list[subprocess.Popen[bytes]] = []

    def point_at(self, simulator: Simulator, server: Server | None = None) -> None:
        """Has all commands from now on use this endpoint and this server."""
        self._point_at(simulator, server)

    def write(self, name: str, text: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def __call__(
        self, *arguments: str | Path, code: int = 0, stdin: bytes = b"", **environ: str
    ) -> Ended:
        """Runs a command to its end, which must be `code`. An empty variable is taken away."""
        done = subprocess.run(
            _command(arguments),
            cwd=self.folder,
            env=self._with(environ),
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S + 30,
            check=False,
        )
        out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        ended = self.check(Ended(self.line(arguments, environ), done.returncode, out, err), code)
        if "--json" in arguments:
            _check_json(arguments, out)
        return ended

    def start(self, *arguments: str | Path, **environ: str) -> Running:
        """Starts a command; it is killed at the test's end."""
        log = self.folder.parent / f"log-{len(self._started)}"
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                _command(arguments),
                cwd=self.folder,
                env=self._with(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._started.append(process)
        return Running(self, process, self.line(arguments, environ), log)

    def check(self, ended: Ended, code: int) -> Ended:
        """What holds of every command: its code, no traceback, no noise, no key."""
        assert ended.code == code, ended
        for noise in _NOISE:
            assert noise not in ended.err, ended
        assert CANARY not in ended.out + ended.err, ended
        return ended

    def line(self, arguments: tuple[str | Path, ...], environ: dict[str, str] | None = None) -> str:
        """The command as it can be pasted into a shell."""
        given = {**self.environ, **(environ or {})}
        variables = [
            f"{name}={shlex.quote(value)}"
            for name, value in given.items()
            if ("NIGHTSHIFT" in name or "API_KEY" in name) and value
        ]
        words = shlex.join(str(word) for word in ("nightshift", *arguments))
        return f"cd {shlex.quote(str(self.folder))}; {' '.join(variables)} {words}"

    def terminal(self, *arguments: str | Path, columns: int, **environ: str) -> Terminal:
        """Starts a command on a terminal of its own."""
        keeper, device = pty.openpty()
        size = struct.pack("HHHH", 40, columns, 0, 0)
        fcntl.ioctl(device, termios.TIOCSWINSZ, size)
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, *_command(arguments)],
            cwd=self.folder,
            env=self._with({"TERM": "xterm-256color", "COLUMNS": "", **environ}),
            stdin=device,
            stdout=device,
            stderr=device,
            start_new_session=True,
        )
        os.close(device)
        self._started.append(process)
        return Terminal(process, keeper, self.line(arguments, environ))

    def job_ids(self) -> list[str]:
        """What stands in the folder of jobs: half ones would show too."""
        folder = Path(self.environ["NIGHTSHIFT_HOME"]) / "jobs"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [name for name in names if name != ".gate"]

    def jobs(self) -> list[dict[str, Any]]:
        """`nightshift status --json`."""
        found: list[dict[str, Any]] = json.loads(self("status", "--json").out)["jobs"]
        return found

    def end(self) -> None:
        """Kills what still runs, and the embedded server that it left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        end_server(Path(self.environ["NIGHTSHIFT_HOME"]))

    def _with(self, environ: dict[str, str]) -> dict[str, str]:
        every = {**self.environ, **environ}
        return {name: value for name, value in every.items() if value}


def _check_json(arguments: tuple[str | Path, ...], out: str) -> None:
    """What programs get is of its schema."""
    kind = schemas.COMMANDS[str(arguments[0])]
    if '"jobs": [' in out[:40]:
        kind = schemas.Jobs
    # `resume` tells in many lines, `watch` and `show` once a line.
    by_line = arguments[0] in ("watch", "show")
    for document in out.splitlines() if by_line else filter(None, [out]):
        schemas.check(document, kind)


def end_server(home: Path) -> None:
    """Ends the embedded server that a killed command left, also where its worker still clings."""
    if home.is_dir() and (url := embedded_redis.find(home)):
        with Redis.from_url(url) as redis:
            redis.shutdown(nosave=True)


class Terminal:
    """A command on a terminal: what it wrote, and keys for it."""

    def __init__(self, process: subprocess.Popen[bytes], keeper: int, line: str) -> None:
        self._process = process
        self._keeper = keeper
        self.line = line
        self.raw = b""

    def read(self, patience_s: float = 0.2) -> bool:
        """Takes in what was written meanwhile; False once the command has ended."""
        if not select.select([self._keeper], [], [], patience_s)[0]:
            return self._process.poll() is None
        try:
            data = os.read(self._keeper, 65536)
        except OSError:
            return False
        self.raw += data
        return bool(data)

    def shows(self, text: str) -> None:
        """Waits until it wrote that."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.plain:
            assert time.monotonic() < deadline, f"never shows {text!r}\n$ {self.line}\n{self.plain}"
            assert self.read() or text in self.plain, f"no {text!r}\n$ {self.line}\n{self.plain}"

    def press(self, keys: bytes) -> None:
        """Types."""
        os.write(self._keeper, keys)

    def ends(self, code: int) -> str:
        """Waits for its end, which must be this; returns all that it wrote, without its colours."""
        deadline = time.monotonic() + PATIENCE_S
        while self.read():
            assert time.monotonic() < deadline, f"does not end\n$ {self.line}\n{self.plain}"
        os.close(self._keeper)
        assert self._process.wait(PATIENCE_S) == code, f"\n$ {self.line}\n{self.plain}"
        assert CANARY not in self.plain
        assert "Traceback" not in self.plain, f"\n$ {self.line}\n{self.plain}"
        return self.plain

    def hang_up(self, code: int) -> None:
        """Closes the terminal; the command must end with this code."""
        os.close(self._keeper)
        assert self._process.wait(PATIENCE_S) == code, f"\n$ {self.line}\n{self.plain}"

    @property
    def plain(self) -> str:
        """All that it wrote, without escape sequences."""
        return _ANSI.sub("", self.raw.decode("utf-8", "replace"))

    @property
    def lines(self) -> list[str]:
        """Every line as it stood at some moment."""
        return [line for line in re.split(r"[\r\n]+", self.plain) if line.strip()]


def _command(arguments: tuple[str | Path, ...]) -> list[str | Path]:
    return [sys.executable, "-m", "batch", *arguments]


@pytest.fixture
def shell(workdir: Workdir) -> Iterator[Shell]:
    """A scratch folder with a home of its own in which `nightshift` runs."""
    one = Shell(workdir)
    yield one
    one.end()
