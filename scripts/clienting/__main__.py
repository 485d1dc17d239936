"""Installs clients on demand, each in an environment of its own, and runs them one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from scripts.simulator import Simulator
from scripts.torturing.installation import free_port

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_S, SOON_S = 300.0, 60.0


class Client(NamedTuple):
    """What to install (packages by spaces), which program to run with it, and before what.

    `lacking`: a path that the endpoint does not have.
    """

    package: str
    program: str
    lacking: str = ""

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"{Path(self.program).suffix[1:]}:{self.package.split()[0]}"


CLIENTS = (
    Client("openai==1.109.1", "sdk.py"),
    Client("openai==2.30.0", "sdk.py"),
    Client("openai==3.57.0", "sdk.py"),
    Client("openai@4", "sdk.mjs"),
    Client("openai@6", "sdk.mjs"),
    Client("openai@7", "sdk.mjs"),
    Client("ai@7 @ai-sdk/openai@4", "ai_sdk.mjs"),
    Client("ai@7 @ai-sdk/openai@4", "ai_sdk.mjs", lacking="responses"),
    Client("pydantic-ai-slim[openai]", "pydantic_ai_batch.py"),
    Client("pydantic-ai-slim[openai]", "pydantic_ai_batch.py", lacking="responses"),
    Client("openai-gabriel", "gabriel_batch.py", lacking="responses"),
    Client("litellm", "litellm_batch.py"),
    Client("instructor", "instructor_batch.py"),
    Client("bespokelabs-curator", "curator_batch.py"),
    Client("inspect-ai openai", "inspect_ai_batch.py"),
    Client("distilabel[openai] requests", "distilabel_batch.py"),
    Client("langasync langchain-openai", "langasync_batch.py"),
    Client("batchwork-ai", "batchwork_batch.py"),
    Client("any-llm-sdk[openai]", "any_llm_batch.py"),
    Client("autobatcher", "autobatcher_batch.py"),
    Client("langbatch", "langbatch_batch.py"),
    Client("offpeak openai", "offpeak_batch.py"),
    Client("batchkit-ai", "batchkit_batch.py"),
)


def command_of(client: Client, folder: Path, patience_s: float) -> list[str]:
    """The command that runs it, installed in `folder` if it is not yet, within so many seconds."""
    if client.program.endswith(".mjs"):
        if not (folder / "node_modules").exists():
            folder.mkdir(parents=True, exist_ok=True)
            install = ["npm", "install", "--silent", "--no-fund", *client.package.split()]
            subprocess.run(install, cwd=folder, check=True, timeout=patience_s)
        shutil.copy(PROGRAMS / client.program, folder)
        return ["node", str(folder / client.program)]
    python = folder / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", folder], check=True)
        install = [*uv, "pip", "install", "-q", "--python", str(python), *client.package.split()]
        subprocess.run(install, check=True, timeout=patience_s)
    return [str(python), str(PROGRAMS / client.program)]


@contextmanager
def served(folder: Path, lacking: str) -> Iterator[str]:
    """The base URL of a server of our own, before a simulator that may lack a path."""
    port = free_port()
    folder.mkdir(parents=True)
    options = ["--latency", "uniform:0.05:0.2", *(["--without", lacking] if lacking else [])]
    with Simulator(*options, book=folder / "book.jsonl") as simulator:
        environ = {
            **os.environ,
            "NIGHTSHIFT_HOME": str(folder / "home"),
            "NIGHTSHIFT_BASE_URL": simulator.base_url,
            "ROUTERAI_API_KEY": "simulated",
        }
        command = [sys.executable, "-P", "-m", "batch", "serve", "--port", str(port)]
        with (folder / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  loopback
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=ROOT / ".clients",
    help="Where the environments are kept.",
)
@click.option(
    "--if-possible",
    is_flag=True,
    help="Name those that cannot be installed here, instead of failing for them.",
)
def main(names: tuple[str, ...], folder: Path, *, if_possible: bool) -> None:
    """Run clients whose name begins with one of NAMES (`py:openai`, `mjs:`), or all of them."""
    chosen = [each for each in CLIENTS if not names or each.name.startswith(names)]
    failed = 0
    for lacking in sorted({each.lacking for each in chosen}):
        scratch = folder / f"run-{os.getpid()}" / f"without-{lacking or 'nothing'}"
        with served(scratch, lacking) as url:
            environ = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "any"}
            fitting = (each for each in chosen if each.lacking == lacking)
            failed += sum(
                not _passes(each, folder, environ, if_possible=if_possible) for each in fitting
            )
    sys.exit(failed > 0)


def _passes(client: Client, folder: Path, environ: dict[str, str], *, if_possible: bool) -> bool:
    try:
        place = (folder / client.name.replace(":", "-")).absolute()
        command = command_of(client, place, SOON_S if if_possible else PATIENCE_S)
    except (subprocess.SubprocessError, OSError) as error:
        click.echo(f"NOT RUN {client.name}: it cannot be installed: {error}")
        return if_possible
    try:
        subprocess.run(command, env=environ, check=True, timeout=PATIENCE_S)
    except (subprocess.SubprocessError, OSError) as error:
        click.echo(f"{client.name}: {type(error).__name__}: {error}")
        return False
    click.echo(f"{client.name}{client.lacking and f', without {client.lacking}'}: ok")
    return True


if __name__ == "__main__":
    main()
