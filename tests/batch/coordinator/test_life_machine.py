"""The life of a job against every order of commands, hours, caps, answers and kills.

The store and the coordinator are the real ones; Redis and the worker are only memory. After each
step the job stands somewhere lawful and whoever asks is told what helps; at the end a person
resumes it, and it is done: each request answered once, whatever was asked of it before.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batch import job_control
from batch.money import pricewatch
from batch.money.caps import Caps, write_caps
from batch.store.jobstore import JobRow
from jobs.job_commands import Cancel, Change, Command, Pause, Resume, Retry
from jobs.lifecycle import Objected, due, is_at_rest, needs_action, remedy, shown
from jobs.pause_reasons import PauseReason
from jobs.prices import PriceList
from jobs.states import ENDED, JobState
from tests.batch.coordinator.test_coordinator import BOUND
from tests.batch.house import Clock, House, go_by, job
from tests.batch.making import JOB, call, delivery, result
from tests.batch.making import closing as closed

REQUESTS = 8
COST = Decimal("0.1")
COMMANDS: list[Command] = [
    Pause(),
    Cancel(),
    Resume(),
    Resume(mended=True),
    Retry(("endpoint.bad_request",)),
    Change(budget={"rub": BOUND}),
    Change(budget={"rub": None}),
    Change(fields={"window": "23:00-07:00@Europe/Moscow"}),
    Change(fields={"window": None}),
    Change(fields={"deadline": datetime(2027, 1, 16, 12, tzinfo=UTC)}),
    Change(fields={"deadline": None}),
    Change(limits={"rpm": 7}, fields={"priority": 3.0}),
]
MANY = st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=3)


class Lives(RuleBasedStateMachine):
    """One job and those who ask something of it."""

    @initialize()
    def begin(self) -> None:
        self.patch, self.clock = pytest.MonkeyPatch(), Clock()
        self.patch.setattr(pricewatch, "read_prices", lambda *_, **__: PriceList(0.0, "", "", {}))
        go_by(self.patch, self.clock)
        self.patch.setattr(job_control, "datetime", self._datetime())
        self.folder = Path(tempfile.mkdtemp())
        self.house = House(self.folder, self.clock)
        job(self.house, REQUESTS)

    def _datetime(self) -> Any:
        clock = self.clock

        class AsToldSo(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.fromtimestamp(clock.wall, tz)

        return AsToldSo

    # ---- what happens -------------------------------------------------------------------------

    @rule(commands=MANY)
    def ask(self, commands: list[Command]) -> None:
        before, now = self.house.row(), datetime.fromtimestamp(self.clock.wall, UTC)
        try:
            heard = job_control.command(self.house.home, JOB, *commands)
        except Objected:
            assert self.house.row() == before
            return
        if isinstance(commands[-1], Pause) and not heard.moot:
            assert (heard.job.state, heard.job.reason) == (JobState.PAUSED, PauseReason.USER)
            assert due(heard.job, now) is None or heard.job.spec.deadline is not None
        if isinstance(commands[-1], Cancel) and not heard.moot:
            assert heard.job.state is JobState.CANCELLING

    @rule()
    def turn(self) -> None:
        at_rest = is_at_rest(self.house.row())
        fed = list(self.house.sender.chunks)
        self.house.turn()
        if at_rest and is_at_rest(self.house.row()):
            assert self.house.sender.chunks == fed

    @rule(fails=st.booleans())
    def answer(self, *, fails: bool) -> None:
        for number in self.house.out()[:1]:
            self._answer(number, code="endpoint.bad_request" if fails else "")
        self.house.turn()

    @rule(hours=st.sampled_from([6, 12, 24]))
    def sleep(self, hours: int) -> None:
        self.clock.wall += timedelta(hours=hours).total_seconds()
        self.house.turn()

    @rule(rub=st.sampled_from([None, BOUND / 2, BOUND * 2]))
    def cap(self, rub: Decimal | None) -> None:
        write_caps(self.house.home.folder, Caps(rub_per_day=rub))
        self.house.turn()

    @rule()
    def kill(self) -> None:
        """What the process had in mind is gone; the kernel lets go of its lock."""
        for each in self.house.coordinator._jobs.values():
            each.store.close()
        self.house.coordinator._lock.release()
        self.house.coordinator = self.house._coordinator()

    def _answer(self, number: int, code: str = "") -> None:
        if (JOB, number) not in self.house.post.payloads:
            return
        work = self.house.post.take(JOB, number).requests
        calls = [
            call(each.ordinal, number, cost="0" if code else str(COST), sent_at=self.clock.wall)
            for each in work
        ]
        results = [result(each.ordinal, number, code=code) for each in work]
        end = delivery(calls, results, [closed(number)], sequence=number)
        self.house.post.send(end)
        self.house.post.claimed[JOB, number] = "done"

    # ---- what holds ---------------------------------------------------------------------------

    @invariant()
    def whoever_looks_is_told_the_same(self) -> None:
        row = self.house.row()
        assert (row.state is JobState.PAUSED) == bool(row.reason)
        assert needs_action(row.state, row.reason) <= is_at_rest(row)
        assert (remedy(row) is not None) >= (row.state is JobState.PAUSED)
        if shown(row.state, row.reason) == "scheduled":
            assert not is_at_rest(row)
            assert row.goes_on_at is not None

    def teardown(self) -> None:
        try:
            self._bring_to_its_end()
        finally:
            self.house.coordinator.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    def _bring_to_its_end(self) -> None:
        write_caps(self.house.home.folder, Caps())
        free = Change(budget={"rub": None}, fields={"window": None, "deadline": None})
        failed = Retry(("endpoint.bad_request",))
        for _ in range(60):
            with suppress(Objected):
                job_control.command(self.house.home, JOB, free, failed, Resume(mended=True))
            self.house.turn()
            for number in self.house.out():
                self._answer(number)
            self.house.turn(2)
            if self._is_done(self.house.row()):
                break
        row = self.house.row()
        assert (row.state, row.completed, row.failed) == (JobState.COMPLETED, REQUESTS, 0)
        with closing(self.house.store()) as store:
            (paid,) = store.db.execute("SELECT count(*) FROM calls WHERE cost <> '0'").fetchone()
        assert (paid, row.settled_rub) == (REQUESTS, COST * REQUESTS)
        assert JOB not in self.house.post.held

    @staticmethod
    def _is_done(row: JobRow) -> bool:
        return row.state in ENDED and not row.left and not row.failed


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
