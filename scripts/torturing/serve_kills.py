"""Batches of `nightshift serve`, driven by OpenAI's SDK, while all that runs them is killed."""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openai import OpenAI
from openai.types import Batch

from scripts.simulator import Simulator
from scripts.simulator.book import BookEntry
from scripts.torturing.installation import KEY, MODEL, ROOT, dice, free_port

ROWS = 300
_URL: Final = "/v1/chat/completions"
_LONGEST_S = 300.0
_WRITTEN_S = 0.15
"""So long after its last byte an answer may not be on the disk yet."""

_ENDED = ("completed", "failed", "expired", "cancelled")
_ROLES = {
    "-m\0workers": "worker",
    "\0coordinator\0": "coordinator",
    "batch.api.job_creation": "intake",
    "valkey": "Redis",
}
"""What the command line of a process holds, and who it is."""


@dataclass
class Served:
    """What came of it. `in_flight`: calls that a dead worker did not hear the end of."""

    kills: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    rows: int = 0
    in_flight: int = 0
    bought_twice: int = 0
    slowest_s: float = 0.0
    broken: list[str] = field(default_factory=list)


def run(folder: Path, blows: int, seed: int) -> Served:
    """Makes batch after batch until there were so many kills, and holds the endpoint's book
    against their results.
    """
    with Simulator(
        "--latency", "uniform:0.1:0.5", "--null-cost-share", "0", book=folder / "book.jsonl"
    ) as simulator:
        campaign = _Campaign(folder, simulator, dice(seed))
        with campaign.serving():
            while campaign.found.kills.total() < blows and not campaign.found.broken:
                campaign.batch(blows)
        simulator.wait_idle(30)
        found = campaign.found
        by_row: dict[str, list[BookEntry]] = {}
        for call in simulator.book().billed():
            by_row.setdefault(call.body_hash, []).append(call)
    for calls in by_row.values():
        found.in_flight += sum(_in_flight(each, campaign.deaths) for each in calls)
        for before in calls[:-1]:
            found.bought_twice += 1
            if not _in_flight(before, campaign.deaths):
                found.broken.append(f"L6: call {before.call} was answered, and bought again")
    return found


def _in_flight(call: BookEntry, deaths: list[float]) -> bool:
    """Whether it was not over when a worker was killed, or its answer not yet written down."""
    over = call.finished_mono or math.inf
    return call.delivery == "client_gone" or any(
        call.received_mono < death < over + _WRITTEN_S for death in deaths
    )


class _Campaign:
    def __init__(self, folder: Path, simulator: Simulator, chance: random.Random) -> None:
        self.found = Served()
        self.deaths: list[float] = []
        self._folder, self._simulator, self._chance = folder, simulator, chance
        self._port = free_port()
        self._client = OpenAI(
            base_url=f"http://127.0.0.1:{self._port}/v1", api_key="any", max_retries=60
        )
        self._server: subprocess.Popen[bytes]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The server is there, whatever is done to it; it ends well."""
        self._start()
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGTERM)
            if self._server.wait(60):
                self.found.broken.append("the server did not end well")

    def _start(self) -> None:
        environ = {
            **os.environ,
            "NIGHTSHIFT_HOME": str(self._folder / "home"),
            "NIGHTSHIFT_BASE_URL": self._simulator.base_url,
            "ROUTERAI_API_KEY": KEY,
            "PYTHONPATH": str(ROOT),
        }
        with (self._folder / "serve.log").open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "batch", "serve", "--port", str(self._port)],
                env=environ,
                cwd=self._folder,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

        while not self._answers():
            if self._server.poll() is not None:
                raise RuntimeError(f"the server does not start: {self._folder / 'serve.log'}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

    def batch(self, blows: int) -> None:
        """A batch from its upload to its result, under blows."""
        number = self.found.batches
        sent = {f"r-{row}": f"batch {number}, row {row}?" for row in range(ROWS)}
        lines = [json.dumps(_request(name, text)) for name, text in sent.items()]
        file = self._client.files.create(
            file=io.BytesIO("\n".join(lines).encode()), purpose="batch"
        )
        batch = self._client.batches.create(
            input_file_id=file.id,
            endpoint=_URL,
            completion_window="24h",
            metadata={"number": str(number)},
        )
        began = time.monotonic()
        batch = self._wait(batch, began, blows)
        self.found.batches += 1
        self.found.rows += ROWS
        self.found.slowest_s = max(self.found.slowest_s, time.monotonic() - began)
        self._check(batch, set(sent))

    def _wait(self, batch: Batch, began: float, blows: int) -> Batch:
        following = began + self._chance.uniform(0, 3)
        while batch.status not in _ENDED and time.monotonic() - began < _LONGEST_S:
            time.sleep(0.2)
            if time.monotonic() > following and self.found.kills.total() < blows:
                self._kill()
                following = time.monotonic() + self._chance.uniform(1, 5)
            batch = self._client.batches.retrieve(batch.id)
        return batch

    def _check(self, batch: Batch, sent: set[str]) -> None:
        if batch.status != "completed" or not batch.output_file_id:
            told = f"{batch.status}, {batch.request_counts}"
            self.found.broken.append(f"L1: {batch.id} did not complete: {told}")
            return
        lines = self._client.files.content(batch.output_file_id).text.splitlines()
        got = Counter(json.loads(line)["custom_id"] for line in lines)
        if got != Counter(sent):
            self.found.broken.append(f"L2: {batch.id} has {len(got)} of {len(sent)} rows once each")

    def _kill(self) -> None:
        there = self._there()
        who = self._chance.choice(sorted(there))
        try:
            os.kill(there[who], signal.SIGKILL)
        except ProcessLookupError:
            return
        if who in ("worker", "server"):  # its workers end with it
            self.deaths.append(time.monotonic())
        self.found.kills[who] += 1
        if who == "server":
            self._server.wait()
            self._start()

    def _there(self) -> dict[str, int]:
        """The processes by their roles."""
        found = {"server": self._server.pid}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_text(errors="replace") + "\0"
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            # The embedded Redis outlives who started it; its files are in the home.
            if parent == self._server.pid or str(self._folder / "home") in command:
                for word, role in _ROLES.items():
                    if word in command:
                        found[role] = int(entry.name)
        return found


def _request(name: str, text: str) -> dict[str, object]:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 20,
    }
    return {"custom_id": name, "method": "POST", "url": _URL, "body": body}
