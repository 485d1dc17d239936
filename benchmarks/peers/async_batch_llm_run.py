"""async-batch-llm: python -m benchmarks.peers.async_batch_llm_run INPUT OUTPUT URL IN_FLIGHT"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from async_batch_llm import (  # type: ignore[import-not-found]
    ModelStrategy,
    OpenAICompatibleModel,
    ProcessorConfig,
    RetryConfig,
    process_prompts,
)

from benchmarks.peers.peer_files import KEY, PATIENCE_S, bodies, prompt, write


async def send(asked: list[dict[str, Any]], url: str, in_flight: int) -> list[str | None]:
    """The contents of the answers."""
    model = OpenAICompatibleModel.from_api_key(
        asked[0]["model"],
        KEY,
        base_url=url,
        max_connections=in_flight,
        max_retries=0,
        timeout=PATIENCE_S,
    )
    strategy = ModelStrategy(model, generation_config={"max_tokens": asked[0]["max_tokens"]})
    config = ProcessorConfig(
        concurrency=in_flight, retry=RetryConfig(max_attempts=1, max_rate_limit_retries=0)
    )
    batch = await process_prompts(strategy, [prompt(body) for body in asked], config=config)
    return [result.output for result in batch.results]


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    return write(output, asyncio.run(send(asked, url, int(in_flight))), len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
