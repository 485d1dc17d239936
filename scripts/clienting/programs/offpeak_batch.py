"""offpeak: jobs with a deadline, at the price of a batch."""

import offpeak  # type: ignore[import-not-found]
from offpeak.venues.openai_batch import OpenAIBatch  # type: ignore[import-not-found]

jobs = [offpeak.job("gpt-flex", f"Отзыв {number}") for number in range(3)]
results = offpeak.run(jobs, deadline="20h", venues=[OpenAIBatch()])
assert all(each.ok for each in results), results
assert "openai:batch 3" in str(offpeak.receipt(results))
