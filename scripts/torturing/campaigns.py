"""What is done to the house, again and again, while jobs run.

A campaign deals blows until there were enough; a job that ended is audited, and the next one
begins. What was in flight at a kill the auditor learns from the moments of the kills and the
endpoint's book.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from redis import Redis

from scripts.auditor import ZERO, Audit
from scripts.simulator.fault_kinds import MIX
from scripts.torturing.installation import CHOICES, MODEL, Installation, dice
from scripts.torturing.prefork import Prefork
from scripts.torturing.redis_rollback import RedisRollback

_PATIENCE_S = 300.0
_TIGHT_RUB = Decimal("0.04")
"""A request's share of a cap that will not do: a request of these campaigns costs 0.06 ₽."""
_AMPLE_RUB = Decimal(1)
_BEGINS_S = 3.0
"""So long after its start a worker surely makes calls, and has told what its predecessor left."""


@dataclass
class Tally:
    """What a campaign came to. `recoveries` are seconds from a server's return to its first use."""

    blows: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    rows: int = 0
    failed: int = 0
    calls: int = 0
    in_flight: int = 0
    bought_twice: int = 0
    uncertain: int = 0
    caps_met: int = 0
    rub: Decimal = ZERO
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, name: str, found: Audit) -> None:
        """Takes in a job's audit."""
        self.jobs += 1
        self.rows += found.rows
        self.failed += found.failed
        self.calls += found.billed_calls
        self.in_flight += found.in_flight
        self.bought_twice += found.bought_twice
        self.uncertain += found.uncertain
        self.rub += found.endpoint_rub
        self.broken += [f"{name}: {law}" for law in found.broken]


class Campaign:
    """Blows against a house with jobs of `rows` requests, one after another.

    Every fourth job, or as many as `capped` says, has a cap that it meets, and gets a higher one
    then. `errs`: the endpoint has faults of its own; what it bills for them may be bought again.
    """

    def __init__(
        self,
        house: Installation,
        rows: int,
        seed: int,
        capped: int = 4,
        minutes: float = float("inf"),
        *,
        errs: bool = False,
    ) -> None:
        self._capped = capped
        self._errs = errs
        self.house = house
        self._until = time.monotonic() + 60 * minutes
        self._rows = rows
        self._dice = dice(seed)
        self._redis = Redis(port=house.port, socket_timeout=3)
        self.memories = RedisRollback(house, self._redis, self._dice)
        self._job = ""
        self._cap: Decimal | None = None
        self.tally = Tally()

    def run(self, blows: int, pause_s: float, deal: Callable[[Campaign], None]) -> Tally:
        """Deals `blows`, `pause_s` apart on average, then lets the last job end."""
        started = time.monotonic()
        while self.tally.blows.total() < blows and time.monotonic() < self._until:
            self._one_job(f"job{self.tally.jobs + 1}", blows, pause_s, deal)
            self.tally.seconds = time.monotonic() - started
            print(_so_far(self.tally), file=sys.stderr, flush=True)
        self.tally.broken += self.house.leaks()
        return self.tally

    def _one_job(
        self, name: str, blows: int, pause_s: float, deal: Callable[[Campaign], None]
    ) -> None:
        before = len(self.house.simulator.book()) if self._errs else 0
        self._cap = self._rows * _TIGHT_RUB if self._has_cap else None
        options = ("--budget-rub", str(self._cap)) if self._cap else ()
        self._job = self.house.submit(name, self._rows, *options)
        last, done = time.monotonic(), 0
        while not self.house.is_over(name):
            self._raise_the_cap(name)
            if self.tally.blows.total() < blows and time.monotonic() < self._until:
                time.sleep(self._dice.uniform(0.5, 1.5) * pause_s)
                deal(self)
                last = time.monotonic()
            elif time.monotonic() - last > _PATIENCE_S:
                # What was in flight at two deaths goes one by one: hundreds of them take long.
                done, before_that = self._done(), done
                if done == before_that:
                    raise TimeoutError(f"{name} does not end")
                last = time.monotonic()
            else:
                time.sleep(0.2)
        self.house.wait(name)
        in_vain = self.house.billed_in_vain(before) if self._errs else 0
        found = self.house.audit(name, self._job, in_vain, cap=self._cap)
        self.tally.add(name, found)
        for law in found.broken:
            print(f"BROKEN {name}: {law}", file=sys.stderr, flush=True)

    def _done(self) -> int:
        found = self.house.at_home(self._job, "SELECT completed + failed FROM job")
        return int(str(found[0][0]))

    @property
    def _has_cap(self) -> bool:
        return self.tally.jobs % self._capped == min(1, self._capped - 1)

    def _raise_the_cap(self, name: str) -> None:
        """If the job has met its cap: holds the endpoint's book against it, and goes on."""
        told = self.house.at_home(self._job, "SELECT reason FROM job WHERE state = 'paused'")
        if not told:
            return
        if told[0][0] != "budget_exhausted":
            if not self._errs:
                raise RuntimeError(f"{name} is paused: {told}")
            self.house.run_command("resume", self._job, "--yes")
            return
        self.house.simulator.wait_idle(30)
        found = self.house.audit(name, self._job, cap=self._cap, finished=False)
        self.tally.broken += [law for law in found.broken if law.startswith("L8")]
        self.tally.caps_met += 1
        self._cap = self._rows * _AMPLE_RUB
        time.sleep(3)  # a coordinator that was killed a moment ago is back: it resumes, not we
        self.house.command("resume", self._job, "--budget-rub", str(self._cap), "--yes")

    # ---- blows -------------------------------------------------------------------------------

    def kill_workers(self) -> None:
        """SIGKILL to one, two or three at once; what they had in flight may be bought again."""
        names = self._workers_at_work()
        self.house.kill_together(names)
        for name in names:
            self.house.start(name)
        self.tally.blows["worker killed"] += len(names)

    def stop_a_worker(self) -> None:
        """SIGTERM; nothing may be bought again."""
        name = self._dice.choice(self._workers())
        self.house.kill(name, signal.SIGTERM)
        self.house.start(name)
        self.tally.blows["worker stopped"] += 1

    def _workers_at_work(self) -> list[str]:
        """Some that have had the time to begin: a kill of those who do nothing shows little."""
        deadline = time.monotonic() + 10
        while True:
            names = [name for name in self._workers() if self.house.age(name) > _BEGINS_S]
            busy = self.house.simulator.stats()["in_flight"] >= 8 or time.monotonic() > deadline
            if names and busy:
                return self._dice.sample(names, min(len(names), self._dice.choice((1, 1, 2, 3))))
            time.sleep(0.05)

    def _workers(self) -> list[str]:
        return [name for name in self.house.processes if name.startswith("worker")]

    def kill_the_coordinator(self) -> None:
        """SIGKILL; nothing may be bought again."""
        self.house.kill("coordinator")
        self.house.start("coordinator")
        self.tally.blows["coordinator killed"] += 1

    def kill_the_server(self) -> None:
        """SIGKILL of a Redis that keeps nothing on disk."""
        self.house.kill("server")
        time.sleep(self._dice.uniform(0, 2))
        self.house.start("server")
        self.tally.blows["server killed"] += 1

    def flush(self) -> None:
        """FLUSHALL."""
        self._redis.flushall()
        self.tally.blows["flushed"] += 1

    def roll_back(self, how: Callable[[RedisRollback], None], name: str) -> None:
        """The server comes back older than it was; nothing may be bought again."""

        def blow(_: Campaign) -> None:
            self.memories.keep()
            time.sleep(self._dice.uniform(0.5, 4))
            how(self.memories)
            self.tally.blows[name] += 1

        self.time_recovery(blow, name)

    def time_recovery(self, blow: Callable[[Campaign], None], name: str) -> None:
        """Seconds from a blow's end until a call that was sent after it is booked at home."""
        blow(self)
        back, wall = time.monotonic(), time.time()
        kind = f"{name}, a job with a cap" if self._cap else f"{name}, a job without a cap"
        while time.monotonic() - back < _PATIENCE_S:
            if self.house.is_sent_since(self._job, wall):
                self.tally.recoveries[kind].append(time.monotonic() - back)
                return
            if self.house.at_home(
                self._job, "SELECT id FROM job WHERE state NOT IN ('in_progress', 'pending')"
            ):
                return
            time.sleep(0.02)
        self.tally.broken.append(f"{name}: no recovery within {_PATIENCE_S} s")

    def repeat_messages(self) -> None:
        """Every message that waits is put into the queue three times more."""
        for key in self._queues():
            for message in self._redis.lrange(key, 0, -1):
                self._redis.rpush(key, message, message, message)
        self.tally.blows["messages repeated"] += 1

    def remove_messages(self) -> None:
        """One message in ten is lost."""
        for key in self._queues():
            for message in self._redis.lrange(key, 0, -1):
                if self._dice.random() < 0.1:
                    self._redis.lrem(key, 1, message)  # type: ignore[arg-type]
        self.tally.blows["messages removed"] += 1

    def _queues(self) -> list[bytes]:
        return [
            key
            for key in self._redis.scan_iter("ns.celery:chunks.*")
            if self._redis.type(key) == b"list"
        ]

    def any_of(self, *blows: tuple[int, Callable[[Campaign], None]]) -> None:
        """One of several, by weight."""
        (chosen,) = self._dice.choices([blow for _, blow in blows], [weight for weight, _ in blows])
        chosen(self)


def deal_everything(campaign: Campaign) -> None:
    """Kills of all kinds: nearly always workers, now and then the coordinator or the server."""
    campaign.any_of(
        (90, Campaign.kill_workers),
        (8, Campaign.kill_the_coordinator),
        (2, Campaign.kill_the_server),
    )


def deal_harmless(campaign: Campaign) -> None:
    """What may not cost a single call: SIGTERM, a lost Redis, repeated and removed messages."""
    campaign.any_of(
        (20, Campaign.stop_a_worker),
        (10, Campaign.kill_the_coordinator),
        (20, Campaign.kill_the_server),
        (20, Campaign.flush),
        (20, Campaign.repeat_messages),
        (10, Campaign.remove_messages),
    )


def deal_all_at_once(campaign: Campaign) -> None:
    """Kills and what is harmless by turns of chance."""
    campaign.any_of((1, deal_everything), (1, deal_harmless))


def deal_losses_of_the_server(campaign: Campaign) -> None:
    """A Redis that forgets all, again and again; how soon work goes on is measured."""
    campaign.any_of(
        (1, lambda it: it.time_recovery(Campaign.kill_the_server, "server killed")),
        (1, lambda it: it.time_recovery(Campaign.flush, "flushed")),
    )


_OLDER = (
    (RedisRollback.put_back, "snapshot put back"),
    (RedisRollback.cut, "append-only file cut"),
    (RedisRollback.fail_over, "stale replica promoted"),
)


def deal_older_memories(campaign: Campaign) -> None:
    """A Redis that comes back older than it was, in each of the ways in which it may, by turns."""
    campaign.roll_back(*_OLDER[campaign.tally.blows.total() % len(_OLDER)])


@dataclass(frozen=True)
class Plan:
    """A campaign's settings: `workers` processes, `rows` a job, seconds between blows; one job in
    `capped` has a cap.
    """

    what: str
    deal: Callable[[Campaign], None]
    workers: int
    rows: int
    pause_s: float
    in_flight: int = 200
    latency: str = "lognormal:1:0.6:10"
    capped: int = 4
    faults: tuple[str, ...] = ()
    """Options of the endpoint that make it err."""
    task: tuple[str, ...] = ()
    """What is asked of the rows of a table; none: jobs are of requests."""


# NaN is no JSON: the output has it as text, and L3 cannot know that.
MIXED = tuple(
    part
    for rule in MIX
    if "NaN" not in rule
    for part in ("--fault", f"{rule}{',' if ':' in rule else ':'}share={0.1 / len(MIX):.5f}")
)
"""A tenth of all calls, spread evenly over what passes by itself."""
_QUICK = "lognormal:0.5:0.5:4"
_SLIPS = ("--answers", "table", "--slips", "0.2", "--reasoning-tokens", "0")
_PACKED = (
    *("--prompt", "Определи тон отзыва: {{ review }}", "--choices", ",".join(CHOICES)),
    *("--model", MODEL, "--max-tokens", "40", "--pack", "8", "--repairs", "3"),
)

PLANS = {
    "kills": Plan(
        "SIGKILL of workers, coordinator, server; caps are met",
        deal_everything,
        workers=4,
        rows=2500,
        pause_s=0.5,
    ),
    "everything": Plan(
        "kills and what is harmless, while one call in ten goes wrong in one way or another",
        deal_all_at_once,
        workers=3,
        rows=1000,
        pause_s=2.0,
        latency=_QUICK,
        faults=MIXED,
    ),
    "harmless": Plan(
        "what may not cost a single call: SIGTERM, a lost Redis, messages lost and repeated",
        deal_harmless,
        workers=2,
        rows=1500,
        pause_s=2.0,
    ),
    "capped": Plan(
        "as kills; every job meets its cap",
        deal_everything,
        workers=2,
        rows=100,
        pause_s=6.0,
        latency=_QUICK,
        capped=1,
    ),
    "rollback": Plan(
        "Redis comes back older than it was: nothing may be bought again",
        deal_older_memories,
        workers=2,
        rows=600,
        pause_s=1.0,
        in_flight=24,
        latency=_QUICK,
    ),
    "tables": Plan(
        "as kills, of tables in packs while the model errs: rows, shares and truth",
        deal_everything,
        workers=3,
        rows=4000,
        pause_s=0.7,
        capped=10**6,
        faults=_SLIPS,
        task=_PACKED,
    ),
    "server": Plan(
        "Redis killed and emptied: how soon is work going on?",
        deal_losses_of_the_server,
        workers=2,
        rows=2500,
        pause_s=1.0,
        in_flight=24,
    ),
}


def run(name: str, blows: int, folder: Path, seed: int, minutes: float = float("inf")) -> Tally:
    """Runs a campaign of so many blows, or of so many minutes, in a scratch folder."""
    plan = PLANS[name]
    endpoint = ("--latency", plan.latency, "--max-in-flight", str(plan.in_flight), *plan.faults)
    with (
        Prefork() as nursery,
        Installation(
            folder, workers=plan.workers, endpoint=endpoint, nursery=nursery, task=plan.task
        ) as house,
    ):
        errs = bool(plan.faults) and not plan.task
        campaign = Campaign(house, plan.rows, seed, plan.capped, minutes, errs=errs)
        return campaign.run(blows, plan.pause_s, plan.deal)


def _so_far(tally: Tally) -> str:
    return (
        f"{tally.seconds:6.0f} s  {tally.blows.total()} blows, {tally.jobs} jobs,"
        f" {tally.failed} set aside, {tally.bought_twice} bought twice,"
        f" {tally.in_flight} in flight at kills,"
        f" {len(tally.broken)} laws broken"
    )
