"""Environments of their own for what is compared with, made on demand; and a free endpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PADDING = "слово " * 80


def python_with(name: str, *requirements: str) -> Path:
    """The interpreter of the environment of that name, which holds these `package==version`."""
    folder = ROOT / ".venv-bench" / name
    python, holds = folder / "bin" / "python", folder / "holds.txt"
    if not holds.exists() or holds.read_text().split() != list(requirements):
        print(f"installing {', '.join(requirements)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *requirements], check=True)
        holds.write_text("\n".join(requirements))
    return python


def environ_for(home: Path | str, url: str) -> dict[str, str]:
    """What a command finds in its environment: a home of its own, and that endpoint."""
    return {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_BASE_URL": url,
        "ROUTERAI_API_KEY": "k",
        # Where it is set, each start would compile the program anew; installed ones are not.
        "PYTHONDONTWRITEBYTECODE": "",
    }


@contextmanager
def endpoint(*options: str) -> Iterator[str]:
    """The nearly free endpoint; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.constant_endpoint", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait()


def counts(url: str) -> dict[str, int]:
    """`calls` that the endpoint answered so far, and `connections` that it took."""
    with urllib.request.urlopen(f"{url}/counts") as answer:  # noqa: S310
        found: dict[str, int] = json.load(answer)
    return found


def write_input(path: Path, requests: int) -> None:
    """Lines of about 1 KB, in Russian, in the form of OpenAI's batches."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(requests):
            messages = [{"role": "user", "content": f"Отзыв {number} {_PADDING}"}]
            body = {"model": "minimax/minimax-m1", "messages": messages, "max_tokens": 100}
            line = {
                "custom_id": f"r-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
