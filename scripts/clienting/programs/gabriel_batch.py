"""gabriel's batch mode: over /v1/responses, answers read into a table.

It reads `output_text` alone, which our translation sends and OpenAI's API does not.
"""

import asyncio
import tempfile
from pathlib import Path

from gabriel.utils.openai_utils import get_all_responses  # type: ignore[import-not-found]

table = asyncio.run(
    get_all_responses(
        prompts=[f"Отзыв {number}" for number in range(3)],
        identifiers=[f"r-{number}" for number in range(3)],
        model="minimax/minimax-m1",
        use_batch=True,
        batch_wait_for_completion=True,
        batch_poll_interval=1,
        save_path=str(Path(tempfile.mkdtemp()) / "answers.csv"),
    )
)
rows = table.to_dict("records")
assert {row["Identifier"] for row in rows} == {"r-0", "r-1", "r-2"}, rows
assert all(row["Successful"] and row["Response"][0] for row in rows), rows
