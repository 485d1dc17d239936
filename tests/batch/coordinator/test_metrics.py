"""Metrics for Prometheus, and that what docs/monitoring asks for is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY

from batch.coordinator.coordinator_service import Coordinator
from batch.coordinator.job_controller import JobController
from batch.coordinator.metrics import MOST_CODES, MOST_JOBS, Metrics
from batch.coordinator.outputs import Writer
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.task_publisher import Sender
from batch.money.spend_tracker import Allowance
from batch.reports.page import visible
from batch.store.home import Home
from batch.watching.latest_incidents import OTHER, Troubles
from batch.watching.progress import progress_of
from batch.watching.time_series import Failure
from jobs.errors import StorageUnavailable, UsageError
from jobs.message import N_
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import (
    BASE_URL,
    JOB,
    FakePost,
    FakeSender,
    call,
    closing,
    delivery,
    prices,
    publish,
    result,
)

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "monitoring"
GUIDE = (ROOT / "docs" / "monitoring.md").read_text()
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
BOARD = json.loads((FOLDER / "grafana.json").read_text())
RULES: list[dict[str, Any]] = ALERTS["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
HOSTILE = 'night "\\\n\u202e'
NAME = re.compile(r"\bnightshift_\w+")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')

WORKERS = [
    {
        "base_url": BASE_URL,
        "outbox_lag_s": 1.5,
        "limits": [{"scope": "abc", "limit": 40, "down": False}],
        "jobs": {JOB: {"in_flight": 3, "refused": {"1": {"endpoint.rate_limited": 1}}}},
    }
]


def told(metrics: Metrics) -> dict[str, Metric]:
    """What a scrape over HTTP finds, read by Prometheus's own parser."""
    port = metrics.serve(0, "127.0.0.1")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample of that name and these labels."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    """Those of a coordinator that works on a job with answers, failures and refusals."""
    one, post = Metrics(), FakePost()
    publish(tmp_path, 8, budget={"rub": "50"}, chunk_size=4, name=HOSTILE, priced=prices()).close()
    coordinator = Coordinator(
        Home(tmp_path), cast(CoordinatorRedis, post), cast(Sender, FakeSender()), metrics=one
    )
    post.present = WORKERS
    coordinator._turn()
    store = Home(tmp_path).open(JOB)
    chunks = [chunk.chunk for chunk in store.chunks.alive()]
    store.close()
    of = dict(zip(range(8), [chunks[0]] * 4 + [chunks[-1]] * 4, strict=True))
    post.send(
        delivery(
            [call(n, of[n], cost="0.25") for n in range(4)],
            [result(n, of[n], code="" if n < 4 else "endpoint.context_length") for n in range(8)],
            [closing(n, refusals={"endpoint.rate_limited": 5} if n == 1 else {}) for n in chunks],
        )
    )
    coordinator._take_in()
    coordinator._turn()
    coordinator.close()
    return one


def test_a_scrape_tells_how_jobs_stand(metrics: Metrics) -> None:
    families = told(metrics)

    assert value(families, "nightshift_workers") == 1
    assert value(families, "nightshift_redis_up") == 1
    assert value(families, "nightshift_pace_limit", scope="abc") == 40
    assert value(families, "nightshift_outbox_lag_seconds") == 1.5
    assert value(families, "nightshift_job_requests", job_id=JOB, state="completed") == 4
    assert value(families, "nightshift_job_requests", job_id=JOB, state="failed") == 4
    assert value(families, "nightshift_job_requests", job_id=JOB, state="left") == 0
    assert value(families, "nightshift_job_spent_roubles", job_id=JOB) == 1
    assert value(families, "nightshift_job_budget_roubles", job_id=JOB) == 50
    assert value(families, "nightshift_job_in_flight", job_id=JOB) == 3
    assert value(families, "nightshift_job_failures", code="endpoint.context_length") == 4
    assert value(families, "nightshift_job_refusals_total", kind="endpoint.rate_limited") == 5
    assert value(families, "nightshift_job_latency_seconds_count", job_id=JOB) == 4
    assert value(families, "nightshift_job_latency_seconds_bucket", le="2.5") == 4
    assert value(families, "nightshift_job_latency_seconds_bucket", le="1.0") == 0


def test_a_hostile_name_is_one_label_and_reorders_nothing(metrics: Metrics) -> None:
    (sample,) = told(metrics)["nightshift_job_info"].samples

    assert sample.labels["name"] == visible(HOSTILE)
    assert "\n" not in sample.labels["name"]


def test_its_own_registry_holds_nothing_else(metrics: Metrics) -> None:
    assert all(name.startswith("nightshift_") for name in told(metrics))
    assert not any(family.name.startswith("nightshift_") for family in REGISTRY.collect())


def test_there_are_only_so_many_jobs_and_codes(tmp_path: Path) -> None:
    metrics = Metrics()
    store = publish(tmp_path, 1)
    allowance = Allowance(Home(tmp_path))
    job = JobController(
        store,
        cast(CoordinatorRedis, FakePost()),
        cast(Sender, FakeSender()),
        allowance,
        Writer(),
        Troubles(),
    )
    progress = progress_of(store.job(), 0.0)
    for number in range(500):
        job.status.series.failed(Failure(1000.0, 1, f"code-{number}", 400, 1), 2000.0)
        job.status.refused[f"code-{number}"] += 1
    for number in range(MOST_JOBS + 20):
        job.id = f"job_{number}"
        metrics.note(job, replace(progress, job=job.id))
    store.close()

    families = told(metrics)

    assert len(families["nightshift_job_info"].samples) == MOST_JOBS
    assert len(families["nightshift_job_failures"].samples) == MOST_JOBS * (MOST_CODES + 1)
    others = value(families, "nightshift_job_refusals_total", job_id="job_119", kind=OTHER)
    assert others == 500 - MOST_CODES


@pytest.mark.parametrize("error", [StorageUnavailable(N_("the caps are damaged")), OSError()])
def test_books_that_cannot_be_read_hide_nothing_else(error: Exception) -> None:
    def unreadable() -> Any:
        raise error

    families = told(Metrics(unreadable))

    assert families["nightshift_key_spent_roubles"].samples == []
    assert value(families, "nightshift_redis_up") == 1


def test_a_port_in_use_is_told_in_a_sentence() -> None:
    port = Metrics().serve(0, "127.0.0.1")

    with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
        Metrics().serve(port, "127.0.0.1")


def test_redis_away_is_told(metrics: Metrics) -> None:
    metrics.redis_up = False

    assert value(told(metrics), "nightshift_redis_up") == 0


# ---- what is ready to be used -------------------------------------------------------------------


def names_and_labels(metrics: Metrics) -> dict[str, set[str]]:
    """All names that a scrape may find, each with its labels; those without a sample included."""
    found: dict[str, set[str]] = {}
    for family in metrics.collect():
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_every_figure_that_a_rule_or_a_plot_asks_for_is_there(metrics: Metrics, query: str) -> None:
    known = names_and_labels(metrics)
    states, reasons = set(JobState), set(PauseReason)

    for name in NAME.findall(query):
        assert name in known, name
    for name, inside in re.findall(r"\b(nightshift_\w+)\{([^}]*)\}", query):
        assert set(LABEL.findall(inside)) <= known[name], (name, inside)
    for reason in re.findall(r'reason=~?"([^"]*)"', query):
        assert set(reason.split("|")) <= reasons
    for state in re.findall(r'nightshift_job_state\{state="(\w+)"', query):
        assert state in states
    assert query.count("(") == query.count(")")


def test_every_rule_says_what_is_the_matter() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="NO PROMTOOL: install Prometheus")
def test_prometheus_itself_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(FOLDER / "alerts.yml")], check=True)


def test_the_dashboard_has_a_place_for_every_panel() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_guide_explains_every_name_and_no_other(metrics: Metrics) -> None:
    families = list(metrics.collect())
    there = {each.name + ("_total" if each.type == "counter" else "") for each in families}

    assert set(re.findall(r"`(nightshift_\w+)", GUIDE)) == there
