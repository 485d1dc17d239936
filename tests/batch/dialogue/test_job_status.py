"""What is shown of a job when its coordinator, or Redis, tells nothing of it any more."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from batch.coordinator.post import Post
from batch.coordinator.sign import Ailment, Sign, board_name
from batch.credentials import post_seal
from batch.dialogue.job_status import Glance, worst
from batch.dialogue.progress_text import attention, sentence
from batch.settings import read_settings
from batch.store.home import Home, HomeLock
from batch.watching.progress import Progress
from jobs.names import LOCK
from tests.batch.making import JOB, OTHER, publish
from tests.conftest import Server

AGO_S = 100.0


class Scene:
    """A home with a job, whose coordinator wrote and was well for the last time a while ago."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.settings = read_settings(
            {"NIGHTSHIFT_HOME": str(folder), "NIGHTSHIFT_REDIS_URL": redis_url}
        )
        self.home = Home(folder)
        publish(folder, 4).close()
        self.ago = time.time() - AGO_S
        self._age(self.home.jobs_folder / JOB)
        self.lock: HomeLock | None = None

    def _age(self, *folders: Path) -> None:
        for path in (file for folder in folders for file in [*folder.iterdir(), folder]):
            os.utime(path, (self.ago, self.ago))

    def coordinate(self) -> None:
        self.lock = self.home.lock()
        os.utime(self.home.folder / LOCK, (self.ago, self.ago))

    def post(self) -> Post:
        return Post(self.settings.redis_url or "", post_seal(self.settings, self.home.folder))

    def look(self, job: str = JOB) -> Progress:
        with (
            closing(Glance(self.home, self.settings)) as glance,
            closing(self.home.open(job, read_only=True)) as store,
        ):
            return glance.at(store.job())


@pytest.fixture
def scene(tmp_path: Path, server: Server) -> Iterator[Scene]:
    one = Scene(tmp_path / "home", server.url)
    yield one
    if one.lock:
        one.lock.release()


def check(progress: Progress, text: str, scene: Scene) -> None:
    """It is told so, since the moment at which the coordinator was last well."""
    found = progress.attention
    assert found is not None
    assert text in found.text
    assert found.since == pytest.approx(scene.ago, abs=2)
    assert found.shown_at == pytest.approx(scene.ago, abs=2)
    told = attention(progress)
    assert told in sentence(progress)
    assert f"since {time.strftime('%H:%M:%S', time.localtime(found.since))}" in told
    assert "1 min" in told


def test_without_a_coordinator_it_is_said_since_when_nobody_works_on_a_job(scene: Scene) -> None:
    check(scene.look(), "no coordinator is at work", scene)


def test_a_redis_that_is_away_is_told_since_when(scene: Scene, server: Server) -> None:
    scene.coordinate()
    server.kill()

    check(scene.look(), "Redis does not answer", scene)


def test_a_coordinator_that_stands_still_is_told(scene: Scene) -> None:
    scene.coordinate()

    check(scene.look(), "no update from the coordinator", scene)


def test_what_a_coordinator_cannot_write_down_is_told_by_its_sign_of_life(scene: Scene) -> None:
    scene.coordinate()
    assert scene.lock
    with closing(scene.post()) as post:
        text = "the job's files cannot be used: database or disk is full"
        sign = Sign("", {JOB: Ailment(text, scene.ago)})
        post.be_present(board_name(scene.home), sign)
    scene.lock.is_well()

    check(scene.look(), "disk is full", scene)


def test_a_coordinator_that_is_well_needs_no_attention(scene: Scene) -> None:
    scene.coordinate()
    assert scene.lock

    scene.lock.is_well()

    assert scene.look().attention is None


def test_of_many_jobs_one_trouble_is_told_once_and_redis_is_waited_for_once(
    scene: Scene,
) -> None:
    scene.coordinate()
    publish(scene.home.folder, 4, job=OTHER).close()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        scene.settings = scene.settings.__class__(**{**vars(scene.settings), "redis_url": url})
        began = time.monotonic()
        with closing(Glance(scene.home, scene.settings)) as glance:
            jobs = [glance.at(store.job()) for store in scene.home.stores()]
        assert time.monotonic() - began < 5

    assert [job.attention is not None for job in jobs] == [True, True]
    assert [job.job for job in worst(jobs)] == [JOB]
