"""Signals at commands of `nightshift`, from the first moment of each to its end.

A command that is told to stop, or whose reader or terminal is gone, shows no traceback, ends with a
documented code, and leaves no process behind, nor a file half-written.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torturing.installation import CHOICES, MODEL, ROOT, Installation

ROWS = 40
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "{input}", "-o", "{out}", "--yes"),
    "submit": ("submit", "{input}", "-o", "{out}"),
    "resume": ("resume", "{job}", "--yes"),
    "watch": ("watch", "{job}"),
    "results": ("results", "{job}", "-o", "{out}"),
    "review": ("review", "{rows}", "-o", "{out}/review.csv"),
    "status": ("status", "--watch"),
    "validate": ("validate", "{input}"),
    "estimate": ("estimate", "{input}"),
    "preview": ("preview", "{input}"),
    "show": ("show", "{job}", "1"),
    "prune": ("prune",),
    "doctor": ("doctor",),
    "serve": ("serve", "--port", "0"),
    "flower": ("flower", "--port", "0"),
    "coordinator": ("coordinator",),
    "worker": ("worker",),
}
_ASKED = ("--prompt", "{{ review }}", "--choices", ",".join(CHOICES), "--model", MODEL)
_APART = ("run", "serve", "flower", "coordinator", "worker")
"""Those that start a server: each has a home of its own, and the embedded server."""

_OF_THE_PAST = ("results", "review")
"""Those whose outputs are known."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDED = {0, 1, 3}
"""It had ended by itself, or ended in order."""

_PATIENCE_S = 60.0
_AFTERMATH_S = 3.0


@dataclass
class Tally:
    """How often a command was told to stop, how often it was still there then, what was broken."""

    tried: int = 0
    met: int = 0
    broken: list[str] = field(default_factory=list)


class Commands:
    """The commands, at a house in which a job is over."""

    def __init__(self, house: Installation) -> None:
        self._house = house
        self.tally = Tally()
        house.write_input("night", ROWS)
        self._job = house.submit("past", ROWS)
        house.task = _ASKED
        self._rows = house.submit("rows", ROWS)
        house.task = ()
        house.start("worker-0")
        house.wait("past")
        house.wait("rows")
        house.command("review", self._rows, "-o", str(house.output("past") / "review.csv"))

    def signalled(self, name: str, number: signal.Signals, delay_s: float, *, twice: bool) -> None:
        """Starts a command and sends it a signal, `twice`: and once more 0.3 s later."""
        process = self._start(name)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        self.tally.met += process.poll() is None
        for _ in range(1 + twice):
            _send(process, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        self._judge(process, name, f"{name}: {number.name} after {delay_s} s", number)

    def unread(self, name: str) -> None:
        """As `nightshift … | head -1` does."""
        process = self._start(name)
        if process.stdout is not None:
            if name not in _APART:
                process.stdout.readline()
            process.stdout.close()
            process.stdout = None
        if name in _APART:
            time.sleep(2)
            process.terminate()
        self._judge(process, name, f"{name}: nobody reads it", signal.SIGTERM)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        house, count = self._house, self.tally.tried
        self.tally.tried += 1
        self._home = house.folder / f"home-{count}"
        self._out = house.folder / f"out-{count}"
        apart = {"NIGHTSHIFT_HOME": str(self._home), "NIGHTSHIFT_REDIS_URL": ""}
        values = {
            "input": str(house.input("night")),
            "out": str(self._out),
            "job": self._job,
            "rows": self._rows,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "batch", *(part.format(**values) for part in COMMANDS[name])],
            env={**house.environ(f"signalled-{count}"), **(apart if name in _APART else {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _judge(
        self, process: subprocess.Popen[bytes], command: str, what: str, number: signal.Signals
    ) -> None:
        try:
            out, err = process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.tally.broken.append(f"{what}: does not end; there are {self._alive(process.pid)}")
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
        said = ((out or b"") + (err or b"")).decode(errors="replace")
        # Of Python's own start nothing is ours.
        if "internal error" in said or ("Traceback" in said and str(ROOT) in said):
            self.tally.broken.append(f"{what}: {said[-1500:]}")
        if process.returncode not in {*_ENDED, 130, 128 + number, -number}:
            self.tally.broken.append(f"{what}: exit code {process.returncode}: {said[-300:]}")
        deadline = time.monotonic() + _AFTERMATH_S
        while (left := self._alive(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            self.tally.broken.append(f"{what}: leaves {left}")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for name in self._half_written(command):
            self.tally.broken.append(f"{what}: {name} is not whole")

    def _half_written(self, name: str) -> Iterator[str]:
        """Outputs that are not whole, whenever the command was ended, and drafts of them."""
        for path in self._out.glob("*"):
            whole = self._house.output("past") / path.name if name in _OF_THE_PAST else None
            if path.suffix == ".part" or not _is_whole(path, whole):
                yield path.name

    def _alive(self, session: int) -> dict[int, str]:
        """What is there of a command's session or home: process ids and command lines."""
        return dict(_processes(session, os.fsencode(self._home)))


def _is_whole(path: Path, whole: Path | None) -> bool:
    """To its end; with as many lines as the `whole` file, where there is one."""
    data = path.read_bytes()
    if whole is not None and len(data.splitlines()) != len(whole.read_bytes().splitlines()):
        return False
    if path.suffix == ".html":
        return data.rstrip().endswith(b"</html>")
    if path.suffix in (".json", ".jsonl"):
        with suppress(ValueError):
            for record in data.splitlines() if path.suffix == ".jsonl" else [data]:
                json.loads(record)
            return data[-1:] in (b"", b"\n")
        return False
    return data.endswith(b"\n")


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """A terminal tells all of its processes; `kill` tells one."""
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _processes(session: int, home: bytes) -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
            known = home + b"\0" in (path / "environ").read_bytes() or home + b"/" in command
            if told[0] != "Z" and (int(told[3]) == session or known):
                yield int(path.name), command.replace(b"\0", b" ").decode()[:200]


def run(
    folder: Path, names: Sequence[str], delays_s: Sequence[float], *, twice: bool = False
) -> Tally:
    """Sends each signal to each of these commands after each delay, and lets readers go away."""
    with Installation(folder, workers=0, endpoint=("--latency", "uniform:0.1:0.4")) as house:
        commands = Commands(house)
        for name in names:
            for number in SIGNALS:
                for delay_s in delays_s:
                    commands.signalled(name, number, delay_s, twice=twice)
            commands.unread(name)
        return commands.tally
