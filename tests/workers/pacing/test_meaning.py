"""What a call's end does to the pace."""

from __future__ import annotations

import asyncio

import pytest

from jobs.budget import Grant
from jobs.chunk import Terms
from jobs.outcome import NOT_BILLED, Outcome, Refused, Retry, RetryKind
from tests.workers.fakes import FakeKeeper, payload, refusal, work
from workers.pacing.meaning import tell_pace
from workers.pacing.pace import Pace
from workers.ticket import OpenChunk, Ticket


@pytest.mark.parametrize(
    ("outcome", "given_back"),
    [
        pytest.param(Refused("endpoint.bad_request", "no"), 1000, id="refused for good"),
        pytest.param(
            Retry(RetryKind.THROTTLED, "endpoint.rate_limited", "slow", NOT_BILLED),
            0,
            id="too many: or the next would be refused at once in its place",
        ),
    ],
)
def test_tokens_of_a_call_that_used_none(outcome: Outcome, given_back: int) -> None:
    async def scene() -> None:
        pace = Pace("scope", FakeKeeper())
        pace.set_terms(Terms(tpm=60_000))
        await pace.exchange(1, 1000)
        some = payload(work(0))
        chunk = OpenChunk(some, Grant(some.grant), 1, asyncio.get_running_loop().create_future())
        toll = pace.try_admit(1000)
        assert toll
        for _ in range(20):
            pace.learn(1000, 1000, None)
        before = pace._tokens
        ticket = Ticket(chunk, some.requests[0], "m", 0, 0, toll=toll)

        tell_pace(pace, ticket, refusal(429), outcome)

        assert before is not None
        assert pace._tokens == before + given_back

    asyncio.run(scene())
