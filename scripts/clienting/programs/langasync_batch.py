"""langasync: a chain of LangChain's in a batch."""

import asyncio
import os
import tempfile

os.chdir(tempfile.mkdtemp())  # it keeps its jobs there
os.environ["LANGASYNC_BATCH_POLL_INTERVAL"] = "1"

from langasync import BatchPoller, BatchStatus, batch_chain  # type: ignore[import-not-found]  # noqa: E402
from langchain_core.prompts import ChatPromptTemplate  # type: ignore[import-not-found]  # noqa: E402
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]  # noqa: E402

chain = ChatPromptTemplate.from_messages([("user", "{text}")]) | ChatOpenAI(
    model="minimax/minimax-m1", max_tokens=200
)


async def main() -> None:
    """Submits, and waits for what it kept."""
    job = await batch_chain(chain).submit([{"text": f"Отзыв {number}"} for number in range(3)])
    async for found in BatchPoller().wait_all():
        assert found.job_id == job.job_id
        assert found.status_info.status == BatchStatus.COMPLETED, found
        assert all(each.content for each in found.results)
        assert len(found.results) == 3


asyncio.run(main())
