"""The simulator as a process of its own, for tests: start, ask, change, stop.

    with Simulator("--latency", "constant:0.1", "--fault", "429:share=0.1", book=path) as server:
        run_the_product(server.base_url)
        server.wait_idle()
        assert server.book().total_billed() == cost_of_the_job

Only the standard library is used on this side, so that it runs wherever a test does.
"""

import json
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from .book import Book, read_book

ROOT = Path(__file__).resolve().parents[2]
READY = "listening on "
# How long a start or an orderly end may take, in seconds.
PATIENCE = 20.0


class SimulatorError(Exception):
    """The simulator did not start, did not end, or refused a change; says why."""


class Simulator:
    """A simulator under way from `with` to its end, and startable again on the same book and port.

    `options` are those of the command line. `book` defaults to a file in a fresh scratch folder.
    It ends with the test even when the test is killed: it holds our end of its standard input.
    """

    def __init__(self, *options: str, book: Path | None = None, port: int = 0) -> None:
        self._options = options
        self._scratch = None if book else tempfile.TemporaryDirectory(prefix="simulator-")
        self.book_path = book or Path(self._scratch.name if self._scratch else "", "book.jsonl")
        self.log_path = self.book_path.with_suffix(".log")
        self.base_url = ""
        self.port = port
        self._process: subprocess.Popen[str] | None = None
        self._opener = _opener()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._scratch:
            self._scratch.cleanup()

    @property
    def pid(self) -> int:
        """The process id, to stop it with a signal of the test's own."""
        return self._running().pid

    def start(self) -> None:
        """Start it; after a `stop` or `kill` again on the same port, going on in the same book."""
        command = [sys.executable, "-m", "scripts.simulator", "--until-stdin-closes"]
        command += ["--port", str(self.port), "--book", str(self.book_path.absolute())]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.base_url = self._ready_line(_pipe(self._process.stdout))
        self.port = urlsplit(self.base_url).port or 0

    def stop(self) -> None:
        """End it in order; the book is complete afterwards. Does nothing when it is not running."""
        self._end("terminate")

    def kill(self) -> None:
        """End it at once, as SIGKILL does."""
        self._end("kill")

    def book(self) -> Book:
        """All calls so far, with the end of every call whose answer has been read."""
        if self._process:
            self.stats()  # has the book flushed
        return read_book(self.book_path)

    def stats(self) -> dict[str, Any]:
        """The counters of ``/_sim/stats``; money in them is text."""
        return self._ask("stats", None)

    def control(self, name: str, change: object) -> dict[str, Any]:
        """POST `change` to ``/_sim/<name>`` (see `control_api.py`); returns the counters."""
        return self._ask(name, json.dumps(change).encode())

    def wait_idle(self, seconds: float = 10.0) -> None:
        """Wait until no call is open, so that the book has an end for every call."""
        deadline = time.monotonic() + seconds
        while self.stats()["open"]:
            if time.monotonic() > deadline:
                raise SimulatorError(f"calls still open after {seconds} s")
            time.sleep(0.01)

    def _ask(self, name: str, data: bytes | None) -> dict[str, Any]:
        parts = urlsplit(self.base_url)
        url = f"{parts.scheme}://{parts.netloc}/_sim/{name}"
        try:
            with self._opener.open(url, data, timeout=PATIENCE) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise SimulatorError(f"{name}: {error.read().decode()}") from error

    def _ready_line(self, output: IO[str]) -> str:
        line = output.readline()
        if not line.startswith(READY):
            self.kill()
            raise SimulatorError(f"did not start: {self.log_path.read_text()}")
        return line.removeprefix(READY).strip()

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        getattr(process, how)()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise SimulatorError(f"did not end within {PATIENCE} s") from error
        finally:
            _pipe(process.stdin).close()
            _pipe(process.stdout).close()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            raise SimulatorError("not running")
        return self._process


def _opener() -> urllib.request.OpenerDirector:
    """Without the proxies of the environment; any certificate will do."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise SimulatorError("the process was started without pipes")
    return stream
