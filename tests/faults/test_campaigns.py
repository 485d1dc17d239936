"""Short runs of what `scripts/torture` does for long: P2, P4, P5, P8, P20, R2–R4, R15,
R16, E45.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.torturing.campaigns import (
    MIXED,
    Campaign,
    deal_all_at_once,
    deal_everything,
)
from scripts.torturing.installation import ROOT, Installation
from scripts.torturing.redis_rollback import RedisRollback

ENDPOINT = ("--latency", "lognormal:0.5:0.5:4", "--max-in-flight", "100")


def one_of_each(campaign: Campaign) -> None:
    """What `deal_harmless` chooses from, by turns."""
    blows = (
        Campaign.repeat_messages,
        Campaign.remove_messages,
        Campaign.flush,
        Campaign.kill_the_server,
        Campaign.stop_a_worker,
        Campaign.kill_the_coordinator,
    )
    blows[campaign.tally.blows.total() % len(blows)](campaign)


def cut_the_file(campaign: Campaign) -> None:
    """The two other ways to be older than one was: `test_redis`, with jobs that ended meanwhile."""
    campaign.roll_back(RedisRollback.cut, "append-only file cut")


@pytest.mark.timeout(300)
def test_p5_kills_of_anything_lose_no_row_and_repeat_only_calls_in_flight(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=3, endpoint=ENDPOINT) as house:
        tally = Campaign(house, rows=240, seed=7).run(6, 0.7, deal_everything)

    assert tally.broken == []
    assert tally.rows > 0
    assert 0 < tally.bought_twice <= tally.in_flight


@pytest.mark.timeout(300)
def test_r2_r15_r16_a_lost_redis_and_lost_or_repeated_messages_cost_no_call(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=2, endpoint=ENDPOINT) as house:
        tally = Campaign(house, rows=240, seed=8).run(6, 0.7, one_of_each)

    assert tally.broken == []
    assert len(tally.blows) == 6
    assert tally.bought_twice == 0


@pytest.mark.timeout(300)
def test_r5_a_redis_that_comes_back_older_than_it_was_costs_no_call(tmp_path: Path) -> None:
    with Installation(
        tmp_path, workers=1, endpoint=(*ENDPOINT[:2], "--max-in-flight", "16")
    ) as house:
        tally = Campaign(house, rows=240, seed=3).run(1, 0.5, cut_the_file)

    assert tally.broken == []
    assert (tally.bought_twice, tally.blows.total()) == (0, 1)


@pytest.mark.timeout(300)
def test_p5_p20_e45_kills_and_losses_while_one_call_in_ten_goes_wrong(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=2, endpoint=(*ENDPOINT, *MIXED)) as house:
        tally = Campaign(house, rows=160, seed=9, errs=True).run(4, 1.0, deal_all_at_once)
        spoiled = sum(bool(call.fault) for call in house.simulator.book().chats())

    assert tally.broken == []
    assert tally.blows.total() >= 4
    assert spoiled > tally.rows // 20


def of_session(leader: int) -> set[int]:
    """The processes of a session that are alive."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name_ends = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, session = name_ends[0], int(name_ends[3])
        if session == leader and state != "Z":
            found.add(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="NOT RUN: no /proc")
def test_a_campaign_that_is_ended_in_its_midst_leaves_no_process(tmp_path: Path) -> None:
    campaign = subprocess.Popen(
        [sys.executable, "-m", "scripts.torturing", "pairs", "headers", "--folder", str(tmp_path)],
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("headers/*.out")) and time.monotonic() < deadline:
            time.sleep(0.05)
        begun = of_session(campaign.pid)

        campaign.send_signal(signal.SIGTERM)

        assert campaign.wait(60) == 1
        assert len(begun) > 3
        assert of_session(campaign.pid) == set()
    finally:
        for pid in of_session(campaign.pid):
            os.kill(pid, signal.SIGKILL)
