"""LangBatch: a file of requests, its status and its results."""

import json
import tempfile
import time
from pathlib import Path

from langbatch import chat_completion_batch  # type: ignore[import-not-found]

path = Path(tempfile.mkdtemp()) / "in.jsonl"
with path.open("w") as lines:
    for number in range(3):
        body = {
            "model": "minimax/minimax-m1",
            "messages": [{"role": "user", "content": f"Отзыв {number}"}],
        }
        where = {"method": "POST", "url": "/v1/chat/completions"}
        lines.write(json.dumps({"custom_id": f"r-{number}", **where, "body": body}) + "\n")
batch = chat_completion_batch(str(path), provider="openai")
batch.start()
while batch.get_status() not in ("completed", "failed"):
    time.sleep(0.5)
answered, failed = batch.get_results()
assert {each["custom_id"] for each in answered} == {"r-0", "r-1", "r-2"}, (answered, failed)
