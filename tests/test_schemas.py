"""The JSON that programs get is what docs/schemas say, to the field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch.cli.job_snapshot import Glance
from batch.notifications.notification import FOR_PEOPLE, word_of
from batch.reports import write_all
from batch.reports.cost_report import cost_json
from batch.resume_plan import plan
from batch.settings import read_settings
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.names import ERRORS, OUTPUT
from scripts import schemas
from tests.batch.reports.test_reports import one_of_each


@pytest.mark.parametrize("name", schemas.DOCUMENTS)
def test_a_schema_is_that_of_its_type(name: str) -> None:
    path = schemas.FOLDER / f"{name}.schema.json"

    assert path.read_text(encoding="utf-8") == schemas.schema(name), (
        "run: python -m scripts.schemas"
    )


def documents(store: JobStore, folder: Path) -> dict[str, Any]:
    """Made of a job with one of everything."""
    job, why = store.job(), store.why()
    word = word_of(replace(job, failed=2), "completed", why)
    glance = Glance(Home(folder), read_settings({"NIGHTSHIFT_HOME": str(folder)}))
    return {
        "job": glance.all_of(store),
        "cost": cost_json(store),
        "resume": {**plan(store, job.spec, ["endpoint.timeout"], None).as_json(), "dry_run": True},
        "notification": {key: each for key, each in word.items() if key not in FOR_PEOPLE},
    }


def test_what_programs_get_has_the_fields_of_its_schema_and_no_other(tmp_path: Path) -> None:
    for name, document in documents(one_of_each(tmp_path), tmp_path).items():
        kind = schemas.DOCUMENTS[name]
        schemas.check(json.dumps(document), kind)
        fields = {each.name for each in msgspec.structs.fields(kind)}
        assert set(document) == fields, f"{name}: describe what is new in scripts/schemas.py"


def test_lines_have_the_fields_of_their_schema(tmp_path: Path) -> None:
    write_all(one_of_each(tmp_path))

    for name in (OUTPUT, ERRORS):
        for line in (tmp_path / "out" / name).read_bytes().splitlines():
            schemas.check(line, schemas.Line)
            facts = {each.name for each in msgspec.structs.fields(schemas.Facts)}
            assert set(json.loads(line)["nightshift"]) <= facts
