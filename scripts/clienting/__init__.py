"""Programs that others wrote for OpenAI's Batch API, run unchanged against `nightshift serve`."""
