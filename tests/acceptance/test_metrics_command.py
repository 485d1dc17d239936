"""`nightshift coordinator --metrics-port`: what a scrape of the command finds."""

from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, Workdir


def address(log: Path) -> str:
    """Where the coordinator says that its metrics are."""
    deadline = time.monotonic() + 60
    while "metrics: " not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return log.read_text().partition("metrics: ")[2].split()[0]


def test_a_coordinator_serves_its_metrics_on_this_machine_alone(
    workdir: Workdir, server: Server
) -> None:
    workdir.environ |= {"NIGHTSHIFT_REDIS_URL": server.url, "NIGHTSHIFT_LANG": "en"}
    workdir.start("coordinator", "--metrics-port", "0")

    url = address(workdir.folder / "coordinator-0.log")

    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url) as answer:
        found = {each.name for each in text_string_to_metric_families(answer.read().decode())}
    assert {"nightshift_redis_up", "nightshift_workers"} <= found


def test_a_port_that_is_taken_is_told_and_nothing_is_begun(
    workdir: Workdir, server: Server
) -> None:
    workdir.environ |= {"NIGHTSHIFT_REDIS_URL": server.url, "NIGHTSHIFT_LANG": "en"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        caps = ("--budget-rub-per-day", "7")
        done = workdir.run("coordinator", "--metrics-port", str(port), *caps)

    assert done.returncode == 2
    assert f"cannot expose metrics on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "today: 0.00 ₽ spent, no cap" in workdir.run("budget").stdout
