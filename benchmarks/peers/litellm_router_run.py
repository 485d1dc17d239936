"""LiteLLM's Router: python -m benchmarks.peers.litellm_router_run INPUT OUTPUT URL IN_FLIGHT"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

# Its table of prices would be fetched at import.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # type: ignore[import-not-found]

from benchmarks.peers.peer_files import KEY, bodies, write


async def send(asked: list[dict[str, Any]], url: str, in_flight: int) -> list[str | None]:
    """The contents of the answers."""
    parameters = {"model": f"openai/{asked[0]['model']}", "api_base": url, "api_key": KEY}
    router = litellm.Router(
        model_list=[{"model_name": asked[0]["model"], "litellm_params": parameters}],
        cache_responses=False,
        num_retries=0,
        max_fallbacks=0,
        disable_cooldowns=True,
    )
    free = asyncio.Semaphore(in_flight)

    async def one(body: dict[str, Any]) -> str | None:
        async with free:
            answer = await router.acompletion(**body)
        content: str | None = answer.choices[0].message.content
        return content

    return await asyncio.gather(*(one(body) for body in asked))


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    litellm.cache = None
    litellm.num_retries = 0
    litellm.telemetry = False
    asked = bodies(source)
    return write(output, asyncio.run(send(asked, url, int(in_flight))), len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
