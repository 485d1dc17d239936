"""What a call's end does to the pace."""

from __future__ import annotations

import asyncio

import pytest

from jobs.chunk import Terms
from jobs.outcome import NOT_BILLED, Outcome, Refused, Retry, RetryKind
from tests.workers.fakes import FakeKeeper, payload, refusal, work
from workers.pacing.feedback import tell_limiter
from workers.pacing.limiter import Limiter
from workers.pending import PendingRequest, RunningChunk


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
        limiter = Limiter("scope", FakeKeeper())
        limiter.set_terms(Terms(tpm=60_000))
        await limiter.exchange(1, 1000)
        chunk = RunningChunk(payload(work(0)))
        estimate = limiter.try_admit(1000)
        assert estimate
        for _ in range(20):
            limiter.learn(1000, 1000, None)
        before = limiter._tokens
        request = PendingRequest.of(chunk, chunk.payload.requests[0])
        request.estimate = estimate

        tell_limiter(limiter, request, refusal(429), outcome)

        assert before is not None
        assert limiter._tokens == before + given_back

    asyncio.run(scene())
