"""A data directory is put back from a backup while its jobs went on (real processes)."""

from __future__ import annotations

import json
import re
import shutil
import signal
from contextlib import closing
from pathlib import Path

from redis import Redis

from jobs.names import progress_key
from scripts.torturing.installation import SOON_LOST, Installation
from tests.faults.test_redis import until

ROWS = 100
LATENCY = ("--latency", "uniform:0.2:0.4", "--max-in-flight", "16")


def test_a_restored_data_directory_says_so_and_ends_with_every_call_in_the_books(
    tmp_path: Path,
) -> None:
    """The server was killed and started again in between, so that there is another fence, and the
    worker is at work all the time. Twice is bought what was bought since the backup, and no more.
    """
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with Installation(
        tmp_path, workers=1, endpoint=LATENCY, server=kept, constants=SOON_LOST
    ) as house:
        home, backup = tmp_path / "home", tmp_path / "backup"
        job = house.submit("night", ROWS, "--chunk-size", "8", "--budget-rub", "500")
        until("half is done", lambda: done(house, job) > 30)
        house.kill("coordinator", signal.SIGTERM)
        shutil.copytree(home, backup)
        house.start("coordinator")
        until("it goes on", lambda: done(house, job) > 60)
        house.kill("server")
        house.start("server")
        until("it goes on, and Redis knows it", lambda: published(house, job) > 60)
        house.kill("coordinator")
        shutil.rmtree(home)
        shutil.copytree(backup, home)
        before = set(house.at_home(job, "SELECT ordinal FROM results"))

        assert "was copied or restored" in said(house, "status")
        assert "was copied or restored" in said(house, "doctor")
        house.start("coordinator")
        until("it is noticed", lambda: house.is_paused(job))

        told = house.state(job)
        assert (told["reason"], told["needs_action"]) == ("restored", True)
        assert "this data directory is older than the job" in str(told["reason_text"])
        assert "restored from a backup" in said(house, "status", job)
        assert "restored from a backup" in said(house, "doctor")
        assert "is older than the job" in (tmp_path / "coordinator.log").read_text()

        house.command("resume", job, "--yes")
        house.wait("night")
        found = json.loads(house.command("settle", job, "--yes", "--json"))
        assert found["chunks"] == 0 or found["gave_up"]
        book = [call for call in house.simulator.book().chats() if call.billed]
        twice = len(book) - ROWS
        assert 0 < twice <= ROWS - len(before)
        audit = house.audit("night", job, allowed_twice=twice)
        assert (audit.rows, audit.completed) == (ROWS, ROWS)


def done(house: Installation, job: str) -> int:
    ((count,),) = house.at_home(job, "SELECT completed FROM job")
    assert isinstance(count, int)
    return count


def published(house: Installation, job: str) -> int:
    with closing(Redis(port=house.port)) as redis:
        told = str(redis.get(progress_key(job)))
    found = re.search(r'"calls":(\d+)', told)
    return int(found[1]) if found else 0


def said(house: Installation, *command: str) -> str:
    ran = house.run_command(*command)
    return " ".join((ran.stdout + ran.stderr).split())
