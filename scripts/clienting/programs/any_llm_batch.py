"""any-llm: from a file to the objects of its answers, a list, a cancellation."""

import json
import os
import tempfile
import time
from pathlib import Path

from any_llm import (  # type: ignore[import-not-found]
    cancel_batch,
    create_batch,
    list_batches,
    retrieve_batch,
    retrieve_batch_results,
)

there = {"provider": "openai", "api_base": os.environ["OPENAI_BASE_URL"]}
made = {"endpoint": "/v1/chat/completions", **there}
path = Path(tempfile.mkdtemp()) / "in.jsonl"
with path.open("w") as lines:
    for number in range(3):
        body = {
            "model": "minimax/minimax-m1",
            "messages": [{"role": "user", "content": f"Отзыв {number}"}],
        }
        line = {"custom_id": f"r-{number}", "method": "POST", "url": made["endpoint"], "body": body}
        lines.write(json.dumps(line) + "\n")
batch = create_batch(input_file_path=str(path), **made)
while (batch := retrieve_batch(batch_id=batch.id, **there)).status not in ("completed", "failed"):
    time.sleep(0.3)
told = retrieve_batch_results(batch_id=batch.id, **there).results
assert {each.custom_id for each in told} == {"r-0", "r-1", "r-2"}, told
assert all(each.result.choices[0].message.content for each in told), told
assert batch.id in {each.id for each in list_batches(**there)}
other = create_batch(input_file_path=str(path), **made)
assert cancel_batch(batch_id=other.id, **there).status in ("cancelling", "cancelled")
