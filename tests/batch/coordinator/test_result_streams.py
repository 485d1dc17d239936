"""What a stream holds, as the coordinator reads it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from batch.coordinator.redis.result_streams import Results
from batch.coordinator.redis.signed import SignedRedis
from jobs import wire
from tests.batch.making import JOB


@pytest.mark.parametrize("newer", [False, True])
def test_that_a_worker_is_newer_than_its_coordinator_is_told(
    caplog: pytest.LogCaptureFixture, *, newer: bool
) -> None:
    redis = SimpleNamespace(ours=lambda _place, signed: signed)
    version = wire.VERSION + newer
    told = wire.pack_delivery(wire.Delivery("0" * 16, 1, JOB, [], [], [], [], version=version))

    read = Results(cast("SignedRedis", redis))._entry(JOB, {b"d": told})

    assert (read is None) is newer
    assert ("newer version of Nightshift; update this one" in caplog.text) is newer
