"""autobatcher: calls that look like live ones, in batches of 24 hours."""

import asyncio
import os

from autobatcher import BatchOpenAI  # type: ignore[import-not-found]

MODEL = "minimax/minimax-m1"


async def main() -> None:
    """Chat, responses and embeddings."""
    client = BatchOpenAI(
        api_key="any",
        base_url=os.environ["OPENAI_BASE_URL"],
        completion_window="24h",
        batch_window_seconds=0.5,
        poll_interval_seconds=0.5,
    )
    asked = [{"role": "user", "content": "Отзыв"}]
    chat, other, vectors, response = await asyncio.gather(
        client.chat.completions.create(model=MODEL, messages=asked),
        client.chat.completions.create(model=MODEL, messages=asked, max_tokens=100),
        client.embeddings.create(model=MODEL, input="Отзыв"),
        client.responses.create(model=MODEL, input="Отзыв"),
    )
    assert chat.choices[0].message.content
    assert other.choices[0].message.content
    assert vectors.data[0].embedding
    assert response.output_text
    await client.close()


asyncio.run(main())
