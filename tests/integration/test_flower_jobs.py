"""The Jobs page within Flower: a real Flower, with jobs that coordinators told of, or real ones."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from redis import Redis

from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.flower_inbox import Wish
from batch.coordinator.redis.published_status import MOST_LISTED
from batch.flower.listing import PAGE_SIZE
from batch.watching.time_series import Failure, Series
from jobs import names
from scripts.torturing.installation import Installation
from tests.conftest import ROOT, SEAL, SECRET, Server
from tests.integration.browser import Browser, program

PASSWORD = "open-sesame-open"
HOSTILE = (
    "<script>document.title='owned'</script>\u202egnp.exe\x1b[31m\n'\"><img src=x onerror=a()>"
)
NOW = time.time()

needs_browser = pytest.mark.skipif(program() is None, reason="NO BROWSER: install Chromium")


@dataclass(frozen=True)
class Site:
    """A running Flower."""

    port: int
    prefix: str = ""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}{path}"

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
    ) -> tuple[int, str]:
        """Status and text for the user who knows the password."""
        login = b64encode(f"nightshift:{PASSWORD}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                method,
                f"{self.prefix}{path}",
                body,
                headers={"Authorization": f"Basic {login}", **(headers or {})},
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        return json.loads(self.ask(path)[1])

    def click(self, job: str, wish: str, **headers: str) -> tuple[int, dict[str, Any]]:
        """A click with the token that a browser would send."""
        return self.fill_in(job, wish, {}, **headers)

    def fill_in(
        self, job: str, wish: str, fields: dict[str, str], **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """The same with a form."""
        token = {"Cookie": "_xsrf=aaaaaaaa", "X-XSRFToken": "aaaaaaaa", **headers}
        form = {"Content-Type": "application/x-www-form-urlencoded"} if fields else {}
        path, body = f"/api/job/{job}/{wish}", urlencode(fields)
        status, text = self.ask(path, "POST", {**token, **form}, body or None)
        return status, json.loads(text)


class Flowers:
    """Starts Flowers, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        # Of a house that the test may build there, too.
        self._secret = folder / "home" / names.SECRET
        self._secret.parent.mkdir(mode=0o700)
        self._secret.touch(0o600)
        self._secret.write_bytes(SECRET)

    def start(self, redis_url: str, *options: str, prefix: str = "") -> Site:
        log = self._folder / f"flower-{len(self._processes)}.log"
        clean = {name: value for name, value in os.environ.items() if "NIGHTSHIFT" not in name}
        given = ["--url-prefix", prefix] if prefix else []
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "batch", "flower", "--port", "0", *given, *options],
                cwd=self._folder,
                stdout=out,
                stderr=out,
                env={
                    **clean,
                    "PYTHONPATH": str(ROOT),
                    "NIGHTSHIFT_HOME": str(self._folder / "flowers-home"),
                    "NIGHTSHIFT_REDIS_URL": redis_url,
                    "NIGHTSHIFT_FLOWER_PASSWORD": PASSWORD,
                    "NIGHTSHIFT_POST_SECRET_FILE": str(self._secret),
                    "NIGHTSHIFT_LANG": "en",
                },
            )
        self._processes.append(process)
        wait_for(lambda: "Flower is at" in log.read_text(), "Flower")
        port = int(log.read_text().partition("127.0.0.1:")[2].partition("/")[0])
        return Site(port, f"/{prefix}" if prefix else "")

    def end_last(self) -> None:
        self._processes[-1].kill()
        self._processes[-1].wait()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def wait_for(question: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def flowers(tmp_path: Path) -> Iterator[Flowers]:
    some = Flowers(tmp_path)
    yield some
    some.end()


@pytest.fixture
def post(server: Server) -> Iterator[CoordinatorRedis]:
    one = CoordinatorRedis(server.url, SEAL)
    yield one
    one.close()


def job_id(number: int) -> str:
    return f"job_01k1abcdefghjkmnpq{number:08d}"


def be_there(post: CoordinatorRedis, only: str = "") -> None:
    """A coordinator's sign of life, which lasts for the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch.coordinator.redis.published_status._SERVES_S", 600)
        post.status.be_present("home", {"only": only})


def tell(post: CoordinatorRedis, number: int = 0, **change: Any) -> str:
    """A coordinator that is there tells of a job."""
    be_there(post)
    job = job_id(number)
    document = {
        "job": job,
        "name": f"job {number}",
        "state": "in_progress",
        "reason": "",
        "reason_text": "",
        "requests": 1000,
        "completed": 400,
        "failed": 10,
        "rate": 12.5,
        "left_s": 47.0,
        "spent_rub": "12.3456789",
        "uncertain_rub": "0",
        "budget_rub": "50",
        "in_flight": 32,
        "workers": 2,
        "busy": 1,
        "refusals": 7,
        "home": "home",
        "at": NOW,
        "created_at": NOW - 100 + number / 1000,
        "started_at": NOW - 90,
        "forecast_rub": "33.5",
        "late": True,
        "done_at": NOW + 50,
        "objections": {"pause": "", "resume": "running", "cancel": ""},
        **change,
    }
    post.status.publish(job, document, NOW + number)
    return job


# ---- what is shown ------------------------------------------------------------------------------


def test_a_job_is_shown_with_its_figures(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(post)
    series = Series()
    for number in range(40):
        series.answered(NOW - 60 + number, 1.5, NOW)
        series.called(NOW - 61 + number, 1.5, NOW)
        series.paid(NOW - 59.5 + number, Decimal("0.25"), NOW)
    series.failed(Failure(NOW - 5, 17, "endpoint.context_length", 400, 1), NOW)
    post.status.publish_series(job, series.packed())
    site = flowers.start(server.url)

    listed = site.ask("/jobs")[1].replace("\u00a0", " ")
    page = site.ask(f"/job/{job}")[1].replace("\u00a0", " ")

    for shown in ("job 0", "410 of 1,000", "10 failed", "12.5/s", "47 s left", "12.35 ₽"):
        assert shown in listed, shown
    for shown in (
        "50.00 ₽",
        "endpoint.context_length",
        "context length exceeded",
        ">17<",
        "10 ₽",
        "33.50 ₽",
        "after the deadline",
    ):
        assert shown in page, shown
    assert page.count("<figure") == 5
    assert site.json(f"/api/job/{job}")["job"]["spent_rub"] == "12.3456789"


def test_of_a_thousand_jobs_one_page_is_shown_and_all_are_counted(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    for number in range(1000):
        tell(post, number, state="paused" if number % 10 == 0 else "completed")
    site = flowers.start(server.url)

    first, last = site.json("/api/jobs"), site.json("/api/jobs?page=20")
    paused = site.json("/api/jobs?state=paused&page=2")

    assert first["counts"] == {"all": 1000, "running": 0, "paused": 100, "ended": 900}
    assert [len(each["jobs"]) for each in (first, last, paused)] == [PAGE_SIZE] * 3
    assert first["jobs"][0]["name"] == "job 999"
    assert last["jobs"][-1]["name"] == "job 0"
    assert paused["jobs"][-1]["name"] == "job 0"
    assert site.ask("/jobs")[1].count("<tr data-key") == PAGE_SIZE

    def names_of(query: str) -> list[str]:
        return [each["name"] for each in site.json(f"/api/jobs?{query}")["jobs"]]

    assert names_of("q=JOB+77&sort=name")[:3] == ["job 77", "job 770", "job 771"]
    assert names_of(f"q={job_id(314)[-6:]}") == ["job 314"]
    assert names_of(f"q={job_id(314)}") == ["job 314"]
    assert names_of("q=o+31") == []
    assert names_of("sort=created&order=up")[0] == "job 0"
    assert names_of("sort=name&order=down&state=paused")[0] == "job 990"
    assert names_of("since=1")[0] == "job 999"
    assert site.json("/api/jobs?q=nowhere")["counts"]["all"] == 0
    assert "No matching jobs." in site.ask("/jobs?q=nowhere")[1]
    assert site.ask("/")[0] == 302


def test_only_so_many_jobs_are_listed_and_those_that_are_not_over_stay(
    server: Server, post: CoordinatorRedis
) -> None:
    for number in range(MOST_LISTED + 5):
        tell(post, number)
    old = tell(post, 99_999_999, state="paused")
    with Redis.from_url(server.url) as redis:
        redis.zadd(names.JOBS, {old: 1e12})
        tell(post, MOST_LISTED + 5)

        listed = [each.decode() for each in redis.zrevrange(names.JOBS, 0, -1)]

    assert len(listed) == MOST_LISTED
    assert listed[0] == old
    assert job_id(0) not in listed


ODD = ("page=-1", "page=99999999", "page=x", "state=x", "page=%FF", "sort=x", "since=x", "order=x")


def test_an_odd_question_gets_a_page(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    tell(post)
    site = flowers.start(server.url)

    found = {query: site.ask(f"/jobs?{query}")[0] for query in (*ODD, f"q={'x' * 9000}")}

    assert {query: status for query, status in found.items() if status not in (200, 400)} == {}


def test_what_is_hostile_is_shown_and_does_nothing(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(
        post,
        name=HOSTILE,
        state="paused",
        reason="endpoint_down",
        reason_text=HOSTILE,
        window=HOSTILE,
        refused={HOSTILE: 3},
    )
    other = tell(post, 1, name=HOSTILE, reason_text=HOSTILE)
    series = Series()
    series.failed(Failure(NOW, 1, HOSTILE, 400, 1), NOW)
    post.status.publish_series(job, series.packed())
    site = flowers.start(server.url)

    for path in ("/jobs", f"/job/{job}", f"/job/{other}", "/jobs?live=1", f"/job/{job}?live=1"):
        text = site.ask(path)[1]
        text = "".join(json.loads(text).values()) if "live" in path else text
        assert "<script>document" not in text
        assert "<img src=x" not in text
        assert not set(text) & {"\u202e", "\x1b"}, path
        assert "\\u202egnp.exe" in text


def test_what_is_no_job_is_left_out(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(post)
    with Redis.from_url(server.url) as redis:
        redis.zadd(names.JOBS, {"../../etc": 9e9, "job_x": 9e9, job_id(7): 9e9, job_id(8): 9e9})
        redis.set(names.progress_key(job_id(7)), b"\xff\xfe nonsense")
        redis.set(names.progress_key(job_id(8)), b'{"job": "<b>", "name": 1}')
        redis.set(names.series_key(job), b"nonsense")
    site = flowers.start(server.url)

    assert [each["job"] for each in site.json("/api/jobs")["jobs"]] == [job]
    assert site.ask(f"/job/{job}")[0] == 200
    for missing in (job_id(7), job_id(8), job_id(9)):
        status, text = site.ask(f"/job/{missing}")
        assert (status, "There is no such job." in text) == (404, True)


def test_without_redis_the_page_says_so_and_comes_back(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    site = flowers.start(server.url)
    server.kill()

    assert site.ask("/api/jobs") == (503, '{"error":"Redis does not answer."}')
    status, text = site.ask("/jobs")
    assert (status, "Traceback" in text, "Redis does not answer" in text) == (503, False, True)

    server.start()
    job = tell(post)
    wait_for(lambda: site.ask("/api/jobs")[0] == 200, "Redis to come back")
    assert len(site.json("/api/jobs")["jobs"]) == 1

    # It hangs: each question would take four seconds, and a page has no patience for that.
    asked = [site.ask(f"/job/{job}")[0], site.ask(f"/job/{job}?live=1")[0]]
    server.process.send_signal(signal.SIGSTOP)
    try:
        status, text = site.ask(f"/job/{job}?live=1")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert [*asked, status] == [200, 200, 200]
    assert "Stalled" in text


# ---- clicks -------------------------------------------------------------------------------------


def test_a_click_without_the_token_or_from_elsewhere_is_refused(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(post)
    site = flowers.start(server.url)
    path = f"/api/job/{job}/cancel"

    assert site.ask(path, "POST")[0] == 403
    assert site.ask(path, "POST", {"X-XSRFToken": "aaaaaaaa"})[0] == 403
    assert site.click(job, "cancel", **{"X-XSRFToken": "bbbbbbbb"})[0] == 403
    assert site.click(job, "cancel", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert site.click(job, "cancel", Origin="https://elsewhere.example")[0] == 403
    assert site.ask(path)[0] == 405
    assert post.clicks.wishes() == {}


def test_a_click_that_nobody_can_hear_says_so(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(post)
    with Redis.from_url(server.url) as redis:
        redis.delete(names.coordinator_key("home"))
    site = flowers.start(server.url)

    status, came = site.click(job, "pause")

    assert (status, came["code"]) == (503, "nobody")
    assert "nightshift coordinator" in came["text"]
    shown = site.ask("/jobs")[1] + site.ask(f"/job/{job}")[1]
    assert "data-click" not in shown
    assert "12.5/s" not in shown
    assert " now<" not in shown

    be_there(post, job_id(5))
    assert site.click(job, "pause")[1]["code"] == "nobody"

    be_there(post)
    assert site.click(job, "pause")[1]["code"] == "silent"
    assert post.clicks.wishes() == {}


def test_a_click_is_heeded_whatever_the_clock_of_flowers_host_shows(
    server: Server, post: CoordinatorRedis, flowers: Flowers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home's side stands for it here: the two differ by an hour. Nor does a click take
    the place of another one on the same job.
    """
    job = tell(post)
    site = flowers.start(server.url)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    with ThreadPoolExecutor(2) as pool:
        came = {name: pool.submit(site.click, job, name) for name in ("pause", "cancel")}
        wait_for(lambda: len(post.clicks.wishes()) == len(came), "both clicks")
        for place, wish in post.clicks.wishes().items():
            assert place.partition("/")[0] == job
            assert post.clicks.take_wish(place, wish.token)
            post.clicks.answer(wish.token, {"pause": "done", "cancel": "ended"}[wish.wish])

        told = {name: each.result()[1]["code"] for name, each in came.items()}
    assert told == {"pause": "done", "cancel": "ended"}


def test_a_click_that_is_too_old_or_garbled_is_dropped(
    server: Server, post: CoordinatorRedis
) -> None:
    now = time.time()
    with Redis.from_url(server.url) as redis:
        for number, wish in enumerate((Wish("cancel", "t", now - 600), Wish("pause", "t", now))):
            signed = SEAL.sign(names.wish_place(job_id(number)), msgspec.json.encode(wish))
            redis.hset(names.WISHES, job_id(number), signed)
        redis.hset(names.WISHES, "job_x", b"nonsense")

        assert set(post.clicks.wishes()) == {job_id(1)}
        assert redis.hlen(names.WISHES) == 1

    assert post.clicks.take_wish(job_id(1), "t") is True
    assert post.clicks.take_wish(job_id(1), "t") is False


def test_where_one_may_only_look_there_are_no_buttons(
    server: Server, post: CoordinatorRedis, flowers: Flowers
) -> None:
    job = tell(post)
    site = flowers.start(server.url, "--look-only")

    assert "data-click" not in site.ask("/jobs")[1] + site.ask(f"/job/{job}")[1]
    assert site.click(job, "pause") == (
        403,
        {"done": False, "code": "looking", "text": "This page is read-only."},
    )


# ---- real jobs ----------------------------------------------------------------------------------


def test_clicks_reach_the_coordinator_and_redis_may_forget_everything(
    tmp_path: Path, flowers: Flowers
) -> None:
    endpoint = ("--latency", "uniform:0.5:1.5", "--max-in-flight", "10")
    with Installation(tmp_path, workers=1, endpoint=endpoint) as house:
        site = flowers.start(house.redis_url("flower"))
        small = house.submit("small", 3)
        house.wait("small")
        job = house.submit("canary-prompt", 300)

        def is_(state: str, name: str = job) -> bool:
            jobs = site.json("/api/jobs")["jobs"]
            return any(each["job"] == name and each["state"] == state for each in jobs)

        wait_for(lambda: is_("in_progress"), "the job to be told of")
        assert site.click(job, "pause")[1]["code"] == "done"
        wait_for(lambda: is_("paused"), "the pause")
        assert site.click(job, "pause") == (
            409,
            {"done": False, "code": "paused_already", "text": "The job is already paused."},
        )
        assert site.fill_in(job, "change", {"max_in_flight": "x"})[0] == 400
        assert site.fill_in(job, "change", {"priority": "normal"})[1]["code"] == "unchanged"
        assert site.fill_in(job, "change", {"max_in_flight": "5", "window": ""})[0] == 200
        wait_for(lambda: site.json(f"/api/job/{job}")["job"]["max_in_flight"] == 5, "the limit")
        assert site.click(job, "retry")[1]["code"] == "nothing_failed"
        with Redis.from_url(house.redis_url("test")) as redis:
            redis.flushall()
        wait_for(lambda: is_("paused") and is_("completed", small), "all to be told again")
        wait_for(lambda: site.json(f"/api/job/{small}")["series"]["points"], "its past")

        wait_for(lambda: "Submitted." in site.ask(f"/job/{small}")[1], "its history")
        output, path = house.output("small") / "output.jsonl", f"/job/{small}/file/output.jsonl"
        wait_for(lambda: site.ask(path)[0] != 503, "a sign of the coordinator's life")
        assert site.ask(path) == (200, output.read_text("utf-8"))
        assert site.ask(path, headers={"Sec-Fetch-Site": "cross-site"})[0] == 404
        for other in ("job.sqlite", "..%2Fsmall.jsonl", "%2Fetc%2Fpasswd"):
            status, text = site.ask(f"/job/{small}/file/{other}")
            assert (status, "This job has no such file here." in text) == (404, True)
        output.rename(tmp_path / "moved")
        output.symlink_to(tmp_path / "moved")
        assert site.ask(path)[0] == 503
        assert flowers.start(house.redis_url("flower"), "--no-downloads").ask(path)[0] == 404

        wait_for(lambda: site.click(job, "resume")[1]["done"], "the coordinator")
        wait_for(lambda: is_("in_progress"), "the job to go on")
        assert site.click(job, "cancel")[1]["code"] == "done"
        wait_for(lambda: is_("cancelled"), "its end")
        for path in ("/jobs", f"/job/{job}", f"/api/job/{job}"):
            assert "отзыв" not in site.ask(path)[1]


@needs_browser
def test_a_browser_sees_a_job_move_and_acts_upon_it(tmp_path: Path, flowers: Flowers) -> None:
    endpoint = ("--latency", "uniform:0.5:1.5", "--max-in-flight", "10")
    with (
        Installation(tmp_path, workers=1, endpoint=endpoint) as house,
        Browser(tmp_path / "browser", ("nightshift", PASSWORD)) as browser,
    ):
        site = flowers.start(house.redis_url("flower"), prefix="flower")
        job = house.submit("night", 900, "--name", HOSTILE)
        row = f'[data-key="{job}"]'
        wait_for(lambda: site.json("/api/jobs")["jobs"], "the job to be told of")

        browser.open(site.url("/jobs"))
        browser.ask("window.stays = true")
        done = f"parseInt(document.querySelector('{row} .ns-progress small').innerText)"
        before = browser.ask(done)
        browser.wait(f"{done} > {before}", "progress")

        browser.click(f"{row} [data-click$=pause]")
        browser.wait(
            f"document.querySelector('{row} .ns-state').innerText.includes('Paused')", "the pause"
        )
        assert "by the user" in browser.text(f"{row} .ns-state")
        browser.click(f"{row} [data-click$=resume]")
        browser.wait(
            f"document.querySelector('{row} .ns-state').innerText.includes('Running')", "going on"
        )
        assert browser.ask("window.stays") is True
        assert browser.text(f"{row} .ns-name a").startswith("<script>document.title")

        loaded = browser.loaded
        browser.click(f"{row} .ns-name a")
        browser.wait(lambda: browser.loaded > loaded, "the page of the job")
        browser.wait("!!document.querySelector('figure path')", "the plots")
        browser.click(".ns-head [data-click$=cancel]")
        browser.wait("document.querySelector('dialog').open", "the question")
        browser.click("dialog [value=no]")
        browser.wait("!document.querySelector('dialog').open", "the question to go")
        assert house.state(job)["state"] == "in_progress"
        browser.click(".ns-head [data-click$=cancel]")
        browser.wait("document.querySelector('dialog').open", "the question")
        browser.click("dialog [value=yes]")
        browser.wait(
            "document.querySelector('.ns-head-state').innerText.includes('Cancelled')", "the end"
        )

        assert "owned" not in browser.ask("document.title")[:6]
        assert browser.messages == []
