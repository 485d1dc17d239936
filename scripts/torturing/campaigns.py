"""What is done to the house, again and again, while jobs run.

Each campaign yields blows until it has dealt enough; a job that ended is audited, and the next one
begins. What may have been bought twice is counted at each blow: the calls in flight at a kill.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from scripts.auditor import Audit
from scripts.torturing.house import House, dice

Blow = Callable[[], int]
"""Does something; returns how many calls may now be bought twice because of it."""


@dataclass
class Tally:
    """What a campaign came to."""

    blows: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    rows: int = 0
    allowed_twice: int = 0
    bought_twice: int = 0
    uncertain: int = 0
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, name: str, found: Audit) -> None:
        """Takes in a job's audit."""
        self.jobs += 1
        self.rows += found.rows
        self.bought_twice += found.bought_twice
        self.uncertain += found.uncertain
        self.broken += [f"{name}: {law}" for law in found.broken]


class Campaign:
    """Blows against a house with jobs of `rows` requests, one after another."""

    def __init__(self, house: House, rows: int, seed: int) -> None:
        self.house = house
        self._rows = rows
        self._dice = dice(seed)
        self._redis = Redis(port=house.port, socket_timeout=3)
        self.tally = Tally()

    def run(self, blows: int, pause_s: float, deal: Callable[[Campaign], str]) -> Tally:
        """Deals `blows`, `pause_s` apart on average, then lets the last job end."""
        started = time.monotonic()
        number = 0
        while sum(self.tally.blows.values()) < blows:
            number += 1
            self._one_job(f"job{number}", blows, pause_s, deal)
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def _one_job(
        self, name: str, blows: int, pause_s: float, deal: Callable[[Campaign], str]
    ) -> None:
        job = self.house.submit(name, self._rows)
        before = self.tally.allowed_twice
        while not self.house.is_over(name) and sum(self.tally.blows.values()) < blows:
            time.sleep(self._dice.uniform(0.5, 1.5) * pause_s)
            self.tally.blows[deal(self)] += 1
        self.house.wait(name)
        allowed = self.tally.allowed_twice - before
        self.tally.add(name, self.house.audit(name, job, allowed))

    # ---- blows -------------------------------------------------------------------------------

    def kill_a_worker(self) -> str:
        """SIGKILL; what it had in flight may be bought again."""
        workers = [name for name in self.house.processes if name.startswith("worker")]
        name = self._dice.choice(workers)
        self.tally.allowed_twice += self.house.simulator.stats()["in_flight"]
        self.house.kill(name)
        self.house.start(name)
        return "worker killed"

    def stop_a_worker(self) -> str:
        """SIGTERM; nothing may be bought again."""
        workers = [name for name in self.house.processes if name.startswith("worker")]
        name = self._dice.choice(workers)
        self.house.kill(name, signal.SIGTERM)
        self.house.start(name)
        return "worker stopped"

    def kill_the_coordinator(self) -> str:
        """SIGKILL; nothing may be bought again."""
        self.house.kill("coordinator")
        self.house.start("coordinator")
        return "coordinator killed"

    def kill_the_server(self) -> str:
        """SIGKILL of a Redis that keeps nothing on disk."""
        self.house.kill("server")
        time.sleep(self._dice.uniform(0, 2))
        self.house.start("server")
        return "server killed"

    def flush(self) -> str:
        """FLUSHALL."""
        try:
            self._redis.flushall()
        except RedisError:
            return "flush failed"
        return "flushed"

    def repeat_messages(self) -> str:
        """Every message that waits is put into the queue three times more."""
        for key in self._queues():
            for message in self._redis.lrange(key, 0, -1):
                self._redis.rpush(key, message, message, message)
        return "messages repeated"

    def remove_messages(self) -> str:
        """One message in ten is lost."""
        for key in self._queues():
            for message in self._redis.lrange(key, 0, -1):
                if self._dice.random() < 0.1:
                    self._redis.lrem(key, 1, message)  # type: ignore[arg-type]
        return "messages removed"

    def _queues(self) -> list[bytes]:
        return [
            key
            for key in self._redis.scan_iter("ns.celery:chunks.*")
            if self._redis.type(key) == b"list"
        ]

    def any_of(self, *blows: tuple[int, Callable[[Campaign], str]]) -> str:
        """One of several, by weight."""
        (chosen,) = self._dice.choices([blow for _, blow in blows], [weight for weight, _ in blows])
        return chosen(self)


def deal_everything(campaign: Campaign) -> str:
    """Kills of all kinds: mostly workers, now and then the coordinator or the server."""
    return campaign.any_of(
        (80, Campaign.kill_a_worker),
        (10, Campaign.kill_the_coordinator),
        (10, Campaign.kill_the_server),
    )


def deal_harmless(campaign: Campaign) -> str:
    """What may not cost a single call: SIGTERM, a lost Redis, repeated and removed messages."""
    return campaign.any_of(
        (20, Campaign.stop_a_worker),
        (10, Campaign.kill_the_coordinator),
        (20, Campaign.kill_the_server),
        (20, Campaign.flush),
        (20, Campaign.repeat_messages),
        (10, Campaign.remove_messages),
    )


@dataclass(frozen=True)
class Plan:
    """A campaign's settings: `workers` processes, `rows` a job, seconds between blows."""

    deal: Callable[[Campaign], str]
    workers: int
    rows: int
    pause_s: float
    endpoint: tuple[str, ...] = ()
    latency: str = "lognormal:1:0.6:10"


PLANS = {
    "kills": Plan(deal_everything, workers=4, rows=2500, pause_s=0.7),
    "harmless": Plan(deal_harmless, workers=2, rows=1500, pause_s=2.0),
}


def run(name: str, blows: int, folder: Path, seed: int) -> Tally:
    """Runs a campaign of so many blows in a scratch folder."""
    plan = PLANS[name]
    endpoint = ("--latency", plan.latency, "--max-in-flight", "200", *plan.endpoint)
    with House(folder, workers=plan.workers, endpoint=endpoint) as house:
        return Campaign(house, plan.rows, seed).run(blows, plan.pause_s, plan.deal)
