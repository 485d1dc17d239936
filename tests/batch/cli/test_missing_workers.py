"""Why no worker runs a job: none is there, or those that are have another key or other headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch.cli.missing_workers import lack_of_workers
from jobs.signing import fingerprint
from jobs.states import JobState
from jobs.worker_heartbeat import WorkerStatus
from tests.batch.making import publish

KEY, OTHER = fingerprint("sk-1"), fingerprint("sk-2")
ORG, TEAM = ({"X-Org": "1"}, {"X-Team": "1"})
ORGS = fingerprint("sk-1", ORG)


@pytest.mark.parametrize(
    ("job", "workers", "told"),
    [
        (KEY, [KEY], ""),
        (ORGS, [ORGS, KEY], ""),
        (KEY, [], "no worker is online"),
        (KEY, [OTHER], "no worker has this job's API key"),
        (ORGS, [fingerprint("sk-2", ORG)], "no worker has this job's API key"),
        (ORGS, [KEY, fingerprint("sk-1", TEAM)], "no worker sends this job's headers (x-org)"),
        (fingerprint("", ORG), [KEY], "no worker sends this job's headers (x-org)"),
        (fingerprint("", ORG), [ORGS, fingerprint("sk-2", ORG)], "different API keys"),
        (KEY, [ORGS], "sends headers that the job was submitted without"),
        ("", [KEY, OTHER], "different API keys"),
    ],
)
def test_who_is_lacking_is_told(job: str, workers: list[str], told: str, tmp_path: Path) -> None:
    row = publish(tmp_path).job()
    names = ("x-org",) if "." in job else ()
    spec = row.spec.model_copy(update={"key": job, "headers": names})
    there = [WorkerStatus(base_url=spec.base_url, key=key) for key in workers]

    found = lack_of_workers(replace(row, spec=spec, state=JobState.IN_PROGRESS), there, 0)

    assert told in found
    assert bool(told) == bool(found)
