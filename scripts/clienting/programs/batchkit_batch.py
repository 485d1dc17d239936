"""batchkit: rows of a batch over /v1/responses, each beside its item."""

from batchkit import BatchClient  # type: ignore[import-not-found]
from openai import OpenAI  # type: ignore[import-not-found,unused-ignore]

job = BatchClient(OpenAI()).map(
    name="reviews",
    items=[f"Отзыв {number}" for number in range(3)],
    model="minimax/minimax-m1",
    build_request=lambda text: {"input": text},
)
rows = job.wait(progress=False).rows
assert len(rows) == 3, rows
assert all(row.ok for row in rows), rows
