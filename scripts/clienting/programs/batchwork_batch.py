"""Batchwork: texts and embeddings."""

import asyncio

from batchwork import (  # type: ignore[import-not-found]
    BatchEmbeddingRequest,
    BatchRequest,
    Batchwork,
)

MODEL = "openai/minimax/minimax-m1"


async def main() -> None:
    """Two batches, one after the other."""
    async with Batchwork() as client:
        texts = [BatchRequest(custom_id=f"t-{each}", prompt=f"Отзыв {each}") for each in range(3)]
        job = await client.batch(model=MODEL, requests=texts)
        await job.wait(timeout=120)
        assert {each.custom_id for each in await job.collect() if each.text} == {
            "t-0",
            "t-1",
            "t-2",
        }
        inputs = [BatchEmbeddingRequest(customId=f"e-{each}", value="Отзыв") for each in range(3)]
        job = await client.batch_embeddings(model=MODEL, requests=inputs)
        await job.wait(timeout=120)
        assert all(each.embedding for each in await job.collect())


asyncio.run(main())
