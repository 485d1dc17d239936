"""Every command in a folder where somebody laid code under the names that programs import."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from batch.child_processes import environment
from batch.main import COMMANDS
from scripts.simulator import Simulator
from tests.acceptance.conftest import Running, Shell, batch_lines, shell, wait_until
from tests.conftest import CANARY, ROOT, Server

Simulators = Callable[..., Simulator]
__all__ = ["shell"]
PROGRAM = Path(sys.executable).parent / "nightshift"
OURS = ("batch", "jobs", "workers")
CONFIGS = ("celeryconfig", "flowerconfig", "sitecustomize", "usercustomize", "django", "mysite")
WEBHOOK = "WEBHOOK_SECRET"
SERVES = ("worker", "coordinator", "flower", "serve")
OF_OUR_PROCESSES = {
    "DJANGO_SETTINGS_MODULE": "mysite.settings",
    "CELERY_CONFIG_MODULE": "celeryconfig",
    "CELERY_LOADER": "celeryconfig.Loader",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
}
"""What a user's shell may hold for another project."""


@pytest.fixture
def hostile(shell: Shell) -> Iterator[Path]:
    """A working folder whose modules tell that they were run; none may have been."""
    told = shell.folder.parent / "executed"
    tells = f"open({str(told)!r}, 'a').write(__name__ + '\\n')\n"
    installed = {name for name in packages_distributions() if name.isidentifier()}
    for name in sys.stdlib_module_names | installed | {*OURS, *CONFIGS}:
        (shell.folder / f"{name}.py").write_text(tells)
    for name in (*OURS, "mysite"):
        (shell.folder / name).mkdir()
        for module in ("__init__", "__main__", "main", "settings"):
            (shell.folder / name / f"{module}.py").write_text(tells)
    yield shell.folder
    assert not told.exists(), told.read_text()


def environ(shell: Shell, **more: str) -> dict[str, str]:
    """That of the shell, as it is where the product is installed."""
    found = {**shell.environ, **OF_OUR_PROCESSES, **more}
    found.pop("PYTHONPATH", None)
    return found


def run(shell: Shell, *words: str, program: Path = PROGRAM) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *words],
        cwd=shell.folder,
        env=environ(shell),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=90,
        check=False,
    )


def test_no_command_runs_code_of_its_folder(
    hostile: Path, shell: Shell, simulator: Simulators
) -> None:
    shell.point_at(simulator())
    (hostile / "in.jsonl").write_text(batch_lines(3))
    words = {"run": ("in.jsonl", "--yes"), "submit": ("in.jsonl",), "validate": ("in.jsonl",)}
    words |= {"estimate": ("in.jsonl",)}
    of_a_job = ("watch", "resume", "pause", "cancel", "results", "cost")
    words |= dict.fromkeys(of_a_job, ("latest",))
    codes = {}
    # Nobody does what is submitted here: it is the last.
    for command in ("run", *({*COMMANDS} - {*SERVES, "run", "submit"}), "submit"):
        codes[command] = run(shell, command, *words.get(command, ())).returncode

    assert {*codes} | {*SERVES} == {*COMMANDS}
    assert codes["run"] == codes["resume"] == codes["doctor"] == 0, codes
    assert set(codes.values()) <= {0, 2, 5}, codes


def test_no_service_runs_code_of_its_folder(
    hostile: Path, shell: Shell, simulator: Simulators, server: Server
) -> None:
    shell.point_at(simulator(), server)
    (hostile / "in.jsonl").write_text(batch_lines(3))
    out = hostile.parent / "out"

    with serving(PROGRAM, shell):
        assert run(shell, "submit", "in.jsonl", "-o", str(out)).returncode == 0
        wait_until("it is done", (out / "output.jsonl").exists)


@contextmanager
def serving(program: Path, shell: Shell) -> Iterator[None]:
    """The services, started in the shell's folder; they must end well."""
    processes = []
    for name in SERVES:
        more = {"flower": ("--port", "0"), "serve": ("--port", "0", "--api-only")}.get(name, ())
        with (shell.folder.parent / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [program, name, *more],
                    cwd=shell.folder,
                    env=environ(shell, NIGHTSHIFT_SCRATCH=str(shell.folder.parent / "scratch")),
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )
    try:
        flower = shell.folder.parent / "flower.log"
        wait_until("Flower is there", lambda: "Flower is at" in flower.read_text())
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in processes]
    assert codes == [0] * len(SERVES)


def test_a_module_that_is_run_by_hand_leaves_its_folder_out_too(shell: Shell) -> None:
    (shell.folder / "jobs.py").write_text("raise SystemExit(66)")
    (shell.folder / "click.py").write_text("raise SystemExit(66)")

    for module, code in (("batch", 0), ("workers", 2)):
        ended = subprocess.run(
            [sys.executable, "-m", module, "--version"],
            cwd=shell.folder,
            env=environ(shell, NIGHTSHIFT_REDIS_URL=""),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == code, ended


def test_containers_leave_their_folder_out_too() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    checks = [service["healthcheck"]["test"] for service in compose["services"].values()]

    assert re.search(r"^(ENV|    ).*PYTHONSAFEPATH=1", dockerfile, re.MULTILINE)
    assert all(check[:3] == ["CMD", "python", "-P"] for check in checks if "python" in check)


# ---- what a process of ours is given -----------------------------------------------------------


def environs(pid: int) -> dict[str, str]:
    """What each process below that one was started with, by its command line."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.split()
    below = [
        int(child)
        for child, parent in zip(rows[::2], rows[1::2], strict=True)
        if int(parent) == pid
    ]
    return {
        Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "): Path(
            f"/proc/{child}/environ"
        ).read_text()
        for child in below
    }


@pytest.mark.parametrize(
    "started", ["workers", "workers.key_check", "coordinator", "intake", "flower"]
)
def test_what_signs_webhooks_stays_with_serve(started: str) -> None:
    both = {f"NIGHTSHIFT_{WEBHOOK}": "secret", f"NIGHTSHIFT_{WEBHOOK}_FILE": "/etc/secret"}

    assert environment(started, both).keys().isdisjoint(both)


def test_serve_refuses_a_secret_that_others_can_read_before_it_starts(shell: Shell) -> None:
    loose = shell.write("webhook", "whsec_c2VjcmV0")
    loose.chmod(0o644)

    ended = shell("serve", "--port", "0", code=2, NIGHTSHIFT_WEBHOOK_SECRET_FILE=str(loose))

    assert "chmod" in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_each_process_has_its_own_secrets_and_leaves_no_core(
    shell: Shell, simulator: Simulators
) -> None:
    shell.point_at(simulator("--latency", "constant:30"))
    shell.write("in.jsonl", batch_lines(2))
    others = ("NOTIFY_SECRET", "TELEGRAM_TOKEN", "SMTP_PASSWORD", "FLOWER_PASSWORD", WEBHOOK)
    more = {f"NIGHTSHIFT_{name}": f"other-secret-{name}" for name in others}

    running: Running = shell.start("run", "in.jsonl", "--yes", **more)
    wait_until("calls are under way", lambda: "0 of 2" in running.err or " 2 " in running.err)
    pid = running.process.pid
    wait_until("both are there", lambda: len(environs(pid)) >= 2)
    found = environs(pid)
    (worker,) = (text for line, text in found.items() if "-m workers" in line)
    (server,) = (text for line, text in found.items() if "-m workers" not in line)

    assert CANARY in worker
    assert "other-secret" not in worker
    assert CANARY not in server
    assert "other-secret" not in server
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
