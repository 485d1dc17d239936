"""The prices while a job runs: read beside it, kept, and held against what was accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from batch.money import pricewatch
from batch.money.catalogue_prices import Form
from batch.money.pricewatch import AGAIN_S, CHECK_S, PriceWatch
from batch.store.jobstore import JobStore
from jobs.errors import ServiceUnavailable
from jobs.message import Message
from jobs.prices import ModelPrice, PriceList, Rise
from tests.batch.making import MODEL, prices, publish


class Endpoint:
    """Answers the question for the prices when a test lets it; `asked` says for which models."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.prices: PriceList | None = prices("0.001")
        self.asked: list[list[str]] = []

    def __call__(self, _url: str, models: list[str], *, now: float, form: Form) -> PriceList:
        assert form == Form()
        self.asked.append(models)
        self.open.wait(30)
        if self.prices is None:
            raise ServiceUnavailable(Message("the endpoint is away"))
        return PriceList(now, self.prices.source, self.prices.sha256, self.prices.models)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(pricewatch, "time", one)
    return one


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    one = Endpoint()
    monkeypatch.setattr(pricewatch, "read_prices", one)
    yield one
    one.open.set()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Watched:
    """A job, submitted at second 0 of the clock's time, and the watch on its prices."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.watch = PriceWatch(store)

    def look(self) -> Rise | None:
        return self.watch.look(self.store.job())

    def read(self) -> Rise | None:
        """Looks until a reading is over and taken in."""
        self.look()
        # Python 3.13 forgets a thread a moment before it calls it dead.
        until(lambda: self.watch._reading is None or self.watch._reading.is_over)
        return self.look()


@pytest.fixture
def job(tmp_path: Path, clock: Clock) -> Watched:
    store = publish(tmp_path, priced=prices("0.001", taken_at=clock.time()))
    return Watched(store)


def test_the_prices_are_read_every_ten_minutes(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    job.read()
    assert endpoint.asked == []

    clock.now += CHECK_S
    job.read()
    job.read()
    assert endpoint.asked == [[MODEL]]

    clock.now += CHECK_S
    job.read()
    assert len(endpoint.asked) == 2


def test_a_watch_that_begins_late_reads_at_once(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    clock.now += 3 * CHECK_S

    Watched(job.store).read()

    assert len(endpoint.asked) == 1


def test_only_what_changed_is_kept(job: Watched, clock: Clock, endpoint: Endpoint) -> None:
    clock.now += CHECK_S
    job.read()
    assert len(job.store.all_prices()) == 1

    endpoint.prices = prices("0.0011")
    clock.now += CHECK_S
    assert job.read() is None

    first, second = job.store.all_prices()
    assert (first.taken_at, second.taken_at) == (1001.0, 1.0 + clock.now)
    assert second.models == prices("0.0011").models


@pytest.mark.parametrize("set_back_s", [0.0, 24 * 3600.0])
def test_a_rise_beyond_what_is_allowed_is_told_until_it_is_accepted(
    job: Watched, clock: Clock, endpoint: Endpoint, set_back_s: float
) -> None:
    endpoint.prices = prices("0.003")
    clock.now += CHECK_S
    clock.wall -= set_back_s

    assert job.read() == Rise(MODEL, "prompt", Decimal("0.001"), Decimal("0.003"))
    assert job.look() is not None

    pricewatch.keep(job.store, prices("0.003", taken_at=clock.time()), accepted=True)
    assert job.look() is None


def test_small_rises_add_up_since_the_accepted_prices_count(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    found = []
    for price in ("0.00115", "0.00119", "0.00121"):
        endpoint.prices = prices(price)
        clock.now += CHECK_S
        found.append(job.read())

    assert found[:2] == [None, None]
    assert found[2] == Rise(MODEL, "prompt", Decimal("0.001"), Decimal("0.00121"))


def test_a_rise_that_the_spec_allows_by_now_is_none(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    endpoint.prices = prices("0.003")
    clock.now += CHECK_S
    assert job.read() is not None

    spec = job.store.job().spec
    job.store.change_spec(spec.model_copy(update={"max_price_rise": Decimal(200)}))

    assert job.look() is None


def test_an_endpoint_that_hangs_holds_nobody_up(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    endpoint.open.clear()
    clock.now += CHECK_S

    for _ in range(3):
        assert job.look() is None
        clock.now += CHECK_S

    assert len(endpoint.asked) == 1


def test_what_cannot_be_read_is_tried_again_soon_and_stops_nothing(
    job: Watched, clock: Clock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.prices = None
    clock.now += CHECK_S
    assert job.read() is None
    clock.now += AGAIN_S
    assert job.read() is None

    endpoint.prices = prices("0.0011")
    clock.now += AGAIN_S
    job.read()

    assert len(job.store.all_prices()) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_catalogue_that_wants_a_key_is_told_once(
    job: Watched, clock: Clock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.prices = PriceList(0.0, "url (no catalogue: HTTP 401)", "0" * 64, {})
    for _ in range(2):
        clock.now += CHECK_S
        assert job.read() is None

    (told,) = [record.getMessage() for record in caplog.records]
    assert "prices require a key; using the last known ones" in told


def test_a_catalogue_that_is_gone_changes_nothing(
    job: Watched, clock: Clock, endpoint: Endpoint
) -> None:
    endpoint.prices = PriceList(0.0, "url (no catalogue: HTTP 404)", "0" * 64, {})
    clock.now += CHECK_S

    assert job.read() is None
    assert len(job.store.all_prices()) == 1
    clock.now += AGAIN_S
    job.read()
    assert len(endpoint.asked) == 1


def test_who_goes_on_when_the_catalogue_is_gone_accepts_what_was_known_last(job: Watched) -> None:
    job.store.add_prices(prices("0.003", taken_at=2000.0))
    assert job.look() is not None

    nothing = PriceList(3000.0, "url (no catalogue: HTTP 404)", "0" * 64, {})
    pricewatch.keep(job.store, nothing, accepted=True)

    assert job.look() is None


def test_prices_given_by_hand_are_not_asked_for(
    tmp_path: Path, clock: Clock, endpoint: Endpoint
) -> None:
    listed = prices("0.001")
    by_hand = ModelPrice(MODEL, listed.models[MODEL].offers, by_hand=True)
    given = PriceList(listed.taken_at, "prices.toml", "0" * 64, {MODEL: by_hand})
    job = Watched(publish(tmp_path, priced=given))
    clock.now += CHECK_S

    job.read()

    assert endpoint.asked == []
