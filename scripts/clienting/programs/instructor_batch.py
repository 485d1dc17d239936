"""instructor's BatchProcessor: answers against a schema, through OpenAI's provider."""

import tempfile
import time
from pathlib import Path

from instructor.batch import BatchProcessor  # type: ignore[import-not-found]
from pydantic import BaseModel


class Tone(BaseModel):
    """What is asked of each text."""

    tone: str


processor = BatchProcessor("openai/minimax-m1", Tone)
path = str(Path(tempfile.mkdtemp()) / "in.jsonl")
messages = [[{"role": "user", "content": f"Отзыв {number}"}] for number in range(3)]
processor.create_batch_from_messages(messages_list=messages, file_path=path, max_tokens=50)
batch = processor.submit_batch(path)
while processor.get_batch_status(batch)["status"] not in ("completed", "failed"):
    time.sleep(0.3)
results = processor.retrieve_results(batch)
# What the simulator says is no JSON of this schema, and is told as such, row by row.
assert len(results) == 3, results
assert processor.list_batches(limit=5)
