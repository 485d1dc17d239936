"""Bespoke Labs' Curator in batch mode: it polls files and counts, and reads every line itself."""

import os

from bespokelabs import curator  # type: ignore[import-not-found]

where = {"base_url": os.environ["OPENAI_BASE_URL"], "batch_check_interval": 2}
asked = curator.LLM(model_name="minimax-m1", backend="openai", batch=True, backend_params=where)
answered = asked(["Отзыв один?", "Отзыв два?"])
assert answered.request_stats.succeeded == 2, answered.request_stats
