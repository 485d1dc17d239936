"""What tests of the coordinator stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.money import pricewatch
from jobs.errors import ServiceUnavailable
from jobs.message import Message
from jobs.prices import PriceList
from tests.batch.house import Clock, House, go_by


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(pricewatch, "read_prices", _nobody_there)
    go_by(monkeypatch, one)
    return one


@pytest.fixture
def house(tmp_path: Path, clock: Clock) -> House:
    return House(tmp_path, clock)


def _nobody_there(*_: object, **__: object) -> PriceList:
    raise ServiceUnavailable(Message("there is no endpoint here"))
