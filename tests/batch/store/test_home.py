"""The home: finding a job, and the one coordinator (FAULTS P15, S1)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batch.store.home import Home
from batch.store.jobstore import LIFT
from jobs.errors import AlreadyRunning, NoSuchJob, StorageUnavailable
from jobs.names import DATABASE, LOCK
from tests.batch.making import JOB, OTHER, publish

ROOT = Path(__file__).parents[3]


def home_with(folder: Path, *jobs: str) -> Home:
    for job in jobs:
        publish(folder, 1, job=job, output_dir="/out").close()
    return Home(folder)


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (JOB, JOB),
        ("latest", OTHER),
        ("job_01k1", JOB),
        ("01k2", OTHER),
        (OTHER[:-1], OTHER),
    ],
)
def test_a_job_is_found_by_its_id_a_beginning_of_it_or_latest(
    tmp_path: Path, named: str, found: str
) -> None:
    assert home_with(tmp_path, JOB, OTHER).find(named) == found


@pytest.mark.parametrize(
    "named", ["", "job_", "01k", "01k3", "k1", "../" + JOB, JOB + "x", "*", ".", "\x00"]
)
def test_anything_else_names_no_job_or_several_s1(tmp_path: Path, named: str) -> None:
    with pytest.raises(NoSuchJob):
        home_with(tmp_path, JOB, OTHER).find(named)


@pytest.mark.parametrize("named", [OTHER[-6:], OTHER[5:], "Отзывы за ночь"])
def test_a_job_is_found_by_an_end_of_its_id_and_by_its_name(tmp_path: Path, named: str) -> None:
    same_end = JOB[:-6] + "000000"
    publish(tmp_path, 1, job=same_end).close()
    publish(tmp_path, 1, job=OTHER, name="Отзывы за ночь").close()

    assert Home(tmp_path).find(named) == OTHER


def test_a_name_of_several_jobs_is_told_with_their_ids(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJob, match=f"fits 2 jobs: {JOB}, {OTHER}"):
        home_with(tmp_path, JOB, OTHER).find("reviews")


def test_nothing_is_no_name_even_where_there_is_only_one_job(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJob, match="no job is given"):
        home_with(tmp_path, JOB).find("")


def test_an_ambiguous_beginning_is_told_with_the_jobs_that_it_fits(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJob, match=f"fits 2 jobs: {JOB}, {OTHER}"):
        home_with(tmp_path, JOB, OTHER).find("01k")


def test_an_empty_home_says_how_to_make_a_job(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJob, match="there are no jobs") as refusal:
        Home(tmp_path).find("latest")

    assert "nightshift run INPUT" in refusal.value.hint


def test_only_what_is_called_like_a_job_is_one(tmp_path: Path) -> None:
    home = home_with(tmp_path, JOB)
    for name in (f".{OTHER}.draft", "job_short", "notes", JOB.upper()):
        (home.jobs_folder / name).mkdir()

    assert home.job_ids() == [JOB]


def test_a_damaged_job_hides_no_other_and_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = home_with(tmp_path, JOB, OTHER)
    (home.jobs_folder / JOB / DATABASE).write_bytes(b"garbage" * 1000)

    assert [store.job().id for store in home.stores()] == [OTHER]
    assert JOB in caplog.text


def test_a_change_of_a_job_is_seen_on_its_file(tmp_path: Path) -> None:
    home = home_with(tmp_path, JOB)
    before = home.touched(JOB)
    time.sleep(0.02)

    store = home.open(JOB)
    store.want(LIFT)

    assert home.touched(JOB) > before
    store.close()
    assert home.touched(OTHER) == 0.0


# ── Places that cannot be a home (FAULTS F5, F15) ────────────────────────────────────────────────


def test_a_file_cannot_be_a_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnavailable, match="cannot be used") as refusal:
        Home(tmp_path / "file")

    assert "NIGHTSHIFT_HOME" in refusal.value.hint


def test_a_lock_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / LOCK).mkdir()

    with pytest.raises(StorageUnavailable, match="cannot be used"):
        home.lock()


@pytest.mark.parametrize(
    "name",
    [
        "with space and\nnewline",
        "ночь",
        os.fsdecode(b"not \xff utf-8"),
        "x" * 255,
        "-o --output-dir=%s {braces} 'quotes\"",
    ],
)
def test_a_home_may_be_called_anything_f15(tmp_path: Path, name: str) -> None:
    home = home_with(tmp_path / name, JOB)

    assert [store.job().id for store in home.stores()] == [JOB]
    assert home.find("latest") == JOB
    home.lock().release()


# ── One at a time ────────────────────────────────────────────────────────────────────────────────


def test_a_second_coordinator_is_refused_p15(tmp_path: Path) -> None:
    home = Home(tmp_path)
    lock = home.lock()

    with pytest.raises(AlreadyRunning, match="another nightshift process is running"):
        Home(tmp_path).lock()

    lock.release()
    Home(tmp_path).lock().release()


def test_whether_a_coordinator_is_at_work_can_be_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    seen = [home.is_coordinated()]
    lock = home.lock(JOB)
    seen += [home.is_coordinated(), home.is_coordinated(JOB), home.is_coordinated(OTHER)]
    lock.release()
    seen.append(home.is_coordinated(JOB))

    assert seen == [False, True, True, False, False]


def test_looking_is_not_taken_for_a_coordinator_and_keeps_none_away(tmp_path: Path) -> None:
    home, stop, seen = Home(tmp_path), threading.Event(), set[bool]()
    home.lock().release()

    def look() -> None:
        while not stop.is_set():
            seen.add(home.is_coordinated())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()

    assert seen == {False}
    home.lock().release()


def test_the_lock_of_a_killed_coordinator_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal, pathlib; from batch.store.home import Home;"
        "lock = Home(pathlib.Path(sys.argv[1])).lock(); print('held', flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    held = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )

    assert (held.stdout, held.returncode) == (b"held\n", -9)
    Home(tmp_path).lock().release()
