"""S2: a run full of faults, and afterwards a search for two canaries, the key's and the prompt's.

Not only as they are written: whatever was compressed is unpacked and searched too.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis

from scripts.torturing.installation import Installation
from tests.acceptance.conftest import wait_until
from tests.conftest import CANARY

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KEY = CANARY.encode()
PROMPT = b"canary-prompt-8d21"
TENANT = "canary-tenant-5c77"
"""The value of a header beside the key."""
ROWS = 120
PASSWORD = "only-for-this-test"
_FRAME = b"\x28\xb5\x2f\xfd"
_PAGES = ("", "workers", "tasks", "broker", "api/tasks", "api/workers", "metrics")
UNDER_WAY = {"RECEIVED", "STARTED"}
_MAY_TRAVEL = re.compile(rb"ns:(?:payload|results):")
"""The Redis keys below which prompts and answers travel."""


def layers(data: bytes) -> Iterator[bytes]:
    """The bytes, and all that is compressed somewhere in them."""
    yield data
    start = data.find(_FRAME)
    while start >= 0:
        with contextlib.suppress(zstd.ZstdError, EOFError):
            yield from layers(zstd.ZstdDecompressor().decompress(data[start:]))
        start = data.find(_FRAME, start + 1)


def holds(data: bytes, canary: bytes) -> bool:
    """Whether the canary is in there."""
    return any(canary in layer for layer in layers(data))


class Spy:
    """Looks at everything in Redis again and again, and at the arguments of all processes."""

    def __init__(self, port: int) -> None:
        self._redis: Any = Redis(port=port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.with_key: set[bytes] = set()
        self.with_prompt: set[bytes] = set()
        self.with_tenant: set[bytes] = set()
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._redis.close()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for key in self._redis.keys("*"):
                for value in (key, *self._values(key)):
                    if holds(value, KEY):
                        self.with_key.add(key)
                    if holds(value, PROMPT):
                        self.with_prompt.add(key)
                    if holds(value, TENANT.encode()):
                        self.with_tenant.add(key)
            arguments = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, check=True)
            if KEY in arguments.stdout:
                self.with_key.add(b"ps")
            self.looks += 1

    def _values(self, key: bytes) -> Iterator[bytes]:
        readers: dict[bytes, Callable[[], Any]] = {
            b"string": lambda: [self._redis.get(key)],
            b"list": lambda: self._redis.lrange(key, 0, -1),
            b"set": lambda: self._redis.smembers(key),
            b"zset": lambda: self._redis.zrange(key, 0, -1),
            b"hash": lambda: [part for pair in self._redis.hgetall(key).items() for part in pair],
            b"stream": lambda: [
                value for _, fields in self._redis.xrange(key) for value in fields.values()
            ],
        }
        kind = self._redis.type(key)
        if kind != b"none":
            yield from (value for value in readers[kind]() if value is not None)


def states(where: str) -> set[str]:
    """Those of all chunks, as Flower shows them."""
    *_, tasks = (json.loads(page) for page in flower_pages(where, "api/tasks"))
    return {task["state"] for task in tasks.values()}


def flower_pages(where: str, *pages: str) -> Iterator[bytes]:
    """What Flower shows, with the password."""
    ticket = b64encode(f"nightshift:{PASSWORD}".encode()).decode()
    for page in pages or _PAGES:
        request = urllib.request.Request(where + page, headers={"Authorization": f"Basic {ticket}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            yield answer.read()


@pytest.mark.timeout(240)
def test_s2_the_key_is_nowhere_and_prompts_only_where_they_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_LOG", "DEBUG")
    monkeypatch.setenv("NIGHTSHIFT_PORT", "0")
    monkeypatch.setenv("NIGHTSHIFT_FLOWER_PASSWORD", PASSWORD)
    endpoint = ("--latency", "uniform:0.1:0.5", "--key", CANARY, "--fault", "mix:share=0.1")
    source = tmp_path / "input" / "night.jsonl"
    source.parent.mkdir()
    source.write_text("".join(line(number) for number in range(ROWS)))

    with (
        Installation(tmp_path / "house", workers=2, endpoint=endpoint) as house,
        Spy(house.port) as spy,
    ):
        house.start("flower")
        log = house.folder / "flower.log"
        wait_until("Flower is there", lambda: b"Flower is at" in log.read_bytes())
        where = re.findall(r"http://\S+", log.read_text())[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(where, timeout=20)
        believed = ("--stop-after", "2", "--stop-after-rows", "2")
        job = house.command("submit", str(source), "-o", str(house.output("night")), *believed)
        wait_until("some calls are billed", lambda: len(house.simulator.book().billed()) >= 20)
        house.kill("worker-0")
        house.start("worker-0")
        house.simulator.control("keys", {"allow": ["another"]})
        wait_until("it is paused", lambda: house.is_paused(job))
        left_behind = {path: path.read_bytes() for path in files(house.folder)}
        house.simulator.control("keys", {"allow": [CANARY]})
        wait_until("it is over", lambda: over(house, job))
        # One of its workers was killed, and never told how its chunks ended.
        wait_until("Flower shows no chunk under way", lambda: not states(where) & UNDER_WAY)
        pages = list(flower_pages(where))
        told = [house.command(*words, job) for words in (("status",), ("cost",), ("results",))]

    assert spy.looks > 10
    assert spy.with_key == set()
    assert spy.with_prompt
    assert [key for key in spy.with_prompt if not _MAY_TRAVEL.match(key)] == []

    everything = left_behind | {path: path.read_bytes() for path in files(house.folder)}
    assert [path for path, data in everything.items() if holds(data, KEY)] == []
    with_prompt = {
        path.relative_to(house.folder) for path, data in everything.items() if holds(data, PROMPT)
    }
    assert Path("home", "jobs", job, "input.blocks") in with_prompt
    assert {path.parts[0] for path in with_prompt} <= {"home", "scratch"}
    assert [path for path in with_prompt if not allowed(path)] == []

    shown = b"\n".join([*pages, *(text.encode() for text in told)])
    assert job.encode() in shown
    assert KEY not in shown
    assert PROMPT not in shown
    crashes = Path(tempfile.gettempdir()).glob("nightshift-crash-*.txt")
    assert not any(KEY in path.read_bytes() or PROMPT in path.read_bytes() for path in crashes)


def test_s2_an_endpoint_that_quotes_key_and_prompt_reaches_no_further_than_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_LOG", "DEBUG")
    monkeypatch.setenv("NIGHTSHIFT_PORT", "0")
    monkeypatch.setenv("NIGHTSHIFT_FLOWER_PASSWORD", PASSWORD)
    monkeypatch.setenv("NIGHTSHIFT_HEADER", "X-Tenant=env:TENANT")
    monkeypatch.setenv("TENANT", TENANT)
    encoded = b64encode(b"Bearer " + KEY).decode()
    words = f"Authorization: Bearer {CANARY} ({encoded}) is no key \x1b[2J\n for {PROMPT.decode()}"
    words += f", tenant: {TENANT}"
    rule = {"kind": "status", "code": 401, "text": words}
    endpoint = ("--key", CANARY, "--fault", json.dumps(rule))
    source = tmp_path / "night.jsonl"
    source.write_text("".join(line(number) for number in range(3)))

    with (
        Installation(tmp_path / "house", workers=1, endpoint=endpoint) as house,
        Spy(house.port) as spy,
    ):
        house.start("flower")
        log = house.folder / "flower.log"
        wait_until("Flower is there", lambda: b"Flower is at" in log.read_bytes())
        where = re.findall(r"http://\S+", log.read_text())[0]
        job = house.command("submit", str(source), "-o", str(house.output("night")))
        wait_until("it is paused", lambda: house.is_paused(job))
        wait_until("Flower knows", lambda: b"key_rejected" in pages(where, job))
        shown = pages(where, job)
        told = house.command("status", job)
        logs = b"".join(path.read_bytes() for path in house.folder.glob("*.log"))

    everything = {path: path.read_bytes() for path in files(house.folder)}
    assert spy.with_key == set()
    assert [key for key in spy.with_prompt if not _MAY_TRAVEL.match(key)] == []
    assert not holds(shown, KEY)
    assert not holds(shown, PROMPT)
    assert not holds(logs, PROMPT)
    assert b"endpoint.key_rejected" in logs
    assert "[key redacted]" in told
    assert spy.with_tenant == set()
    assert not holds(shown, TENANT.encode())
    for secret in (KEY, encoded.encode(), TENANT.encode()):
        assert [path for path, data in everything.items() if holds(data, secret)] == []


def pages(where: str, job: str) -> bytes:
    """All that Flower tells of a job, for people and for programs."""
    ticket = b64encode(f"nightshift:{PASSWORD}".encode()).decode()
    found = b""
    for page in ("jobs", f"jobs/{job}", "api/jobs", f"api/jobs/{job}", "tasks", "api/tasks"):
        request = urllib.request.Request(where + page, headers={"Authorization": f"Basic {ticket}"})
        with contextlib.suppress(urllib.error.HTTPError):
            found += urllib.request.urlopen(request, timeout=20).read()
    return found


def over(house: Installation, job: str) -> bool:
    """Whether the outputs stand. A pause is ended: some of the faults ask for it."""
    if house.is_paused(job):
        house.command("resume", job)
    return house.is_over("night")


def allowed(path: Path) -> bool:
    """Whether a file of the house may hold prompts: the job's own folder, and outboxes."""
    return path.parts[:2] == ("home", "jobs") or "outbox" in path.parts


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder."""
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def line(number: int) -> str:
    """A request with the canary in its prompt."""
    text = f"{PROMPT.decode()} номер {number}"
    body = {
        "model": "minimax/minimax-m1",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 200,
    }
    request = {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps({**request, "body": body}, ensure_ascii=False) + "\n"
