"""Hostile names, answers, environments and neighbours: S1 to S14.

These need more than a package alone; `docs/faults.md` lists the tests of every line.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from batch import embedded_redis
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.main import cli
from batch.reports.output_files import whole_file
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs import names
from jobs.errors import BadMessage, NoSuchJob, ServiceUnavailable, StorageUnavailable
from jobs.ids import check_job_id
from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines
from tests.conftest import CANARY, ROOT, SEAL, Server, Workdir
from tests.loopback import Quiet, serving
from workers.calling.classifier import classify
from workers.calling.endpoint import Reply

Simulators = Callable[..., Simulator]
PROMPT = "canary-prompt-77"
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


class Trap:
    """A host that nobody has reason to speak to; counts those who do."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.visits = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    one = Trap()
    yield one
    one.close()


# ---- S1: names ----------------------------------------------------------------------------------


def hostile_names() -> list[str]:
    """Some 500 that want to be paths, patterns, options, keys, or other jobs."""
    job = "job_01k1abcdefghjkmnpqrstvwxyz"
    seeds = [
        *("..", "../..", "../x", "/etc/passwd", "//x", "~", "~root", ".", "./", "", " ", "*", "?"),
        *("[a-z]", "%2e%2e%2f", "..%2f", "..\\", "C:\\x", "\\\\x\\y", "CON", "nul", "-", "--help"),
        *("$HOME", "`id`", "$(id)", ";id", "|id", "&", "{}", "%s", "%n", "'", '"', "<x>", "\x00"),
        *("a\x00b", "\n", "a\nb", "\r", "\x1b[2J", "\u202e", "\ufeff", "\ud800", "е", "ﬀ", "İ"),
        *("ns:payload:*", "ns:results", ":", "1e9", "null", "None", "true", "a" * 300),
        *(
            "file://x",
            "http://x",
            "@x",
            "#x",
            "x?y=1",
            "x;y",
            "../" * 9 + "etc/shadow",
            "/dev/null",
        ),
        *("/proc/self/environ", "..;/", "..%00/", "%252e%252e", "\u2215", "\uff0e\uff0e", "\u2028"),
        *("JOB_", "job-1", "job_\n", "-1", "1" * 64, "\t", "\x7f", "\u200b"),
    ]
    shapes = ["{}", f"{job}/{{}}", f"{{}}/{job}", f"{job}{{}}", f"{{}}{job}", "job_{}", "../{}/x"]
    made = [shape.replace("{}", seed) for seed in seeds for shape in shapes]
    return [name for name in dict.fromkeys(made) if name not in {job, "job_"}]


def test_s1_no_hostile_name_is_a_job_id() -> None:
    corpus = hostile_names()

    assert len(corpus) >= 500
    for name in corpus:
        with pytest.raises(BadMessage):
            check_job_id(name)


@pytest.mark.parametrize("command", ["status", "watch", "cost", "results", "resume", "pause"])
def test_s1_no_command_takes_a_hostile_name_for_a_job_or_touches_a_file_by_it(
    command: str, shell: Shell, simulator: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.point_at(simulator())
    shell.write("in.jsonl", batch_lines(1))
    shell("submit", "in.jsonl")
    for name, value in shell.environ.items():
        monkeypatch.setenv(name, value)
    outside = shell.folder / "home" / "secret"
    outside.mkdir()
    (outside / names.DATABASE).write_bytes(b"not a job")
    (job,) = (each["job"] for each in shell.jobs())
    before = {path: path.stat().st_mtime_ns for path in shell.folder.rglob("*")}
    opened: set[str] = set()
    real = Home.open

    def hear(home: Home, named: str, **how: bool) -> JobStore:
        opened.add(named)
        return real(home, named, **how)

    monkeypatch.setattr(Home, "open", hear)

    for name in (*hostile_names(), "../secret", "../../home/secret", str(outside)):
        if "\x00" in name or name in {"", "*"}:
            continue
        with pytest.raises(NoSuchJob):
            cli.main([command, "--", name], prog_name="nightshift", standalone_mode=False)

    # A job is looked at for its name, by its id; a look may make an empty log beside it.
    assert opened <= {job}
    after = {path: path.stat().st_mtime_ns for path in shell.folder.rglob("*")}
    ours = shell.folder / "home" / "jobs" / job
    assert {path for path in after if after[path] != before.get(path)} <= {ours, *ours.iterdir()}
    assert after[ours / names.DATABASE] == before[ours / names.DATABASE]


def test_s1_what_stands_in_the_home_under_a_hostile_name_is_no_job(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.jobs_folder / "job_..").mkdir()
    (home.jobs_folder / "job_01k1abcdefghjkmnpqrstvwxyz.bak").mkdir()
    (home.jobs_folder / "\x1b[2J").mkdir()

    assert home.job_ids() == []
    for name in ("latest", "job", "\x1b", "job_.."):
        with pytest.raises(NoSuchJob):
            home.find(name)


def test_s1_deliveries_in_the_stream_of_a_job_that_never_was_are_not_read(
    server: Server, tmp_path: Path
) -> None:
    post = CoordinatorRedis(server.url, SEAL)
    redis = Redis.from_url(server.url)
    for name in ("job_x", "job_..", "*"):
        redis.xadd(names.results_key(name), {"d": b"\x90"})
        (tmp_path / "jobs" / name).mkdir(parents=True)

    known = Home(tmp_path).job_ids()  # their folders are no job's
    found = [mail.job for mail in post.results.read(["job_none", *known], 0.01)]

    assert found == []
    redis.close()
    post.close()


# ---- S2: secrets --------------------------------------------------------------------------------


def test_s2_a_fault_of_our_own_leaves_a_file_for_the_owner_with_no_text_of_a_prompt(
    tmp_path: Path,
) -> None:
    program = (
        "import batch.main as m\n"
        f"def fail(): raise RuntimeError('{PROMPT} {CANARY}')\n"
        "m.cli.main = lambda **_: fail()\n"
        "m.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path), "ROUTERAI_API_KEY": CANARY},
        cwd=ROOT,
        capture_output=True,
        text=True,
        umask=0,
        check=False,
    )
    (crash,) = tmp_path.glob("nightshift-crash-*")

    assert ended.returncode == 4
    assert stat.S_IMODE(crash.stat().st_mode) == 0o600
    for text in (crash.read_text(), ended.stdout, ended.stderr):
        assert PROMPT not in text
        assert CANARY not in text
    assert "RuntimeError" in crash.read_text()


# ---- S3: nothing executable ---------------------------------------------------------------------


def test_s3_the_product_imports_nothing_that_executes_what_it_reads() -> None:
    never = {"pickle", "marshal", "shelve", "dill", "yaml", "jsonpickle", "cloudpickle"}
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {(node.module or "").partition(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found = {node.func.id} & {"eval", "exec", "compile", "__import__"}
                assert not found, f"{path}:{node.lineno}"
            else:
                continue
            assert not found & never, f"{path}:{node.lineno}"


def product_files() -> list[Path]:
    return [path for room in ("jobs", "batch", "workers") for path in (ROOT / room).rglob("*.py")]


# ---- S4, S5: one host, without detours ----------------------------------------------------------


@contextmanager
def redirecting(to: str) -> Iterator[str]:
    """A server that sends everybody elsewhere."""

    class Elsewhere(Quiet):
        def answer(self) -> None:
            self.reply(307, headers={"Location": f"{to}{self.path}"})

    with serving(Elsewhere) as port:
        yield f"http://127.0.0.1:{port}/api/v1"


def test_s4_a_catalogue_that_points_elsewhere_is_not_followed(shell: Shell, trap: Trap) -> None:
    shell.write("in.jsonl", batch_lines(2))
    with redirecting(trap.url) as url:
        capped = shell(*("run", "in.jsonl", "--budget-rub", "5"), code=2, NIGHTSHIFT_BASE_URL=url)
        shell("doctor", code=4, NIGHTSHIFT_BASE_URL=url)

    assert "no price" in capped.err
    assert trap.visits == 0


def test_s4_a_redirect_of_a_call_pauses_the_job_and_no_byte_goes_elsewhere(
    shell: Shell, simulator: Simulators, trap: Trap
) -> None:
    shell.point_at(simulator("--fault", f"redirect:code=307,location={trap.url}/steal"))
    shell.write("in.jsonl", batch_lines(5))

    ended = shell("run", "in.jsonl", "--yes", code=3)

    assert "resume" in ended.err
    assert trap.visits == 0


def test_s4_the_address_of_a_request_comes_from_the_settings_alone(
    shell: Shell, simulator: Simulators, trap: Trap
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    for url in ("//127.0.0.1/x", "/v1/files", "file:///etc"):
        line = json.loads(batch_lines(1))
        shell.write("in.jsonl", json.dumps({**line, "url": url}))

        assert "nothing was sent" in shell("run", "in.jsonl", "--yes", code=2).err
    shell.write("in.jsonl", batch_lines(1))
    for base_url in ("http://example.com/v1", "ftp://127.0.0.1/", "file:///etc", "http://a@b/"):
        shell("run", "in.jsonl", "--yes", code=2, NIGHTSHIFT_BASE_URL=base_url)

    assert not endpoint.book().chats()
    # A full address of chat requests says what kind they are, and nothing of where they go.
    full = {**json.loads(batch_lines(1)), "url": f"{trap.url}/v1/chat/completions"}
    shell.write("in.jsonl", json.dumps(full))
    shell("run", "in.jsonl", "--yes")
    assert len(endpoint.book().chats()) == 1
    assert trap.visits == 0


def test_s5_proxies_of_the_environment_see_nothing_of_a_whole_run(
    shell: Shell, simulator: Simulators, trap: Trap
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("in.jsonl", batch_lines(5))
    kinds = ("http_proxy", "https_proxy", "all_proxy")
    proxies: Any = {name: trap.url for kind in kinds for name in (kind, kind.upper())}

    shell("run", "in.jsonl", "--yes", "--budget-rub", "50", NO_PROXY="", **proxies)
    shell("doctor", NO_PROXY="", **proxies)

    assert trap.visits == 0
    assert len(endpoint.book().billed()) == 5


# ---- S6, S7, S8: what is shown ------------------------------------------------------------------


def test_s6_no_answer_in_a_table_is_a_formula(shell: Shell, simulator: Simulators) -> None:
    texts = ["=HYPERLINK(1)", "+1+cmd", "-2+3", "@SUM(1)", "-5", "+7.5", "plain", "\t=1"]
    shell.point_at(simulator("--answers", "echo", "--reasoning-tokens", "0"))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    shell.write("in.jsonl", lines)

    asking = ("--prompt", "{{ text }}", "--model", MODEL, "--max-tokens", "50", "--to", "csv")
    shell("run", "in.jsonl", "--yes", *asking, "-o", "out")

    with (shell.folder / "out" / "in.answered.csv").open(newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    assert answers == [
        *("'=HYPERLINK(1)", "'+1+cmd", "'-2+3", "'@SUM(1)", "-5", "+7.5", "plain", "'\t=1"),
    ]


def test_s7_s8_hostile_texts_of_an_endpoint_are_shown_escaped_and_one_to_a_line(
    shell: Shell, simulator: Simulators
) -> None:
    text = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\nsecond line\r\u202egnp\u2028x"
    rule = {"kind": "status", "code": 400, "text": text}
    shell.point_at(simulator("--fault", json.dumps(rule)))
    shell.write("in.jsonl", batch_lines(2))

    name = "\x1b[31m\u202ename\nof two lines"
    ended = shell("run", "in.jsonl", "-o", "out", "--yes", "--name", name, code=1)
    views = [shell(*words).out for words in (("status",), ("status", "latest"), ("cost", "latest"))]
    page = (shell.folder / "out" / "report.html").read_text()
    errors = (shell.folder / "out" / "errors.jsonl").read_bytes().decode()

    for shown in (ended.err, *views, page):
        assert not _CONTROLS.search(shown.replace("\r\n", "\n")), repr(shown)
    assert "<script>alert" not in page
    assert errors.count("\n") == 2
    assert json.loads(errors.split("\n")[0])["error"] is None


def test_s8_hostile_names_of_files_and_ids_are_shown_escaped(
    shell: Shell, simulator: Simulators
) -> None:
    shell.point_at(simulator())
    name = "\x1b[2Jin\u202e.jsonl"
    line = json.loads(batch_lines(1))
    shell.write(name, json.dumps({**line, "custom_id": "\x1b[2J\u202e\n"}) + "\n{broken \x1b[2J\n")

    refused = shell("run", name, "--yes", code=2)
    missing = shell("run", f"no-{name}", "--yes", code=2)
    unknown = shell("status", name, code=2)

    for ended in (refused, missing, unknown):
        assert not _CONTROLS.search(ended.err), repr(ended.err)


# ---- S12: what is installed ---------------------------------------------------------------------


def _plain(name: str) -> str:
    """A package's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_s12_a_lock_is_whole_by_hash_and_names_no_place_to_fetch_from(lock: str) -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / lock).read_text())
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    packages = [line for line in lines if line]
    locked = {_plain(re.split(r"[=\[; ]", line)[0]) for line in packages}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {_plain(re.split(r"[\[<>=!~; ]", name)[0]) for name in project["dependencies"]}

    assert wanted <= locked
    for line in packages:
        assert re.fullmatch(
            r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( *;[^\\]*?)?( +--hash=sha256:[0-9a-f]{64})+",
            line,
        ), line
    assert not re.search(r"https?://|--(extra-)?index|--find-links|--trusted|git\+|file:", text)


# ---- S13: patterns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece", ["a", " ", "\\", "try again in ", "9", '{"error":', "model not found ", "\n", ".,;"]
)
@pytest.mark.parametrize("status", [400, 402, 404, 429, 503])
def test_s13_no_text_of_an_endpoint_makes_judging_it_slow(piece: str, status: int) -> None:
    text = piece * (2 * 2**20 // len(piece))
    body = json.dumps({"error": {"message": text, "code": status}}).encode()
    began = time.process_time()

    classify(Reply(status, {}, body, 0.1), asked_model="a/b", now=0.0)
    classify(Reply(status, {}, text.encode(), 0.1), asked_model="a/b", now=0.0)

    assert time.process_time() - began < 2


# ---- S14: another user of the machine -----------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: what protects is only what the product does."""
    folder = Path(tempfile.mkdtemp(prefix="nightshift-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_s14_another_user_reads_nothing_of_a_home_and_does_not_reach_its_server(
    open_folder: Path, simulator: Simulators
) -> None:
    if os.geteuid():
        pytest.skip("NOT RUN: to be another user needs root")
    work = open_folder / "work"
    work.mkdir(mode=0o755)
    shell = Shell(Workdir(work))
    shell.point_at(simulator())
    shell.write("in.jsonl", batch_lines(3))
    url = ""
    try:
        (work / "home").mkdir(mode=0o755)
        url = embedded_redis.start_or_find(work / "home")
        shell("run", "in.jsonl", "-o", "out", "--yes")
        socket_path = url.removeprefix("unix://").partition("?")[0]
        targets = [
            work / "home",
            socket_path,
            *(work / "home").rglob("*"),
            *(work / "out").rglob("*"),
        ]
        reached = what_a_stranger_reaches([str(target) for target in targets])
    finally:
        if url:
            embedded_redis.leave(url)
        shell.end()

    # What was there keeps its mode; what is made within it is nobody else's.
    assert stat.S_IMODE((work / "home").stat().st_mode) == 0o755
    assert reached == str(work / "home")


@pytest.mark.parametrize(
    ("mode", "told"), [(0o1777, ""), (0o755, ""), (0o775, "is writable by others")]
)
def test_s14_a_folder_that_was_there_keeps_its_mode(tmp_path: Path, mode: int, told: str) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    if told:
        with pytest.raises(StorageUnavailable, match=told):
            Home(folder)
    else:
        assert stat.S_IMODE(Home(folder).jobs_folder.stat().st_mode) == 0o700

    assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a folder away needs root")
@pytest.mark.parametrize("name", ["", "jobs"])
def test_s14_a_home_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "home"
    (folder / "jobs").mkdir(parents=True, mode=0o700)
    os.chown(folder / name, 65534, 65534)

    with pytest.raises(StorageUnavailable, match="another user"):
        Home(folder)


def test_s14_results_follow_no_link_that_somebody_laid_in_the_place_of_their_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageUnavailable), whole_file(tmp_path / "out" / "cost.json") as file:
        file.write(b"{}")
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    with whole_file(tmp_path / "out" / "cost.json") as file:
        (tmp_path / "out").rename(tmp_path / "moved")
        (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
        file.write(b"{}")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "moved" / "cost.json").read_bytes() == b"{}"


def what_a_stranger_reaches(paths: list[str]) -> str:
    """Tries them as a user without rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writer, "".join(path for path in paths if reaches(path)).encode())
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader) as told:
        return told.read()


def reaches(path: str) -> bool:
    try:
        if path.endswith(".sock"):
            socket.socket(socket.AF_UNIX).connect(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_s14_the_servers_socket_is_the_owners_alone_even_far_from_the_home(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    home.mkdir()
    old = os.umask(0)
    try:
        url = embedded_redis.start_or_find(home)
        path = Path(url.removeprefix("unix://").partition("?")[0])
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, home / "redis")]
        redis = Redis.from_url(url)
        assert redis.config_get("port")["port"] == "0"
        redis.close()
    finally:
        os.umask(old)
        embedded_redis.leave(url)

    assert str(home) not in str(path)
    assert modes == [0o700, 0o700, 0o700]


@pytest.mark.parametrize("trick", ["link", "open to all"])
def test_s14_a_folder_for_sockets_that_somebody_laid_out_is_refused(
    trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"nightshift-{os.getuid()}"
    if trick == "link":
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        folder.symlink_to(tmp_path / "open")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    home = tmp_path / ("long" * 30)
    home.mkdir()

    with pytest.raises(ServiceUnavailable, match="others"):
        embedded_redis.start_or_find(home)
