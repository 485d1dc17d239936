"""What every peer's script does alike: read the requests, write the answers, miss none."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEY = "k"
"""The endpoint takes any."""

PATIENCE_S = 600
"""Before a request is given up."""


def bodies(source: str) -> list[dict[str, Any]]:
    """The bodies of the requests: model, messages, max_tokens."""
    with Path(source).open(encoding="utf-8") as file:
        return [json.loads(line)["body"] for line in file]


def prompt(body: dict[str, Any]) -> str:
    """What its one message says."""
    return str(body["messages"][0]["content"])


def write(output: str, contents: Sequence[str | None], asked: int) -> int:
    """Writes the answers, says how many there are; the exit code, 1 if one is missing."""
    answered = [content for content in contents if content]
    with Path(output).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"content": content}) + "\n" for content in answered)
    print(f"{len(answered)} of {asked} answered", file=sys.stderr)
    return 0 if len(answered) == asked else 1
