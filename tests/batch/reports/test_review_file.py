"""Rows for a person to check, and what the check says."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

import msgspec
import pytest

from batch.reports import write_all
from batch.reports.review_file import read_review, write_review
from batch.store.jobstore import JobStore
from batch.tables.score import REVIEW
from jobs.errors import StorageUnavailable, UsageError
from jobs.names import REPORT
from jobs.table_task import Task
from tests.batch.tables.playing import Play, table_job

CHOICES = ("good", "bad")
WORDS = {"good": "lovely great nice fine", "bad": "awful broken late rude"}


@pytest.fixture
def job(tmp_path: Path) -> JobStore:
    """Rows that say what they are, but for the 20th, which is answered against its words."""
    dice = Random(5)
    rows = []
    for number in range(60):
        truth = CHOICES[number % 2]
        told = CHOICES[1 - number % 2] if number == 20 else truth
        rows.append(f"=n{number} {' '.join(dice.choices(WORDS[truth].split(), k=5))} label: {told}")
    task = Task(prompt="Tone: {{ review }}", choices=CHOICES, repairs=3)
    store = table_job(tmp_path, rows, task)
    Play(store, dice, slips=0.1).run()
    return store


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_most_likely_wrong_comes_first_and_a_third_is_random(
    job: JobStore, tmp_path: Path
) -> None:
    path = tmp_path / "check.csv"
    assert write_review(job, path, 18) == 18
    found = read(path)

    assert list(found[0]) == ["row", "why", "review", "answer", "correct"]
    assert len({row["row"] for row in found}) == 18
    assert all(row["review"].startswith("'=n") for row in found)  # no formula in a spreadsheet
    suspect = [row for row in found if row["why"] != "random"]
    assert len(suspect) == 12
    marked = [row["why"] for row in suspect if row["why"] != "unlike the others with this answer"]
    assert marked
    assert [row["why"] for row in suspect[: len(marked)]] == marked
    # Row 22 of the file is the 20th from 0: its words are those of the other answer.
    likely = {row["row"] for row in suspect[: len(marked) + 1]} | {
        row["row"] for row in found if row["why"] == "random"
    }
    assert "22" in likely


def test_what_a_person_writes_scores_the_job_and_empty_rows_do_not_count(
    job: JobStore, tmp_path: Path
) -> None:
    path = tmp_path / "check.csv"
    write_review(job, path, 12)
    with pytest.raises(UsageError, match="says of no row"):
        read_review(job, path)
    found = read(path)
    for place, row in enumerate(found):
        other = CHOICES[row["answer"] == "good"]
        row["correct"] = {0: other, 1: row["answer"], 2: ""}.get(place, "+")
    with path.open("w", encoding="cp1251", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(found)

    review = read_review(job, path)

    assert (review.suspect.rows, review.suspect.right) == (7, 6)
    assert (review.random.rows, review.random.right) == (4, 4)
    job.trials.find(REVIEW, msgspec.json.encode(review).decode())
    report = (write_all(job) / REPORT).read_text()
    assert "rows most likely wrong: 6 of 7 right, accuracy 85.7 %" in report
    assert "random rows: 4 of 4 right, accuracy 100.0 %" in report
    with pytest.raises(UsageError, match="exists already"):
        write_review(job, path, 3)


def test_a_table_is_whole_or_absent_and_its_owners_alone(
    job: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    path = tmp_path / "link" / "check.csv"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.fsync", fail)
        with pytest.raises(StorageUnavailable, match="No space left"):
            write_review(job, path, 3)
        assert list((tmp_path / "real").iterdir()) == []

    assert write_review(job, path, 3) == 3
    assert path.stat().st_mode & 0o777 == 0o600
