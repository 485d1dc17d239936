"""What is wrong is told in a sentence with the way out, before a job is written or a call made."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch import embedded_redis
from scripts.simulator import Simulator
from tests.acceptance.conftest import Ended, Shell, batch_lines, wait_until

NOBODY = "redis://:a-password@127.0.0.1:1/0"


@pytest.fixture(scope="module")
def uncalled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """An endpoint for all these tests: none of them calls it."""
    with Simulator(book=tmp_path_factory.mktemp("endpoint") / "book.jsonl") as one:
        yield one


@pytest.fixture
def endpoint(uncalled: Simulator, shell: Shell) -> Simulator:
    """That endpoint, and an input in `reviews.jsonl`."""
    shell.point_at(uncalled)
    shell.write("reviews.jsonl", batch_lines(3))
    return uncalled


@pytest.fixture
def refused(endpoint: Simulator, shell: Shell) -> Callable[..., Ended]:
    """Runs a command that must be refused, and sees that nothing came of it."""

    def refused(code: int, *arguments: str, **environ: str) -> Ended:
        ended = shell(*arguments, code=code, stdin=b"", **environ)
        assert shell.job_ids() == [], ended
        assert not endpoint.book().chats(), ended
        assert ended.out == "", ended
        return ended

    return refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--window", "25:00-26:00"), "--window: '25:00-26:00' has an invalid hour"),
        (("--window", "23:00-07:00@Mars/City"), "'Mars/City' is not a time zone"),
        (("--budget-rub", "much"), "'much' is not an amount in roubles"),
        (("--base-url", "http://example.com/v1"), "would send the key unencrypted; use https"),
        (("--base-url", "nonsense"), "is not an address such as"),
        (("-o", "x" * 300), "choose another with --output-dir"),
        (("-o", "reviews.jsonl"), "is not a directory"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    options: tuple[str, ...], told: str, refused: Callable[..., Ended]
) -> None:
    assert told in refused(2, "run", "reviews.jsonl", *options).err


def test_a_wrong_value_from_the_environment_is_told_with_its_variable(
    refused: Callable[..., Ended],
) -> None:
    ended = refused(2, "run", "reviews.jsonl", NIGHTSHIFT_MAX_IN_FLIGHT="many")

    assert "NIGHTSHIFT_MAX_IN_FLIGHT" in ended.err


@pytest.mark.parametrize("options", [(), ("--skip-invalid",)])
def test_i15_a_file_of_nothing_or_of_something_else_is_refused(
    options: tuple[str, ...], refused: Callable[..., Ended], shell: Shell
) -> None:
    shell.write("empty.jsonl", "\n \n")
    shell.write("array.json", "[\n" + batch_lines(3).replace("}\n", "},\n")[:-2] + "\n]\n")

    assert "contains no requests" in refused(2, "run", "empty.jsonl", "--yes", *options).err
    for command in ("run", "submit", "estimate"):
        ended = refused(2, command, "array.json", *options)
        assert "array.json holds a JSON array" in ended.err
        assert "jq -c '.[]' array.json > array.requests.jsonl" in ended.err


def test_without_a_key_it_says_where_the_key_is_looked_for(refused: Callable[..., Ended]) -> None:
    ended = refused(2, "run", "reviews.jsonl", ROUTERAI_API_KEY="")
    assert "set ROUTERAI_API_KEY" in ended.err

    ended = refused(2, "run", "reviews.jsonl", NIGHTSHIFT_API_KEY_FILE="missing")
    assert "the secret file missing cannot be read" in ended.err


def test_a_missing_file_and_a_folder_are_no_input(refused: Callable[..., Ended]) -> None:
    for command in ("run", "submit", "validate", "estimate"):
        ended = refused(2, command, "missing.jsonl")
        assert "missing.jsonl does not exist" in ended.err
        assert "--yes" not in ended.err
    assert "is a directory" in refused(2, "run", ".").err


def test_every_fault_of_an_input_is_listed_in_the_order_of_lines(
    refused: Callable[..., Ended], shell: Shell
) -> None:
    shell.write("bad.jsonl", batch_lines(2) + batch_lines(1) + "[]\n\n{]\n")

    ended = refused(2, "run", "bad.jsonl")

    lines = [line.split(":")[0].split(",")[0].strip() for line in ended.err.splitlines()[1:4]]
    assert lines == ["line 3", "line 4", "line 6"], ended
    assert "3 lines cannot be sent; nothing was sent" in ended.err
    assert "--skip-invalid" in ended.err


def test_f6_results_that_stand_already_are_never_written_over(
    refused: Callable[..., Ended], shell: Shell
) -> None:
    (shell.folder / "out").mkdir()
    there = shell.write("out/output.jsonl", "mine")

    ended = refused(2, "run", "reviews.jsonl", "-o", "out")

    assert "already exists" in ended.err
    assert there.read_text() == "mine"


def test_a_cap_in_roubles_needs_prices(refused: Callable[..., Ended], shell: Shell) -> None:
    shell.write("odd.jsonl", batch_lines(2, model="nobody/nothing"))

    ended = refused(2, "run", "odd.jsonl", "--budget-rub", "5")

    assert "tells no price for nobody/nothing" in ended.err


def test_an_endpoint_that_is_away_gives_no_prices_so_no_cap_can_be_kept(
    refused: Callable[..., Ended],
) -> None:
    ended = refused(
        4, "run", "reviews.jsonl", "--budget-rub", "5", "--base-url", "http://127.0.0.1:1/v1"
    )

    assert "http://127.0.0.1:1/v1/models cannot be read" in ended.err


def test_nobody_is_asked_for_money_where_nobody_is(refused: Callable[..., Ended]) -> None:
    ended = refused(2, "run", "reviews.jsonl", "--base-url", "https://127.0.0.2:1/v1")

    assert "pass --yes" in ended.err


def test_a_redis_that_is_away_is_named_without_its_password(refused: Callable[..., Ended]) -> None:
    ended = refused(4, "run", "reviews.jsonl", NIGHTSHIFT_REDIS_URL=NOBODY)

    assert "127.0.0.1:1" in ended.err
    assert "fix NIGHTSHIFT_REDIS_URL" in ended.err
    assert "a-password" not in ended.err


def test_a_redis_url_that_is_none_is_not_quoted(refused: Callable[..., Ended]) -> None:
    ended = refused(2, "run", "reviews.jsonl", NIGHTSHIFT_REDIS_URL="http://:a-password@host")

    assert "NIGHTSHIFT_REDIS_URL" in ended.err
    assert "a-password" not in ended.err


@pytest.fixture
def redis_with(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a Redis with these settings; returns its address without a password."""
    started = []

    def start(*settings: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        started.append(
            subprocess.Popen(
                [embedded_redis.binary(), *flags, *settings], stdout=subprocess.DEVNULL
            )
        )
        wait_until("the server listens", lambda: _listens(port))
        return f"127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("service", ["run", "worker", "coordinator", "flower"])
def test_r18_a_wrong_password_is_refused_and_not_printed(
    service: str, refused: Callable[..., Ended], redis_with: Callable[..., str]
) -> None:
    place = redis_with("--requirepass", "right")
    arguments = (service, "reviews.jsonl") if service == "run" else (service,)

    for url in (f"redis://:a-password@{place}/0", f"redis://{place}/0"):
        ended = refused(2, *arguments, NIGHTSHIFT_REDIS_URL=url)

        assert "password" in ended.err
        assert "a-password" not in ended.err


@pytest.mark.parametrize("service", ["run", "worker", "coordinator", "flower"])
def test_r8_a_redis_that_may_drop_keys_is_refused(
    service: str, refused: Callable[..., Ended], redis_with: Callable[..., str]
) -> None:
    place = redis_with("--maxmemory-policy", "allkeys-lru")
    arguments = (service, "reviews.jsonl") if service == "run" else (service,)

    ended = refused(2, *arguments, NIGHTSHIFT_REDIS_URL=f"redis://{place}/0")

    assert "maxmemory-policy noeviction" in ended.err


@pytest.mark.parametrize("service", ["worker", "coordinator", "flower"])
def test_a_service_waits_for_a_redis_that_is_away(
    service: str, endpoint: Simulator, shell: Shell
) -> None:
    assert endpoint.base_url
    running = shell.start(service, NIGHTSHIFT_REDIS_URL=NOBODY)

    running.says("waiting for it")

    assert running.process.poll() is None
    assert "a-password" not in running.err
    running.process.terminate()
    running.process.wait(20)


@pytest.mark.parametrize("home", ["/proc/nightshift", "reviews.jsonl/home"])
def test_f5_a_home_that_cannot_be_written_is_named(
    home: str, endpoint: Simulator, shell: Shell
) -> None:
    for command in (("run", "reviews.jsonl"), ("status",), ("coordinator",), ("submit", "x")):
        ended = shell(*command, code=4, NIGHTSHIFT_HOME=home)

        assert f"{home} cannot be used" in ended.err
        assert "set NIGHTSHIFT_HOME" in ended.err
    assert not endpoint.book().chats()


def test_a_dotenv_file_that_is_none_is_named(shell: Shell) -> None:
    shell.write(".env", b"\xff\xfeNIGHTSHIFT_NAME=x")

    assert ".env cannot be read" in shell("status", code=2).err


def test_what_was_meant_by_an_unknown_command_is_guessed(shell: Shell) -> None:
    assert "Did you mean status?" in shell("staus", code=2).err
    assert "Run with --help" in shell("xyzzy", code=2).err


@pytest.mark.parametrize("command", ["status", "watch", "resume", "pause", "cancel", "results"])
def test_a_job_that_is_not_there_is_told(command: str, shell: Shell) -> None:
    assert "there are no jobs in" in shell(command, "latest", code=2).err


def test_a_level_of_logs_that_is_none_is_told(shell: Shell) -> None:
    ended = shell("coordinator", code=2, NIGHTSHIFT_LOG="loud")

    assert "NIGHTSHIFT_LOG is 'LOUD'" in ended.err
