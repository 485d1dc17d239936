"""Workers and commands that start at once: children of a process that has all the modules already.

A campaign of a thousand kills would spend an hour on imports. What runs in the child is the `main`
of the worker or of `nightshift`, and what kills it is SIGKILL.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

ROOT = Path(__file__).parent.parent.parent
_MODULES = (
    *("workers.program", "celery.apps.worker", "celery.bin.celery", "celery.bin.worker"),
    *("celery.worker.consumer", "celery.worker.worker", "celery.loaders.app"),
    *("celery.app.amqp", "celery.app.control", "celery.app.events", "celery.app.log"),
    *("celery.backends.base", "celery.fixups.django", "kombu.transport.redis", "uvloop"),
    *("batch.main", "batch.commands.coordinator", "batch.commands.submit"),
)


class Child:
    """A process of the nursery, as `subprocess.Popen` would have it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = -1

    def poll(self) -> int | None:
        """Something other than None once it has ended; the nursery keeps no exit codes."""
        return 0 if self._fd < 0 or select.select([self._fd], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Returns when it has ended."""
        if self._fd >= 0 and not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        """To a process that has ended already, nothing."""
        if self._fd >= 0 and self.poll() is None:
            signal.pidfd_send_signal(self._fd, number)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Prefork:
    """Use as a context manager; its children do not outlive it if they are killed before.

    `library` is one that they have been loaded with.
    """

    def __init__(self, library: Path | None = None) -> None:
        self._environ = {**os.environ, "LD_PRELOAD": str(library)} if library else None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.torturing.prefork"],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, command: Sequence[str], environ: dict[str, str], log: Path) -> Child:
        """A command of `nightshift` with this environment; `worker` has no options."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the nursery was started without pipes")
        wish = {"command": command, "environ": environ, "log": str(log)}
        with self._lock:
            stdin.write(json.dumps(wish) + "\n")
            stdin.flush()
            return Child(int(stdout.readline()))


def _serve() -> None:
    for module in _MODULES:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := sys.stdin.readline():
        wish = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _work(**wish)
        print(pid, flush=True)


def _work(command: list[str], environ: dict[str, str], log: str) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, place in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(fd, place)
    os.environ.clear()
    os.environ.update(environ)
    if "CRASHPOINT" in environ:
        ctypes.CDLL(None).crashpoint_begin()
    sys.argv[1:] = command
    is_worker = command == ["worker"]
    try:
        sys.modules["workers.program" if is_worker else "batch.main"].main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    _serve()
