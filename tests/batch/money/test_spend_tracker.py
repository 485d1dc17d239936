"""Caps for a day and a month over all jobs of a home (FAULTS L8)."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from batch.money.caps import Caps, Room, check_zone, read_caps, sentence, write_caps
from batch.money.spend_tracker import Allowance
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobStore
from jobs.budget import Amount
from jobs.errors import StorageUnavailable, UsageError
from jobs.names import CAPS
from jobs.period import Period
from tests.batch.making import JOB, OTHER, answered, call, closing, delivery, feed, publish

NOON = datetime(2026, 11, 24, 9, tzinfo=UTC).timestamp()
YESTERDAY = NOON - 86400


class Night:
    """A home with caps and two jobs, at noon of a day in Moscow."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON
        self.folder = folder
        self.home = Home(folder)
        self.job = publish(folder, 8)
        self.other = publish(folder, 8, job=OTHER)
        self.allowance = Allowance(self.home, lambda: self.now)

    def cap(self, day: int | None = None, month: int | None = None) -> None:
        rub = [None if cap is None else Decimal(cap) for cap in (day, month)]
        write_caps(self.folder, Caps(rub[0], rub[1]))

    def room(self) -> Room:
        found = self.allowance.room(JOB, self.job)
        assert found is not None
        return found

    def left(self) -> Decimal:
        return self.room().rub


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def spend(store: JobStore, job: str, sent_at: float, cost: str | None = "3") -> None:
    chunk = feed(store, 1, Amount(Decimal(3)))
    (ordinal,) = [ordinal for ordinal, _, _ in chunk.requests]
    called = call(ordinal, chunk.chunk, cost=cost, sent_at=sent_at, bound="3")
    delivery_ledger.apply(
        store, [delivery([called], [], [closing(chunk.chunk, [(ordinal, 1, 0)])], job=job)]
    )


def test_without_caps_there_is_nothing_to_keep(night: Night) -> None:
    assert night.allowance.room(JOB, night.job) is None
    assert night.allowance.caps() == Caps(None, None, "Europe/Moscow")


def test_all_jobs_of_the_home_count(night: Night) -> None:
    night.cap(day=10)
    assert night.room() == Room(
        Decimal(10),
        Period.DAY,
        Decimal(10),
        datetime.fromisoformat("2026-11-25T00:00:00+03:00"),
        untouched=True,
        waits=False,
    )

    spend(night.job, JOB, NOON)
    spend(night.other, OTHER, NOON - 60)

    assert night.left() == 4
    assert not night.room().untouched


def test_what_is_uncertain_counts_with_its_bound_and_what_is_set_aside_counts(
    night: Night,
) -> None:
    night.cap(day=10)

    spend(night.other, OTHER, NOON, cost=None)
    feed(night.other, 2, Amount(Decimal(5)))

    assert night.left() == 2


def test_another_day_begins_anew_but_what_is_set_aside_stays_so(night: Night) -> None:
    night.cap(day=10, month=20)
    spend(night.job, JOB, YESTERDAY)
    feed(night.other, 2, Amount(Decimal(5)))
    assert night.left() == 5

    night.now += 86400

    assert (night.room().period, night.left()) == (Period.DAY, Decimal(5))


def test_the_cap_that_leaves_least_counts(night: Night) -> None:
    night.cap(day=10, month=12)
    spend(night.job, JOB, YESTERDAY)
    spend(night.other, OTHER, YESTERDAY)

    assert night.room().rub == 6
    assert night.room().period is Period.MONTH
    assert f"{night.room().ends:%Y-%m-%d %H:%M %Z}" == "2026-12-01 00:00 MSK"


def test_a_lost_chunk_counts_in_the_day_in_which_it_was_lost_alone(night: Night) -> None:
    """No call of it was sent later."""
    night.now = datetime.now(UTC).timestamp()
    night.cap(day=10)
    chunk = feed(night.other, 2, Amount(Decimal(5)))
    night.other.chunks.lose(chunk)
    assert night.left() == 5

    night.now += 86400
    assert night.left() == 10


def test_a_cost_that_is_looked_up_later_counts_when_its_call_was_sent(night: Night) -> None:
    night.cap(day=10)
    spend(night.job, JOB, YESTERDAY, cost=None)
    spend(night.other, OTHER, NOON, cost=None)

    for store, job in ((night.job, JOB), (night.other, OTHER)):
        told = call(0, 1, cost="1", bound="3")
        delivery_ledger.apply(store, [delivery([told], job=job, sequence=2)])

    assert night.left() == 9


def test_a_chunk_of_any_job_that_may_spend_anything_is_waited_for(night: Night) -> None:
    """It was fed before there was a cap."""
    chunk = feed(night.other, 2)
    night.cap(day=10)

    assert night.room().waits
    delivery_ledger.apply(night.other, [answered(chunk, job=OTHER)])
    assert not night.room().waits


def test_an_ended_job_is_read_again_when_something_came_late(night: Night) -> None:
    night.cap(day=10)
    spend(night.other, OTHER, NOON)
    for file in (night.home.jobs_folder / OTHER).iterdir():
        os.utime(file, (NOON, NOON))
    assert night.left() == night.left() == 7

    spend(night.other, OTHER, NOON)

    assert night.left() == 4


def test_caps_that_somebody_sets_count_at_once(night: Night) -> None:
    night.cap(day=10)
    before = night.allowance.stamp()
    assert night.left() == 10

    night.cap(day=4)

    assert night.left() == 4
    assert night.allowance.stamp() != before


# ── The file ─────────────────────────────────────────────────────────────────────────────────────


def test_caps_come_back_to_the_last_digit_and_are_for_their_owner(tmp_path: Path) -> None:
    caps = Caps(Decimal("0.000000000001"), Decimal("9000.10"), "Asia/Yekaterinburg")

    write_caps(tmp_path, caps)

    assert read_caps(tmp_path) == caps
    assert (tmp_path / CAPS).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [CAPS]


@pytest.mark.parametrize(
    "content",
    ["", "{}x", '{"rub_per_day":"-1"}', '{"rub_per_day":"NaN"}', '{"a":1}', '{"zone":"No/Where"}'],
)
def test_a_file_that_is_not_ours_stops_everything_no_cap_is_guessed(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / CAPS).write_text(content)

    with pytest.raises(StorageUnavailable, match=r"caps\.json"):
        read_caps(tmp_path)


def test_a_zone_that_is_none_is_refused() -> None:
    assert check_zone("Asia/Omsk") == "Asia/Omsk"
    with pytest.raises(UsageError, match="Europe/Moscow"):
        check_zone("../../etc/passwd")


@pytest.mark.parametrize(("key", "whose"), [("", "for all jobs"), ("k", "for the key k")])
@pytest.mark.parametrize(("period", "word"), [(Period.DAY, "daily"), (Period.MONTH, "monthly")])
def test_a_cap_that_is_reached_is_told_by_its_period_and_whose_it_is(
    period: Period, word: str, key: str, whose: str
) -> None:
    room = Room(
        Decimal(0), period, Decimal(5), datetime.now(UTC), untouched=False, waits=False, key=key
    )

    told = str(sentence(room))
    untouched = str(sentence(replace(room, untouched=True)))
    assert (told.count(word), told.count(whose), "is reached" in told) == (1, 1, True)
    assert untouched.startswith(f"no request fits the {word} cap")
    assert untouched.endswith(whose)


def test_a_cap_that_is_lowered_below_what_is_spent_is_told_once_it_is_looked_at(
    tmp_path: Path,
) -> None:
    night = Night(tmp_path)
    night.cap(day=100)
    assert not night.allowance.is_over()

    chunk = feed(night.job, grant=Amount(Decimal(50), None))
    night.cap(day=10)
    assert night.allowance.is_over()
    delivery_ledger.apply(night.job, [answered(chunk, cost="0.1")])
    night.cap(day=60)
    assert not night.allowance.is_over()


def test_one_job_without_a_bound_among_others_is_beyond_any_cap(tmp_path: Path) -> None:
    night = Night(tmp_path)
    feed(night.job, grant=Amount(Decimal(1), None))
    feed(night.other, grant=Amount(None, None))

    night.cap(day=100)

    assert night.allowance.is_over()
