"""LiteLLM as a client: its batch functions with OpenAI's provider."""

import io
import json
import os
import time

import litellm  # type: ignore[import-not-found]

WHERE = {
    "custom_llm_provider": "openai",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
}
BODY = {"model": "minimax/minimax-m1", "messages": [{"role": "user", "content": "?"}]}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}

content = io.BytesIO(json.dumps(LINE).encode())
file = litellm.create_file(file=("in.jsonl", content), purpose="batch", **WHERE)
batch = litellm.create_batch(
    completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **WHERE
)
while (batch := litellm.retrieve_batch(batch_id=batch.id, **WHERE)).status not in (
    "completed",
    "failed",
):
    time.sleep(0.3)
assert batch.status == "completed", batch
answer = json.loads(litellm.file_content(file_id=batch.output_file_id, **WHERE).content)
assert answer["custom_id"] == "a"
assert litellm.list_batches(**WHERE).data
