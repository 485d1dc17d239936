"""`nightshift serve` under many who look, and with a file of 1 GB.

    scripts/bench serve [--lines N] [--batches N] [--clients N] [--upload-lines N]

A batch of many lines is run twice: alone, and while clients poll the other batches, each about once
a second, and list them. Then a large file is uploaded and run until its first call. The clients are
one process of their own, whose CPU the batch does not get: two cores are full by it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai

from benchmarks.environments import ROOT, counts, endpoint, environ_for, write_input
from benchmarks.processes import pss

_PORT = 18573
_URL = f"http://127.0.0.1:{_PORT}/v1"
_EACH_S = 1.0
_chance = random.Random(1)  # noqa: S311  only spreads the looks
_LISTS = 0.1
"""So many of the looks are at the list."""


@dataclass
class Looked:
    """How long the looks took, in s, at a batch and at the list."""

    batch: list[float]
    list: list[float]


@contextmanager
def serving(home: Path, url: str, *options: str) -> Iterator[tuple[int, openai.OpenAI]]:
    """The server's process id, and a client."""
    environ = {**environ_for(home, url), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "batch", "serve", "--port", str(_PORT), *options]
    client = openai.OpenAI(base_url=_URL, api_key="any", max_retries=20, timeout=600)
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            client.batches.list(limit=1)
            yield process.pid, client
        finally:
            process.send_signal(signal.SIGTERM)


def create(client: openai.OpenAI, source: Path) -> str:
    """The id of a batch of this file."""
    with source.open("rb") as file:
        uploaded = client.files.create(file=file, purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id


def ended(client: openai.OpenAI, batch: str) -> float:
    """Waits for the end of a batch; when it was seen, on the monotonic clock."""
    while (found := client.batches.retrieve(batch)).status not in ("completed", "failed"):
        time.sleep(0.2)
    if found.status == "failed" or found.completed_at is None:
        raise SystemExit(f"the batch failed: {found.errors}")
    return time.monotonic()


async def poll(batches: list[str], clients: int, over: asyncio.Event) -> Looked:
    """So many clients look until it is over."""
    looked = Looked([], [])
    headers = {"Authorization": "Bearer any"}
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(_look(session, batches, looked, over) for _ in range(clients)))
    return looked


async def _look(
    session: aiohttp.ClientSession, batches: list[str], looked: Looked, over: asyncio.Event
) -> None:
    await asyncio.sleep(_chance.random() * _EACH_S)
    while not over.is_set():
        at_list = _chance.random() < _LISTS
        path = "batches?limit=100" if at_list else f"batches/{_chance.choice(batches)}"
        began = time.monotonic()
        async with session.get(f"{_URL}/{path}") as answer:
            await answer.read()
            assert answer.status == 200
        (looked.list if at_list else looked.batch).append(time.monotonic() - began)
        await asyncio.sleep(_EACH_S)


async def polled(client: openai.OpenAI, big: str, batches: list[str], clients: int) -> Looked:
    """Looks until the big batch is over."""
    over = asyncio.Event()
    looking = asyncio.create_task(poll([*batches, big], clients, over))
    await asyncio.to_thread(ended, client, big)
    over.set()
    return await looking


def p99(seconds: list[float]) -> float:
    """In ms."""
    return 1000 * statistics.quantiles(seconds, n=100)[98]


def crowd(folder: Path, lines: int, batches: int, clients: int) -> None:
    """Measures a batch alone, and among others that are looked at."""
    big, small = folder / "big.jsonl", folder / "small.jsonl"
    write_input(big, lines)
    write_input(small, 1)
    with endpoint() as url, serving(folder / "home", url) as (_, client):
        ids = [create(client, small) for _ in range(batches)]
        for each in ids:
            ended(client, each)
        print(f"{batches:,} batches are there", file=sys.stderr)
        for number in range(2):
            alone = create(client, big)
            began = time.monotonic()
            without = ended(client, alone) - began
            among = create(client, big)
            began = time.monotonic()
            looked = asyncio.run(polled(client, among, ids, clients))
            within = time.monotonic() - began
            print(
                f"round {number + 1}: {lines:,} lines in {without:.1f} s alone, {within:.1f} s"
                f" among {clients} who look ({within / without:.2f} x); a look at a batch took"
                f" {p99(looked.batch):.0f} ms (p99 of {len(looked.batch):,}), at the list"
                f" {p99(looked.list):.0f} ms"
            )


def upload(folder: Path, lines: int) -> None:
    """Measures a large file until its first call."""
    source = folder / "large.jsonl"
    _write_large(source, lines)
    with endpoint() as url, serving(folder / "home", url) as (pid, client):
        at_first, began = pss(pid), time.monotonic()
        with source.open("rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        took, after = time.monotonic() - began, pss(pid)
        began = time.monotonic()
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        while not counts(url)["calls"]:
            time.sleep(0.05)
        print(
            f"{source.stat().st_size / 1e9:.2f} GB, {lines:,} lines: uploaded in {took:.1f} s,"
            f" {at_first / 1e3:.0f} MB of memory before and {after / 1e3:.0f} after;"
            f" first call {time.monotonic() - began:.1f} s after the batch was created"
        )
        client.batches.cancel(batch.id)


def _write_large(path: Path, lines: int) -> None:
    """Lines of 2 KB."""
    text = "word " * 370
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            body: dict[str, Any] = {
                "model": "minimax/minimax-m1",
                "messages": [{"role": "user", "content": f"{number} {text}"}],
                "max_tokens": 100,
            }
            line = {
                "custom_id": f"r-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(line) + "\n")


def main() -> int:
    """Measures both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--upload-lines", type=int, default=500_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name:
        for part in ("one", "two"):
            (Path(name) / part).mkdir()
        upload(Path(name) / "one", given.upload_lines)
        crowd(Path(name) / "two", given.lines, given.batches, given.clients)
    return 0


if __name__ == "__main__":
    sys.exit(main())
