"""pydantic-ai over /v1/responses: agents that share a batch, direct requests, refusal, cancel."""

import asyncio
from datetime import timedelta

from pydantic_ai import Agent, ModelRequest  # type: ignore[import-not-found]
from pydantic_ai.capabilities import BatchModelRequests  # type: ignore[import-not-found]
from pydantic_ai.direct import model_request_batch  # type: ignore[import-not-found]
from pydantic_ai.models.batch import BatchRequest  # type: ignore[import-not-found]
from pydantic_ai.models.openai import OpenAIResponsesModel  # type: ignore[import-not-found]

MODEL = OpenAIResponsesModel("minimax/minimax-m1")
SOON = timedelta(seconds=0.5)


def requests(count: int) -> list[BatchRequest]:
    """As many questions, each with instructions."""
    return [
        BatchRequest(
            custom_id=f"r-{number}",
            messages=[ModelRequest.user_text_prompt(f"Отзыв {number}", instructions="Briefly.")],
            model_settings={"max_tokens": 50},
        )
        for number in range(count)
    ]


async def agents() -> None:
    """Runs of one agent, all in a batch."""
    batching = BatchModelRequests(max_wait=SOON, poll_interval=SOON, max_poll_interval=SOON)
    agent = Agent(MODEL, capabilities=[batching], instructions="Briefly.")
    runs = await asyncio.gather(*(agent.run(f"Отзыв {number}") for number in range(5)))
    assert all(run.output and run.usage.output_tokens for run in runs), runs


async def direct() -> None:
    """Requests without an agent: answered, and refused by the validation of the batch."""
    answers = await model_request_batch(MODEL, requests(20), poll_interval=SOON)
    assert all(answer.text and answer.usage.input_tokens for answer in answers), answers
    unknown = OpenAIResponsesModel("none/none")
    for error in await model_request_batch(unknown, requests(2), poll_interval=SOON):
        assert "none/none" in str(error), error


async def cancelled() -> None:
    """Every request of a batch that was cancelled has an answer, or is told as cancelled."""
    asked = [await MODEL.batch_encode(each) for each in requests(2000)]
    batch = await MODEL.batch_cancel(await MODEL.batch_create(asked))
    while batch.status != "ended":
        await asyncio.sleep(0.3)
        batch = await MODEL.batch_status(batch)
    results = await MODEL.batch_results(batch)
    assert len(results) == 2000, len(results)
    assert {each.status for each in results} <= {"succeeded", "canceled"}


async def main() -> None:
    """All of it on one loop, for one client of the SDK."""
    await agents()
    await direct()
    await cancelled()


asyncio.run(main())
