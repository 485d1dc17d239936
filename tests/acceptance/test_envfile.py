"""The file .env of the working folder: what is taken from it, and what is not believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines
from tests.conftest import CANARY, Server

Simulators = Callable[..., Simulator]


def env_file(shell: Shell, **values: str) -> Path:
    path = shell.write(".env", "".join(f"{name}={value}\n" for name, value in values.items()))
    path.chmod(0o600)
    return path


def alone(shell: Shell, *names: str) -> dict[str, str]:
    """Takes these out of the environment: only the file may set them."""
    return {name: shell.environ.pop(name) for name in names}


def test_what_is_ours_is_taken_and_named_and_nothing_else(
    shell: Shell, simulator: Simulators
) -> None:
    shell.point_at(simulator())
    own = alone(shell, "NIGHTSHIFT_BASE_URL", "ROUTERAI_API_KEY")
    shell.write("in.jsonl", batch_lines(2))
    env_file(shell, **own, NIGHTSHIFT_NAME="${ROUTERAI_API_KEY}", NIGHTSHIFT_YES="1", PATH="/no")

    asks = shell("run", "in.jsonl", "--json", NIGHTSHIFT_BASE_URL="https://127.0.0.9/v1", code=2)
    ended = shell("run", "in.jsonl", "--json")

    assert "--yes" in asks.err
    assert "read from .env: NIGHTSHIFT_BASE_URL, ROUTERAI_API_KEY, NIGHTSHIFT_NAME\n" in ended.err
    assert '"name":"${ROUTERAI_API_KEY}"' in ended.out.replace(" ", "")
    assert CANARY not in ended.err + ended.out


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_a_file_that_others_can_write_is_not_read(shell: Shell, mode: int) -> None:
    env_file(shell, NIGHTSHIFT_LANG="ru").chmod(mode)

    assert "is writable by others" in shell("status", code=2).err


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a file away needs root")
def test_a_file_of_another_user_is_not_read(shell: Shell) -> None:
    os.chown(env_file(shell, NIGHTSHIFT_LANG="ru"), 65534, 65534)

    assert "belongs to another user" in shell("status", code=2).err


def test_a_value_that_no_variable_can_hold_is_told(shell: Shell) -> None:
    env_file(shell, NIGHTSHIFT_NAME="a\0b")

    assert ".env contains a null byte" in shell("status", code=2).err


def test_a_pipe_of_that_name_holds_nobody_up(shell: Shell) -> None:
    os.mkfifo(shell.folder / ".env", 0o600)

    assert "not a regular file" in shell("status", code=2).err


def test_a_pipe_that_is_named_as_a_secret_holds_nobody_up_either(shell: Shell) -> None:
    os.mkfifo(shell.folder / "key", 0o600)

    told = shell("doctor", NIGHTSHIFT_API_KEY_FILE="key", ROUTERAI_API_KEY="", code=4)

    assert "not a regular file" in told.out + told.err


@pytest.mark.parametrize("option", ["--prompt-file", "--schema"])
def test_what_has_no_end_is_too_large(shell: Shell, option: str) -> None:
    shell.write("in.csv", "a\n1\n")
    prompt = () if option == "--prompt-file" else ("--prompt", "{{ a }}")

    told = shell("validate", "in.csv", *prompt, option, "/dev/zero", "--model", MODEL, code=2)

    assert f"{option}: /dev/zero is larger than 1 MiB" in told.err


_NAMES = ("REDIS_URL", "HOME", "NOTIFY_URL", "NOTIFY_MAIL", "TELEGRAM_URL", "SMTP_URL")
_COMMANDS = ("run", "submit", "resume", "cancel", "estimate", "preview", "serve")
_SERVICES = ("worker", "coordinator", "doctor")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        *((name, "run") for name in _NAMES),
        *(("BASE_URL", command) for command in (*_COMMANDS, *_SERVICES)),
    ],
)
def test_an_address_from_there_meets_no_key_from_elsewhere(
    shell: Shell, name: str, command: str
) -> None:
    shell.write("in.jsonl", batch_lines(1))
    env_file(shell, **{f"NIGHTSHIFT_{name}": "https://login:secret@127.0.0.1:1/x"})
    files = dict.fromkeys(("run", "submit", "estimate", "preview"), ("in.jsonl",))
    words = (*files.get(command, ()), *(["--yes"] if command == "run" else []))

    refused = shell(command, *words, NIGHTSHIFT_HOME="", HOME=str(shell.folder), code=2).err

    assert (
        f"NIGHTSHIFT_{name} (https://127.0.0.1:1/x), but ROUTERAI_API_KEY was set elsewhere"
        in refused
    )
    assert "secret@" not in refused


def test_a_file_of_a_key_that_is_named_there_is_not_sent_either(shell: Shell) -> None:
    alone(shell, "ROUTERAI_API_KEY")
    shell.write("id", "private").chmod(0o600)
    shell.write("in.jsonl", batch_lines(1))
    env_file(shell, NIGHTSHIFT_API_KEY_FILE="id")

    refused = shell("run", "in.jsonl", "--yes", code=2)

    assert (
        "NIGHTSHIFT_API_KEY_FILE (id), but NIGHTSHIFT_API_KEY_FILE was set elsewhere" in refused.err
    )


@pytest.mark.parametrize("command", ["doctor", "watch latest", "status --watch"])
def test_a_secret_of_notifications_is_lent_to_no_address_from_there(
    shell: Shell, command: str
) -> None:
    alone(shell, "ROUTERAI_API_KEY")
    env_file(shell, ROUTERAI_API_KEY=CANARY, NIGHTSHIFT_TELEGRAM_URL="https://127.0.0.1:1")

    assert "NIGHTSHIFT_TELEGRAM_TOKEN was set elsewhere" in (
        shell(*command.split(), NIGHTSHIFT_TELEGRAM_TOKEN="123:abc", code=2).err
    )
    shell("status", NIGHTSHIFT_TELEGRAM_TOKEN="123:abc")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("coordinator", "NIGHTSHIFT_CATALOG_KEY", "canary-catalogue-1"),
        ("coordinator", "NIGHTSHIFT_CATALOG_HEADER", "api-key=env:MINE"),
        ("worker", "NIGHTSHIFT_HEADER", "api-key=env:MINE"),
    ],
)
def test_neither_is_what_goes_beside_the_key_or_opens_the_catalogue(
    shell: Shell, command: str, name: str, value: str
) -> None:
    alone(shell, "ROUTERAI_API_KEY")
    env_file(shell, NIGHTSHIFT_BASE_URL="https://127.0.0.1:1/v1")
    shell.environ |= {name: value, "MINE": CANARY}

    refused = shell(command, code=2).err

    assert f"{name} was set elsewhere" in refused
    assert CANARY not in refused


@pytest.mark.parametrize("words", [("--header", "X-A=env:MINE"), ("--header=X-A=@mine",)])
def test_neither_is_a_secret_header_of_the_command_line(
    shell: Shell, words: tuple[str, ...]
) -> None:
    alone(shell, "ROUTERAI_API_KEY")
    shell.write("mine", CANARY).chmod(0o600)
    shell.write("in.jsonl", batch_lines(1))
    env_file(shell, NIGHTSHIFT_BASE_URL="https://127.0.0.1:1/v1")

    refused = shell("estimate", "in.jsonl", *words, MINE=CANARY, code=2).err

    assert "--header was set elsewhere" in refused
    shell("estimate", "in.jsonl", "--header", "X-A=plain", MINE=CANARY)


@pytest.mark.parametrize("name", ["PROMPT_FILE", "SYSTEM_FILE", "SCHEMA", "GOLD"])
def test_no_file_from_elsewhere_is_sent_to_an_address_from_there(shell: Shell, name: str) -> None:
    alone(shell, "ROUTERAI_API_KEY")
    diary = shell.folder.parent / "diary"
    diary.write_text("private {{ a }}")
    (shell.folder / "link").symlink_to(diary)
    (shell.folder / "loop").symlink_to("loop")
    named = {"ROUTERAI_API_KEY": CANARY, "NIGHTSHIFT_BASE_URL": "https://127.0.0.1:1/v1"}
    for path in (str(diary), "../diary", "link"):
        env_file(shell, **named, **{f"NIGHTSHIFT_{name}": path})

        refused = shell("estimate", "in.csv", code=2).err

        assert f"but NIGHTSHIFT_{name} ({path}) was set elsewhere" in refused
    env_file(shell, **named, **{f"NIGHTSHIFT_{name}": "loop"})
    shell("estimate", "in.csv", code=2)


@pytest.mark.parametrize("name", ["RUB_PER_DAY", "RUB_PER_MONTH", "ZONE"])
def test_it_raises_no_cap_of_all_jobs(shell: Shell, name: str) -> None:
    shell("budget", "--budget-rub-per-day", "5")
    env_file(shell, **{f"NIGHTSHIFT_BUDGET_{name}": "100000"})

    refused = shell("submit", "in.jsonl", code=2).err

    assert f"NIGHTSHIFT_BUDGET_{name}, a cap of all jobs" in refused
    shell("status")
    shell("submit", "--help")
    (shell.folder / ".env").unlink()
    assert "of 5.00 ₽" in shell("budget").out


def test_a_person_is_asked(shell: Shell, simulator: Simulators, server: Server) -> None:
    shell.point_at(simulator(), server)
    env_file(shell, **alone(shell, "NIGHTSHIFT_BASE_URL"))
    for answer, code in ((b"n\r", 130), (b"y\r", 4)):
        terminal = shell.terminal("doctor", columns=100)
        terminal.shows("(http://127.0.0.1:")
        terminal.shows("[y/N]")
        terminal.press(answer)
        shown = terminal.ends(code)
        assert ("Python 3" in shown) is (answer == b"y\r")


def test_what_needs_no_key_asks_nothing(shell: Shell) -> None:
    env_file(shell, NIGHTSHIFT_BASE_URL="https://127.0.0.1:1/v1")

    shell("status")
    assert "Usage" in shell("run", "--help").out
