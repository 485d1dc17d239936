"""Redis as it is in the world: what does not fit is told by name, and TLS is verified by all."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from batch import embedded_redis
from batch.coordinator.redis import redis_client
from batch.coordinator.task_publisher import Sender
from batch.settings import read_settings
from jobs.errors import NightshiftError, ServiceUnavailable, UsageError
from jobs.signing import Target
from tests.conftest import SEAL, Workdir
from workers.redis.worker_redis import WorkerRedis

JOB = "job_01jd0000000000000000000000"
TARGET = Target("https://example.com/v1", "")
ALL_BUT = "~* &* +@all"


class Strange:
    """A server with further options, and with ACL rules for a user `me` (password `secret`)."""

    def __init__(self, folder: Path, *options: str, rules: str = "") -> None:
        self.port = free_port()
        flags = [*("--port", str(self.port), "--bind", "127.0.0.1"), "--save", ""]
        flags += ["--dir", str(folder)]
        self.process = subprocess.Popen(
            [embedded_redis.binary(), *flags, *options], stdout=subprocess.DEVNULL
        )
        self.redis = Redis(port=self.port)
        wait_for(self.redis.ping)
        if rules:
            words = f"ACL SETUSER me on >secret {rules}".split()
            self.redis.execute_command(*words)  # type: ignore[no-untyped-call]

    def url(self, login: str = "", tail: str = "/0") -> str:
        return f"redis://{login}127.0.0.1:{self.port}{tail}"

    def end(self) -> None:
        self.redis.close()
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while True:
        with suppress(RedisError, OSError):
            if question():
                return
        assert time.monotonic() < deadline, "that did not come about"
        time.sleep(0.02)


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Callable[..., Strange]]:
    started: list[Strange] = []

    def start(*options: str, rules: str = "") -> Strange:
        started.append(Strange(tmp_path, *options, rules=rules))
        return started[-1]

    yield start
    for one in started:
        one.end()


def refused(url: str) -> NightshiftError:
    with pytest.raises(NightshiftError) as raised:
        redis_client.check(url)
    assert raised.value.hint
    assert "secret" not in f"{raised.value.message} {raised.value.hint}"
    return raised.value


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--cluster-enabled", "yes"), 2, "cluster"),
        (("--replicaof", "127.0.0.1 1"), 4, "replica"),
        (("--maxmemory-policy", "allkeys-lru"), 2, "maxmemory-policy"),
        (("--maxmemory", "1"), 4, "is out of memory"),
    ],
)
def test_a_server_that_does_not_fit_is_told_by_name(
    strange: Callable[..., Strange], options: tuple[str, ...], code: int, words: str
) -> None:
    error = refused(strange(*options).url())

    assert (error.exit_code, words in error.message) == (code, True), error.message
    assert "start it" not in error.hint


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (f"{ALL_BUT} -info", "'info'"),
        (f"{ALL_BUT} -@scripting", "'eval'"),
        (f"{ALL_BUT} -set", "'set'"),
        ("~other:* &* +@all", "key"),
    ],
)
def test_a_right_that_is_lacking_is_told_by_name(
    strange: Callable[..., Strange], rules: str, words: str
) -> None:
    error = refused(strange(rules=rules).url("me:secret@"))

    assert error.exit_code == 2
    assert words in error.message.lower()


def test_a_wrong_login_or_database_is_told_by_name(strange: Callable[..., Strange]) -> None:
    """And nobody is told to start a server that runs."""
    one = strange(rules="~* &* +@all")
    told = {
        "password": refused(one.url("me:wrong@")),
        "has none set": refused(one.url(":secret@")),
        "database": refused(one.url(tail="/99")),
        "TLS": refused(one.url().replace("redis://", "rediss://")),
    }

    assert [error.exit_code for error in told.values()] == [2, 2, 2, 4]
    for words, error in told.items():
        assert words in error.message
        assert "start it" not in error.hint


def test_who_is_not_there_or_no_redis_is_told_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        threading.Thread(target=lambda: web.accept()[0].sendall(answer), daemon=True).start()
        error = refused(f"redis://127.0.0.1:{web.getsockname()[1]}/0")
        assert (error.exit_code, "is not Redis" in error.message) == (2, True)

    nobody = refused("redis://127.0.0.1:1/0")
    assert (nobody.exit_code, "127.0.0.1:1" in nobody.message) == (4, True)
    assert "start it" in nobody.hint
    unknown = refused("redis://:secret@no-such-host.invalid/0")
    assert (unknown.exit_code, "cannot be resolved" in unknown.message) == (4, True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/abc", "database"),
        ("redis://:secret@h/0?db=x", "database"),
        ("redis://:secret@h/0?socket_timeout=9999", "socket_timeout"),
        ("redis://:secret@h/0?ssl_ca_certs=x", "rediss://"),
        ("rediss://:secret@h/0?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        ("rediss://:secret@h/0?ssl_cert_reqs=none", "turns off verification"),
        ("rediss://:secret@h/0?ssl_check_hostname=false", "turns off verification"),
        ("redis://queue:6379/0", "without a password"),
        ("rediss://queue:6379/0", "without a password"),
        ("unix://", "socket"),
        ("http://:secret@h", "not the address"),
        ("redis://:secret@h:port", "not the address"),
    ],
)
def test_an_address_that_would_be_misread_or_is_not_safe_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_settings({"NIGHTSHIFT_REDIS_URL": url})

    assert words in raised.value.message
    assert "secret" not in f"{raised.value.message} {raised.value.hint}"


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.9/1", "redis://[::1]", "redis://localhost", "REDIS://:x@queue", "unix:///s"],
)
def test_what_is_near_or_has_a_password_needs_no_word(url: str) -> None:
    assert read_settings({"NIGHTSHIFT_REDIS_URL": url}).redis_url


def test_who_insists_gets_it_and_a_capital_scheme_is_read(workdir: Workdir) -> None:
    insecure = {"NIGHTSHIFT_REDIS_URL": "redis://queue", "NIGHTSHIFT_INSECURE_REDIS": "1"}
    assert read_settings(insecure).redis_url == "redis://queue:6379/0"

    workdir.environ["NIGHTSHIFT_REDIS_URL"] = "REDIS://127.0.0.2:1/abc"
    for command in ("doctor", "worker", "coordinator", "flower", "status"):
        done = workdir.run(command)
        assert done.returncode == (4 if command == "doctor" else 2)
        assert "names a database that is no number" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    workdir.environ["NIGHTSHIFT_REDIS_URL"] = "redis://10.0.0.1:1/0"
    done = workdir.run("coordinator")
    assert (done.returncode, "--insecure-redis" in done.stderr) == (2, True)
    workdir.environ["NIGHTSHIFT_REDIS_URL"] = "redis://0.0.0.0:1/0"
    assert "nothing listens there" in workdir.run("doctor", "--insecure-redis").stdout


# ---- TLS -----------------------------------------------------------------------------------------


class Tls:
    """Speaks TLS in front of a server, with a certificate for `name`; counts what came through."""

    def __init__(self, folder: Path, port: int, name: str) -> None:
        self._behind = port
        self.heard = 0
        self.pem, key = folder / f"{name}.pem", folder / f"{name}.key"
        names = f"subjectAltName={'IP' if name[0].isdigit() else 'DNS'}:{name}"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"]
        files = ["-keyout", str(key), "-out", str(self.pem)]
        subject = ["-subj", f"/CN={name}", "-addext", names]
        subprocess.run([*make, *files, *subject], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.pem, key)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0, ssl=self._context)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._behind)
        await asyncio.gather(self._pass(reader, ours, 1), self._pass(theirs, writer, 0))

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counts: int
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                self.heard += counts
                sink.write(data)
                await sink.drain()
        sink.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@pytest.fixture
def tls(tmp_path: Path, strange: Callable[..., Strange]) -> Iterator[Callable[[str], Tls]]:
    made: list[Tls] = []
    behind = strange()

    def make(name: str) -> Tls:
        made.append(Tls(tmp_path, behind.port, name))
        return made[-1]

    yield make
    for one in made:
        one.end()


def try_all(url: str) -> list[NightshiftError | ConnectionError | None]:
    """What the three who speak to Redis meet: the coordinator, Celery, and a worker."""
    sender = Sender(url, SEAL)

    async def as_worker() -> None:
        post = WorkerRedis(url, "one", SEAL)
        try:
            await post.deliveries.send([(JOB, b"data")])
        finally:
            await post.connection.close()

    def met(step: Callable[[], object]) -> NightshiftError | ConnectionError | None:
        try:
            step()
        except (NightshiftError, ConnectionError) as error:
            return error
        return None

    steps: tuple[Callable[[], object], ...] = (
        lambda: redis_client.check(url),
        lambda: sender.run_chunk(JOB, "test", TARGET, 1, 1),
        lambda: asyncio.run(as_worker()),
    )
    found = [met(step) for step in steps]
    sender.close()
    return found


def test_with_the_right_certificate_all_connections_stand(tls: Callable[[str], Tls]) -> None:
    good = tls("127.0.0.1")

    found = try_all(f"rediss://127.0.0.1:{good.port}/0?ssl_ca_certs={good.pem}")

    assert found == [None, None, None]
    assert good.heard > 0


@pytest.mark.parametrize("fault", ["unknown issuer", "another's name"])
def test_with_a_rogue_certificate_not_one_byte_is_sent_by_anybody(
    tls: Callable[[str], Tls], fault: str
) -> None:
    rogue = tls("127.0.0.1" if fault == "unknown issuer" else "elsewhere.example")
    trusts = "" if fault == "unknown issuer" else f"?ssl_ca_certs={rogue.pem}"

    ours, celerys, workers = try_all(f"rediss://127.0.0.1:{rogue.port}/0{trusts}")

    assert isinstance(ours, UsageError)
    assert "certificate" in ours.message
    assert isinstance(celerys, ServiceUnavailable)
    assert isinstance(workers, ConnectionError)
    assert rogue.heard == 0


def test_a_server_that_wants_tls_is_told_by_name(tls: Callable[[str], Tls]) -> None:
    error = refused(f"redis://127.0.0.1:{tls('127.0.0.1').port}/0")

    assert "rediss://" in error.hint
