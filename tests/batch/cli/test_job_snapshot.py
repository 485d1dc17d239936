"""What is shown of a job when its coordinator, or Redis, tells nothing of it any more."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from redis import Redis

from batch.cli import job_snapshot
from batch.cli.job_snapshot import Glance, worst
from batch.cli.progress_text import sentence, stall_line
from batch.commands import doctor, status, watch
from batch.commands.watch import _Lines
from batch.coordinator.coordinator_heartbeat import Ailment, Sign, board_name
from batch.coordinator.redis import redis_client, signed
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.credentials import post_seal
from batch.flower import page_texts
from batch.flower.page_handlers import _Stalled
from batch.flower.status_reader import Desk, Job
from batch.notifications.absent_coordinator import Watchman
from batch.settings import read_settings
from batch.store.home import Home, HomeLock
from batch.watching.progress import Progress, at_standstill, progress_of
from jobs.names import DATABASE, LOCK
from jobs.notify import Notify
from jobs.stall import Stall, Stalled
from jobs.states import JobState
from scripts import schemas
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
        self.home.lock().release()
        self._age(self.home.jobs_folder / JOB, folder)
        self.lock: HomeLock | None = None

    def _age(self, *folders: Path) -> None:
        for path in (file for folder in folders for file in [*folder.iterdir(), folder]):
            os.utime(path, (self.ago, self.ago))

    def coordinate(self) -> None:
        self.lock = self.home.lock()
        os.utime(self.home.folder / LOCK, (self.ago, self.ago))

    def post(self) -> CoordinatorRedis:
        return CoordinatorRedis(
            self.settings.redis_url or "", post_seal(self.settings, self.home.folder)
        )

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
    told = stall_line(progress)
    assert told in sentence(progress)
    assert f"since {time.strftime('%H:%M:%S', time.localtime(found.since))}" in told
    assert "1 min" in told


def test_without_a_coordinator_it_is_said_since_when_nobody_works_on_a_job(scene: Scene) -> None:
    check(scene.look(), "no coordinator is at work", scene)


def test_a_look_at_a_job_does_not_move_the_moment_at_which_its_coordinator_was_lost(
    scene: Scene,
) -> None:
    (scene.home.jobs_folder / JOB / DATABASE).touch()  # SQLite tidies up after a kill

    check(scene.look(), "no coordinator is at work", scene)


def test_a_redis_that_is_away_is_told_since_when(scene: Scene, server: Server) -> None:
    scene.coordinate()
    server.kill()

    check(scene.look(), "Redis does not answer", scene)


def test_a_redis_that_stands_still_is_waited_for_once_and_not_for_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.coordinate()
    waited: list[float] = []
    noting = partial(_noting, waited, redis_client.connect)
    for module in (redis_client, signed):
        monkeypatch.setattr(module, "connect", noting)
    for module in (job_snapshot, doctor):
        monkeypatch.setattr(module, "LOOK_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        scene.settings = replace(scene.settings, redis_url=url)

        check(scene.look(), "Redis does not answer in time", scene)
        found, wrong = doctor._redis(scene.settings)
        told = [each.text for each in doctor._jobs(scene.settings, wrong)]

    assert waited == [0.1, 0.1]
    assert not found.ok
    assert any("Redis does not answer in time" in each for each in told)


def _noting(
    waited: list[float],
    connect: Callable[..., Redis],
    url: str,
    connected: object = None,
    timeout_s: float = 0.0,
) -> Redis:
    waited.append(timeout_s)
    return connect(url, connected, timeout_s)


def test_a_coordinator_that_stands_still_is_told(scene: Scene) -> None:
    scene.coordinate()

    check(scene.look(), "no update from the coordinator", scene)


def test_a_clock_that_was_set_back_does_not_hide_a_coordinator_that_stands_still(
    scene: Scene,
) -> None:
    scene.ago = time.time() + 3600
    scene._age(scene.home.jobs_folder / JOB)
    scene.coordinate()

    found = scene.look().attention

    assert found is not None
    assert "no update from the coordinator" in found.text
    assert found.since <= time.time()


def test_what_a_coordinator_cannot_write_down_is_told_by_its_sign_of_life(scene: Scene) -> None:
    scene.coordinate()
    assert scene.lock
    with closing(scene.post()) as post:
        text = "the job's files cannot be used: database or disk is full"
        sign = Sign("", {JOB: Ailment(text, scene.ago)})
        post.status.be_present(board_name(scene.home), sign)
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


# ---- each way of standing still, wherever somebody looks ----------------------------------------


def _told_by_its_coordinator(scene: Scene, stall: Stall) -> None:
    """A coordinator that is well, and tells this of the job."""
    scene.coordinate()
    assert scene.lock
    scene.lock.is_well()
    with closing(scene.post()) as post, closing(scene.home.open(JOB, read_only=True)) as store:
        found = at_standstill(progress_of(store.job(), 2.0), Stalled(stall, scene.ago))
        name = board_name(scene.home)
        post.status.be_present(name, Sign())
        post.status.publish(JOB, found.as_json() | {"home": name, "at": time.time()}, 1.0)


def _published(scene: Scene, at: float, sign: Sign | None) -> None:
    with closing(scene.post()) as post, closing(scene.home.open(JOB, read_only=True)) as store:
        name = board_name(scene.home)
        progress = replace(progress_of(store.job(), 2.0), left_s=960.0)
        post.status.publish(JOB, progress.as_json() | {"home": name, "at": at}, 1.0)
        if sign is not None:
            post.status.be_present(name, sign)


def _make(scene: Scene, stall: Stall) -> None:
    """Has the job stand still, for ten seconds or more."""
    match stall:
        case Stall.NO_COORDINATOR:
            _published(scene, scene.ago, None)
        case Stall.COORDINATOR_SILENT:
            scene.coordinate()
            _published(scene, scene.ago, Sign())
        case Stall.JOB_UNUSABLE:
            scene.coordinate()
            ailing = {JOB: Ailment("the job's files cannot be used: disk is full", scene.ago)}
            _published(scene, scene.ago, Sign("", ailing))
        case Stall.REDIS_AWAY:
            scene.coordinate()
            _published(scene, scene.ago, Sign())
        case _:
            _told_by_its_coordinator(scene, stall)


def _in_flower(scene: Scene, before: Callable[[Desk], None]) -> tuple[str, str]:
    """The list of jobs and the head of the job's page, looked at twice."""

    async def look() -> Job:
        seal = post_seal(scene.settings, scene.home.folder)
        desk = Desk(scene.settings.redis_url or "", seal)
        await desk.jobs()
        before(desk)
        desk._read_at = float("-inf")
        (listed,), one = await desk.jobs(), await desk.job(JOB)
        assert listed == one
        return listed

    job = asyncio.run(look())
    assert (job.rate, job.left_s, job.done_at, job.needs_action) == (0.0, None, None, True)
    assert page_texts.end(job) == ""
    metrics = generate_latest(_Stalled([job])).decode()
    assert job.stall
    assert f'nightshift_job_stalled{{job_id="{JOB}",reason="{job.stall.reason}"}} 1.0' in metrics
    return page_texts.state(
        job
    ), f"{page_texts.reason(job)} {' '.join(page_texts.help_for(job) or ())}"


@pytest.mark.parametrize("is_gone", [False, True], ids=["zeroed", "gone"])
def test_of_files_that_cannot_be_read_is_told_what_was_heard_last(
    scene: Scene, is_gone: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.coordinate()
    why = "job.sqlite is missing" if is_gone else "file is not a database"
    _published(scene, scene.ago, Sign("", {JOB: Ailment(why, scene.ago)}))
    folder = scene.home.jobs_folder / JOB
    if is_gone:
        shutil.rmtree(folder)
    else:
        (folder / DATABASE).write_bytes(bytes(8192))
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(scene.home.folder))
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", scene.settings.redis_url or "")
    monkeypatch.setattr(doctor, "_endpoint", lambda *_, **__: iter(()))

    for command, args, code in (
        (status.command, [], 0),
        (status.command, [JOB], 4),
        (status.command, [JOB[-6:]], 4),
        (doctor.command, [], 4),
    ):
        assert command.main(args, standalone_mode=False) == code
        out = "".join(capsys.readouterr())
        assert "stalled" in out, (command.name, out)
        assert why in out, (command.name, out)
        assert f"nightshift resume {JOB}" in out
    assert status.command.main([JOB, "--json"], standalone_mode=False) == 4
    told = json.loads(capsys.readouterr().out)
    schemas.check(json.dumps(told), schemas.Job)
    assert (told["stall"]["reason"], told["requests"]) == ("job_unusable", 4)
    assert told["stall"]["since"] == pytest.approx(scene.ago)
    status.command.main(["--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["jobs"][0]["needs_action"]


def test_watch_outlives_a_file_that_cannot_be_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.coordinate()
    _published(scene, time.time(), Sign())
    file, looks = scene.home.jobs_folder / JOB / DATABASE, iter(["spoil", "mend", "end"])
    whole = file.read_bytes()

    def sleep(_seconds: float) -> None:
        match next(looks):
            case "spoil":
                file.write_bytes(bytes(len(whole)))
            case "mend":
                file.write_bytes(whole)
            case _:
                raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(scene.home.folder))
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", scene.settings.redis_url or "")

    watch.command.main([JOB, "--json"], standalone_mode=False)

    out = capsys.readouterr()
    told = [json.loads(line) for line in out.out.splitlines()]
    assert [each["stall"] and each["stall"]["reason"] for each in told][:3] == [
        None,
        "job_unusable",
        None,
    ]
    assert "the job moves again" in out.err


@pytest.mark.parametrize("stall", [each for each in Stall if each is not Stall.COPIED])
def test_a_job_that_stands_still_is_told_of_everywhere(
    scene: Scene,
    server: Server,
    stall: Stall,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _make(scene, stall)

    def before(desk: Desk) -> None:
        if stall is Stall.REDIS_AWAY:
            server.kill()
        if stall is Stall.COORDINATOR_SILENT:
            desk._heard = {job: (at, heard - 10) for job, (at, heard) in desk._heard.items()}

    badge, why = _in_flower(scene, before)

    words = "disk is full" if stall is Stall.JOB_UNUSABLE else stall.rule.meaning
    assert badge == "Stalled"
    assert words in why
    assert "since" in why
    assert stall.rule.cure in why

    monkeypatch.setenv("NIGHTSHIFT_HOME", str(scene.home.folder))
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", scene.settings.redis_url or "")
    monkeypatch.setattr(doctor, "_endpoint", lambda *_, **__: iter(()))
    monkeypatch.setattr(time, "sleep", _interrupt)
    for command, args in (
        (status.command, []),
        (status.command, [JOB]),
        (doctor.command, []),
        (watch.command, [JOB]),
    ):
        command.main(args, standalone_mode=False)
        out = "".join(capsys.readouterr())
        assert "stalled" in out, (command.name, out)
        assert words in out, (command.name, out)
        assert "since" in out
        assert stall.rule.command.format(job=JOB) in out, (command.name, out)
        assert "left" not in out.replace("age  left", "").replace("left  name", "")
    status.command.main([JOB, "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    schemas.check(json.dumps(told), schemas.Job)
    assert told["stall"]["reason"] == stall
    assert told["stall"]["since"] == pytest.approx(scene.ago, abs=2)
    assert (told["rate"], told["left_s"], told["needs_action"]) == (0, None, True)


def _interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_coordinator_that_is_gone_is_told_of_by_who_watches(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(scene.home.open(JOB)) as store:
        spec = store.job().spec
        store.change_spec(spec.model_copy(update={"notify": Notify(url="https://example.org/")}))
    scene._age(scene.home.jobs_folder / JOB)
    watchman, events = Watchman(scene.home), list[str]()
    monkeypatch.setattr(watchman._teller, "tell", lambda *told: events.append(told[2]))

    watchman.look()
    watchman.look()

    assert events == ["stalled.no_coordinator"]
    scene.coordinate()
    assert scene.lock
    scene.lock.is_well()
    watchman.look()
    assert events == ["stalled.no_coordinator"]


def test_a_job_that_cannot_be_read_hides_no_other_from_who_watches(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = scene.home.jobs_folder / f"job_{'0' * 26}"
    broken.mkdir()
    (broken / "job.sqlite").write_bytes(b"no database" * 1000)
    watchman, seen = Watchman(scene.home), list[str]()
    monkeypatch.setattr(watchman, "_see", lambda store: seen.append(store.job().id))

    watchman.look()

    assert seen == [JOB]


@pytest.mark.parametrize("end", [JobState.PAUSED, JobState.CANCELLED])
def test_a_job_that_somebody_stopped_does_not_move_again(scene: Scene, end: JobState) -> None:
    said: list[str] = []

    class Screen(_Lines):
        def show(self, _progress: Progress) -> None:
            """Somebody stops the job at the first look."""
            with closing(scene.home.open(JOB)) as store:
                if store.job().state is JobState.IN_PROGRESS:
                    store.set_state(JobState.CANCELLING if end is JobState.CANCELLED else end)
                    if end is JobState.CANCELLED:
                        store.set_state(end)

        def say(self, text: str) -> None:
            said.append(text)

    with (
        closing(Glance(scene.home, scene.settings)) as glance,
        closing(Screen(glance)) as screen,
    ):
        assert watch._follow(JOB, glance, screen, 0.0).state is end

    assert "no coordinator is at work" in said[0]
    assert "the job moves again" not in said
