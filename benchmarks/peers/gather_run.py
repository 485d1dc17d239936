"""asyncio.gather and the SDK of OpenAI, as one writes it in ten minutes: nothing kept, no cap.

python -m benchmarks.peers.gather_run INPUT OUTPUT URL IN_FLIGHT

The SDK's pool is as it comes: it keeps 100 connections, and opens others anew. With a pool for all
that are in flight it takes half as much CPU again, since each request looks through the whole pool.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from openai import AsyncOpenAI

from benchmarks.peers.peer_files import KEY, PATIENCE_S, bodies, write


async def send(asked: list[dict[str, Any]], client: AsyncOpenAI, in_flight: int) -> list[str]:
    """The contents of the answers."""
    free = asyncio.Semaphore(in_flight)

    async def one(body: dict[str, Any]) -> str:
        async with free:
            answer = await client.chat.completions.create(**body)
        content: str = answer.choices[0].message.content
        return content

    async with client:
        return await asyncio.gather(*(one(body) for body in asked))


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    client = AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE_S)
    return write(output, asyncio.run(send(asked, client, int(in_flight))), len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
