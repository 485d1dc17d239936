"""Flower's memory while it watches a small job, and then a large one, with their pages open.

    scripts/bench flower [--small N] [--large N]

Services of their own on a server of their own: a coordinator, a worker, Flower. Memory is what is
resident (VmRSS) at a job's end; Flower keeps the last 20,000 chunks. Linux only.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from batch import embedded_redis
from benchmarks.environments import ROOT, endpoint, environ_for, write_input

_LOOK_S = 2.0
"""As often as an open page asks."""

_PASSWORD = "of-a-benchmark"  # noqa: S105  of a server that nobody else reaches


@contextmanager
def _service(
    folder: Path, environ: dict[str, str], *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A service whose words go to a file of its name."""
    command = [sys.executable, "-m", "batch", *words]
    with (folder / f"{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _nightshift(environ: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "batch", *words]
    return subprocess.run(
        command,
        env=environ,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout.strip()


def _address(flower: subprocess.Popen[bytes], log: Path) -> str:
    while "127.0.0.1:" not in (words := log.read_text()):
        if flower.poll() is not None:
            raise SystemExit(words)
        time.sleep(0.1)
    port = words.partition("127.0.0.1:")[2].partition("/")[0]
    return f"http://127.0.0.1:{port}"


def _look(address: str, path: str) -> None:
    login = base64.b64encode(f"nightshift:{_PASSWORD}".encode()).decode()
    request = Request(address + path, headers={"Authorization": f"Basic {login}"})  # noqa: S310
    # A job that the coordinator has not told of yet has no page.
    with suppress(HTTPError), urlopen(request) as answer:  # noqa: S310
        answer.read()


def _resident(pid: int) -> int:
    """Kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def measure(folder: Path, sizes: list[int]) -> list[int]:
    """Flower's kB at the end of each of the jobs that bring the requests to these sizes."""
    with ExitStack() as stack:
        url = stack.enter_context(endpoint())
        redis = stack.enter_context(embedded_redis.server(None, folder / "server"))
        environ = {
            **environ_for(folder / "home", url),
            "PYTHONPATH": str(ROOT),
            "NIGHTSHIFT_REDIS_URL": redis,
            "NIGHTSHIFT_FLOWER_PASSWORD": _PASSWORD,
        }
        flower = stack.enter_context(_service(folder, environ, "flower", "--port", "0"))
        address = _address(flower, folder / "flower.log")
        for name in ("coordinator", "worker"):
            stack.enter_context(_service(folder, environ, name))
        found, before = [], 0
        for size in sizes:
            source = folder / f"{size}.jsonl"
            write_input(source, size - before)
            before = size
            job = _nightshift(environ, "submit", str(source), "--max-in-flight", "256")
            while json.loads(_nightshift(environ, "status", job, "--json"))["state"] != "completed":
                for path in ("/jobs?live=1", f"/job/{job}?live=1", "/tasks", "/workers"):
                    _look(address, path)
                time.sleep(_LOOK_S)
            found.append(_resident(flower.pid))
    return found


def main() -> int:
    """Measures, and prints both and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=200_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name:
        small, large = measure(Path(name), [given.small, given.large])
    print(f"Flower after {given.small:,} requests: {small / 1e3:.0f} MB")
    print(f"Flower after {given.large:,} requests: {large / 1e3:.0f} MB, {large / small:.2f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
