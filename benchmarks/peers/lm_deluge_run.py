"""lm-deluge: python -m benchmarks.peers.lm_deluge_run INPUT OUTPUT URL IN_FLIGHT"""

from __future__ import annotations

import os
import sys

from lm_deluge import Conversation, LLMClient  # type: ignore[import-not-found]
from lm_deluge.models import register_model  # type: ignore[import-not-found]

from benchmarks.peers.peer_files import KEY, bodies, prompt, write


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    os.environ["BENCH_KEY"] = KEY
    asked = bodies(source)
    register_model("bench", asked[0]["model"], url, "BENCH_KEY", "openai")
    client = LLMClient(
        "bench",
        max_requests_per_minute=10_000_000,
        max_tokens_per_minute=10_000_000_000,
        max_concurrent_requests=int(in_flight),
        max_new_tokens=asked[0]["max_tokens"],
        max_attempts=1,
    )
    prompts = [Conversation().user(prompt(body)) for body in asked]
    answers = client.process_prompts_sync(prompts, show_progress=False)
    return write(output, [answer.completion for answer in answers], len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
