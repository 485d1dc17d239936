"""As `gather_run`, over the SDK's other transport, aiohttp: INPUT OUTPUT URL IN_FLIGHT"""

from __future__ import annotations

import asyncio
import sys

from openai import AsyncOpenAI, DefaultAioHttpClient

from benchmarks.peers.gather_run import send
from benchmarks.peers.peer_files import KEY, PATIENCE_S, bodies, write


async def run(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    client = AsyncOpenAI(
        base_url=url,
        api_key=KEY,
        max_retries=0,
        timeout=PATIENCE_S,
        http_client=DefaultAioHttpClient(timeout=PATIENCE_S),
    )
    return write(output, await send(asked, client, int(in_flight)), len(asked))


if __name__ == "__main__":
    sys.exit(asyncio.run(run(*sys.argv[1:5])))
