"""Curator, its cache off and its folders new: INPUT OUTPUT URL IN_FLIGHT

Before the requests it sends one of its own, without messages, to learn limits from the headers.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.peer_files import KEY, bodies, prompt, write

_TOKENIZERS = Path(sysconfig.get_path("purelib"), "litellm", "litellm_core_utils", "tokenizers")
"""LiteLLM comes with the table by which Curator counts tokens; it would be fetched otherwise."""


def send(asked: list[dict[str, Any]], url: str, in_flight: int) -> list[str | None]:
    """The contents of the answers."""
    from bespokelabs.curator import LLM  # type: ignore[import-not-found]

    client = LLM(
        model_name=asked[0]["model"],
        backend="openai",
        generation_params={"max_tokens": asked[0]["max_tokens"]},
        backend_params={
            "base_url": url,
            "api_key": KEY,
            "max_retries": 0,
            "max_concurrent_requests": in_flight,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
        },
    )
    return list(client([prompt(body) for body in asked]).dataset["response"])


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder:
        os.environ.update(
            # Before it is imported: it and what it imports write into the home as well.
            HOME=folder,
            HF_HOME=folder,
            HF_HUB_OFFLINE="1",
            CURATOR_CACHE_DIR=folder,
            CURATOR_DISABLE_CACHE="1",
            CURATOR_DISABLE_RICH_DISPLAY="1",
            TELEMETRY_ENABLED="false",
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            TIKTOKEN_CACHE_DIR=str(_TOKENIZERS),
        )
        return write(output, send(asked, url, int(in_flight)), len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
