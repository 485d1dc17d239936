"""Each way in which a job can stand still, made by real deaths: how soon is it told, and where?

Asked side by side: `status`, `doctor`, `watch`, Flower's list, its `/metrics`, and a webhook.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jobs.stall import Stall
from scripts.torturing.installation import Installation, free_port

SOON_S = 10.0
"""All places but the webhook, which waits for half a minute so that a restart wakes nobody."""

_PATIENCE_S = 60.0
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
        self.job = house.submit("stalls", 5000, "--notify-url", url, "--max-in-flight", "4")
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
            "doctor": lambda: meaning in (done := run("doctor")).stdout and done.returncode == 4,
            "watch": lambda: f'"reason": "{way}"' in self.watched(),
            "Flower": lambda: "talled" in self.page("/jobs"),
            "metrics": lambda: metric in self.page("/metrics"),
            "webhook": lambda: f"stalled.{way}" in self.hook.heard,
        }

    def watched(self) -> str:
        """What `watch --json` has written."""
        return (self.house.folder / "watch.log").read_text()


def measure(folder: Path, way: Stall, blow: Callable[[Scene], None]) -> dict[str, float]:
    """Seconds from the blow to the beginning of the look that told of it; `inf` where none did."""
    with Installation(folder, workers=1, endpoint=("--latency", "uniform:0.2:0.4")) as house:
        house.keys_are_ours = False
        scene = Scene(house)
        house.arguments["watch"] = (scene.job, "--json")
        house.start("watch")
        time.sleep(3)
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


WAYS: dict[str, tuple[Stall, Callable[[Scene], None]]] = {
    "coordinator": (Stall.NO_COORDINATOR, lambda scene: scene.house.kill("coordinator")),
    "worker": (Stall.NO_WORKER, lambda scene: scene.house.kill("worker-0")),
    "key": (Stall.NO_WORKER, _other_key),
    "redis": (Stall.REDIS_AWAY, lambda scene: scene.house.kill("server")),
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
        limits = {place: 45.0 if place == "webhook" else SOON_S for place in found}
        late += [f"{name}: {place}" for place, after in found.items() if after > limits[place]]
    return late
