"""The same requests through lm-deluge: python lm_deluge_run.py INPUT OUTPUT URL IN_FLIGHT"""

from __future__ import annotations

import json
import os
import sys

from lm_deluge import Conversation, LLMClient  # type: ignore[import-not-found]
from lm_deluge.models import register_model  # type: ignore[import-not-found]

source, output, url, in_flight = sys.argv[1:5]
os.environ["BENCH_KEY"] = "k"
register_model("bench", "minimax/minimax-m1", url, "BENCH_KEY", "openai")
prompts = []
with open(source, encoding="utf-8") as file:  # noqa: PTH123
    for line in file:
        body = json.loads(line)["body"]
        prompts.append(Conversation().user(body["messages"][0]["content"]))
client = LLMClient(
    "bench",
    max_requests_per_minute=10_000_000,
    max_tokens_per_minute=10_000_000_000,
    max_concurrent_requests=int(in_flight),
    max_new_tokens=100,
)
answers = client.process_prompts_sync(prompts, show_progress=False)
with open(output, "w", encoding="utf-8") as file:  # noqa: PTH123
    file.writelines(json.dumps({"content": answer.completion}) + "\n" for answer in answers)
print(sum(answer.completion is not None for answer in answers), "answers", file=sys.stderr)
