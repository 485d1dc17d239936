"""Each way in which a job can stand still, made by real deaths: how soon is it told, and where?

Asked side by side: `status`, `doctor`, `watch`, Flower's list, its `/metrics`, and a webhook.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from batch.credentials import post_seal
from batch.settings import read_settings
from jobs.names import DATABASE, worker_key
from jobs.stall import Stall
from scripts.torturing.installation import Installation, free_port

SOON_S = 10.0
"""All places but the webhook, which waits for half a minute so that a restart wakes nobody."""

_PATIENCE_S = 60.0
_TIMEOUT_S = 3
_DUE_S = _TIMEOUT_S + 10.0
"""Until a call has taken longer than any may."""

_PASSWORD = "of-a-page-for-a-minute"  # noqa: S105  of a page on loopback for a minute


class Webhook:
    """Hears of events."""

    def __init__(self) -> None:
        heard = self.heard = []

        class Hears(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                heard.append(json.loads(body)["event"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Hears)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    heard: list[str]


class Scene:
    """A job under way, with everything around it that can tell of it."""

    def __init__(self, house: Installation) -> None:
        self.house, self.hook, self.port = house, Webhook(), free_port()
        house.start(
            "flower",
            environ={"NIGHTSHIFT_PORT": str(self.port), "NIGHTSHIFT_FLOWER_PASSWORD": _PASSWORD},
        )
        url = f"http://127.0.0.1:{self.hook.server.server_port}/"
        options = ("--notify-url", url, "--max-in-flight", "4", "--timeout", str(_TIMEOUT_S))
        self.job = house.submit("stalls", 5000, *options)
        while not house.at_home(self.job, "SELECT 1 FROM results LIMIT 1"):
            time.sleep(0.1)
        while self.job not in self.page("/jobs"):
            time.sleep(0.2)

    def page(self, path: str) -> str:
        """A page of Flower's; "" where it does not answer."""
        given = base64.b64encode(f"nightshift:{_PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Basic {given}"}
        )
        with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return str(answer.read().decode())
        return ""

    def places(self, way: Stall) -> dict[str, Callable[[], bool]]:
        """Where to look, and whether it is told there."""
        run, meaning = self.house.run_command, str(way.rule.meaning)
        metric = f'reason="{way}"}} 1'
        return {
            "status": lambda: f'"reason": "{way}"' in run("status", self.job, "--json").stdout,
            "doctor": lambda: _is_told(run("doctor"), self.job, meaning),
            "watch": lambda: f'"reason": "{way}"' in self.watched(),
            "Flower": lambda: "talled" in self.page("/jobs"),
            "metrics": lambda: metric in self.page("/metrics"),
            "webhook": lambda: f"stalled.{way}" in self.hook.heard,
        }

    @property
    def file(self) -> Path:
        """The job's own."""
        return self.house.folder / "home" / "jobs" / self.job / DATABASE

    def watched(self) -> str:
        """What `watch --json` has written."""
        return (self.house.folder / "watch.log").read_text()


def _is_told(done: CompletedProcess[str], job: str, meaning: str) -> bool:
    """Whether `doctor` says so; of files it says what exactly is wrong with them."""
    told = [line for line in done.stdout.splitlines() if job in line and "stalled" in line]
    exactly = meaning == Stall.JOB_UNUSABLE.rule.meaning
    return done.returncode == 4 and any(exactly or meaning in line for line in told)


def measure(folder: Path, way: Stall, blow: Callable[[Scene], None]) -> dict[str, float]:
    """Seconds from the blow to the beginning of the look that told of it; `inf` where none did."""
    with Installation(folder, workers=1, endpoint=("--latency", "uniform:0.2:0.4")) as house:
        house.keys_are_ours = False
        scene = Scene(house)
        house.arguments["watch"] = (scene.job, "--json")
        house.start("watch")
        while not scene.watched():
            time.sleep(0.2)
        began, found = time.monotonic(), dict[str, float]()

        def look(name: str, told: Callable[[], bool]) -> None:
            while (after := time.monotonic() - began) < _PATIENCE_S:
                if told():
                    found[name] = after
                    return
                time.sleep(0.3)
            found[name] = float("inf")

        blow(scene)
        looks = [threading.Thread(target=look, args=place) for place in scene.places(way).items()]
        for each in looks:
            each.start()
        for each in looks:
            each.join()
        return found


def _other_key(scene: Scene) -> None:
    scene.house.start("worker-other", environ={"ROUTERAI_API_KEY": "canary-of-another"})
    scene.house.kill("worker-0")


def _zeroed(scene: Scene) -> None:
    with scene.file.open("r+b") as file:
        file.write(bytes(scene.file.stat().st_size))


def _cut(scene: Scene) -> None:
    os.truncate(scene.file, scene.file.stat().st_size // 2)


def _gone(scene: Scene) -> None:
    scene.file.parent.rename(scene.house.folder / "gone")


def _home_gone(scene: Scene) -> None:
    jobs = scene.file.parent.parent
    jobs.rename(jobs.with_name("gone"))


def _hangs(scene: Scene) -> None:
    """A worker that beats, and of which nothing else comes any more."""
    home = scene.house.folder / "home"
    seal = post_seal(read_settings({"NIGHTSHIFT_HOME": str(home)}), home)
    redis = Redis(port=scene.house.port)
    (key,) = redis.scan_iter(worker_key("*"))
    name = key.decode()
    told = json.loads(seal.verify(name, cast(bytes, redis.get(key))))
    scene.house.kill("worker-0")

    def beat() -> None:
        with suppress(RedisError):
            while True:
                told["at"] = float(redis.time()[0])
                redis.set(key, seal.sign(name, json.dumps(told).encode()), px=15_000)
                time.sleep(1)

    threading.Thread(target=beat, daemon=True).start()


WAYS: dict[str, tuple[Stall, Callable[[Scene], None]]] = {
    "coordinator": (Stall.NO_COORDINATOR, lambda scene: scene.house.kill("coordinator")),
    "worker": (Stall.NO_WORKER, lambda scene: scene.house.kill("worker-0")),
    "key": (Stall.NO_WORKER, _other_key),
    "redis": (Stall.REDIS_AWAY, lambda scene: scene.house.kill("server")),
    "zeroed": (Stall.JOB_UNUSABLE, _zeroed),
    "cut": (Stall.JOB_UNUSABLE, _cut),
    "gone": (Stall.JOB_UNUSABLE, _gone),
    "home": (Stall.JOB_UNUSABLE, _home_gone),
    "hung": (Stall.NO_PROGRESS, _hangs),
}
"""Each by what is killed or spoilt."""


def run(folder: Path, names: list[str]) -> list[str]:
    """Makes each way, prints when it was told, returns what was told too late."""
    late = []
    for name in names:
        way, blow = WAYS[name]
        found = measure(folder / name, way, blow)
        told = ", ".join(f"{place} {after:.1f} s" for place, after in found.items())
        print(f"{name:>12}  {way}: {told}", flush=True)
        due_s = _DUE_S if way is Stall.NO_PROGRESS else 0.0
        limits = {place: due_s + (45.0 if place == "webhook" else SOON_S) for place in found}
        late += [f"{name}: {place}" for place, after in found.items() if after > limits[place]]
    return late
