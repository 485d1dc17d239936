"""asyncio.gather and the SDK of OpenAI, as one writes it in ten minutes: nothing kept, no cap.

python -m benchmarks.peers.gather_run INPUT OUTPUT URL IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from benchmarks.peers.answers import KEY, bodies, write


async def send(asked: list[dict[str, Any]], url: str, in_flight: int) -> list[str | None]:
    """The contents of the answers."""
    # As it comes, the SDK keeps 100 connections and opens the others anew for each request.
    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    pool = DefaultAsyncHttpxClient(limits=limits)
    free = asyncio.Semaphore(in_flight)
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, http_client=pool) as client:

        async def one(body: dict[str, Any]) -> str | None:
            async with free:
                answer = await client.chat.completions.create(**body)
            content: str | None = answer.choices[0].message.content
            return content

        return await asyncio.gather(*(one(body) for body in asked))


def main(source: str, output: str, url: str, in_flight: str) -> int:
    """Sends all; the exit code."""
    asked = bodies(source)
    return write(output, asyncio.run(send(asked, url, int(in_flight))), len(asked))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
