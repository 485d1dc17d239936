"""distilabel's offline batch generation."""

import os

from distilabel.models import OpenAILLM  # type: ignore[import-not-found]

model = OpenAILLM(
    model="minimax/minimax-m1",
    base_url=os.environ["OPENAI_BASE_URL"],
    use_offline_batch_generation=True,
    offline_batch_generation_block_until_done=1,
)
model.load()
inputs = [[{"role": "user", "content": f"Отзыв {number}"}] for number in range(3)]
answers = model.generate_outputs(inputs=inputs, max_new_tokens=200)
assert len(answers) == 3, answers
assert all(each["generations"][0] for each in answers), answers
