"""inspect_ai's batch mode: an evaluation whose samples share a batch, by responses and by chat."""

import tempfile

from inspect_ai import Task, eval  # type: ignore[import-not-found]  # noqa: A004  its name
from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
from inspect_ai.model import BatchConfig  # type: ignore[import-not-found]
from inspect_ai.solver import generate  # type: ignore[import-not-found]

samples = [Sample(input=f"Отзыв {number}", target="x") for number in range(6)]
for by_responses in (True, False):
    (log,) = eval(
        Task(dataset=samples, solver=[generate()]),
        model="openai/minimax-m1",
        model_args={"responses_api": by_responses},
        batch=BatchConfig(size=6, send_delay=1, tick=1),
        max_tokens=200,
        display="none",
        log_dir=tempfile.mkdtemp(),
    )
    assert log.status == "success", log.error
    assert all(sample.output.completion for sample in log.samples)
