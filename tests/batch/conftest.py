"""What tests of the coordinator stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.coordinator import (
    chunk_watch,
    coordinator_service,
    isolation,
    job_controller,
    job_status,
    outputs,
    redis_recovery,
    restored_backup,
    result_intake,
    status_publisher,
)
from batch.money import pricewatch
from batch.store import delivery_ledger
from jobs.errors import ServiceUnavailable
from jobs.message import Message
from jobs.prices import PriceList
from tests.batch.house import Clock, House


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    # However busy the machine is: what is written is waited for.
    monkeypatch.setattr(outputs, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(pricewatch, "read_prices", _nobody_there)
    for module in (
        job_controller,
        chunk_watch,
        result_intake,
        job_status,
        status_publisher,
        delivery_ledger,
        restored_backup,
        isolation,
        redis_recovery,
        coordinator_service,
    ):
        monkeypatch.setattr(module, "time", one)
    return one


@pytest.fixture
def house(tmp_path: Path, clock: Clock) -> House:
    return House(tmp_path, clock)


def _nobody_there(*_: object, **__: object) -> PriceList:
    raise ServiceUnavailable(Message("there is no endpoint here"))
