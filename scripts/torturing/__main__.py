"""python -m scripts.torturing CAMPAIGN [--blows N] [--away SECONDS]"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.torturing import caps, crashpoints, crowd, hosts, pairs, sums, window
from scripts.torturing.campaigns import PLANS, run


def main() -> int:
    """Runs a campaign and prints what it came to; 1 if a law was broken."""
    parser = argparse.ArgumentParser(description="Long fault runs, audited after each job.")
    services, commands = crashpoints.POINTS, crashpoints.COMMANDS
    others = ["caps", "crowd", "sums", "hosts", "pairs", "window"]
    names = [*PLANS, *services, *commands, *others]
    parser.add_argument("campaign", choices=names, metavar="CAMPAIGN")
    parser.add_argument("--blows", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--step", type=int, default=1, help="try every Nth crash point only")
    parser.add_argument(
        "--away", type=float, default=60, help="hosts: seconds that each is cut off"
    )
    parser.add_argument("--who", nargs="*", choices=hosts.WHO, default=hosts.WHO, help="hosts: cut")
    parser.add_argument("--jobs", type=int, default=1000, help="caps, crowd: jobs (1000)")
    parser.add_argument("--rows", type=int, default=100_000, help="sums: requests (100000)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no blows after")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    given = parser.parse_args()
    # What ends us ends what we started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = given.folder or Path(tempfile.mkdtemp(prefix="nightshift-torture-"))
    if given.campaign in (*crashpoints.POINTS, *crashpoints.COMMANDS):
        return _crashpoints(given.campaign, folder, given.step)
    if given.campaign in ("caps", "crowd"):
        play = _caps if given.campaign == "caps" else _crowd
        return play(folder, given.jobs, given.seed)
    if given.campaign == "sums":
        return _sums(folder, given.rows, given.seed)
    if given.campaign == "window":
        return _window(folder, rows=20 * given.blows)
    if given.campaign == "pairs":
        return _pairs(folder, given.step)
    if given.campaign == "hosts":
        return _hosts(folder, given.away, given.who)
    tally = run(given.campaign, given.blows, folder, given.seed, given.minutes)
    for name, count in sorted(tally.blows.items()):
        print(f"{count:>7}  {name}")
    print(f"{tally.jobs:>7}  jobs, {tally.rows:,} requests, {tally.seconds:.0f} s")
    print(f"{tally.calls:>7}  billed calls, {tally.rub} ₽")
    print(f"{tally.failed:>7}  requests set aside after three deaths of their workers")
    print(f"{tally.in_flight:>7}  calls were in flight in workers that were killed")
    print(f"{tally.bought_twice:>7}  calls bought twice")
    print(f"{tally.uncertain:>7}  calls still uncertain at the end")
    print(f"{tally.caps_met:>7}  caps met")
    for name, times in sorted(tally.recoveries.items()):
        middle, longest = statistics.median(times), max(times)
        print(f"{len(times):>7}  {name}: at work again after {middle:.1f} s, {longest:.1f} at most")
    for law in tally.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(tally.broken):>7}  laws broken          everything is in {folder}")
    return 1 if tally.broken else 0


def _crashpoints(name: str, folder: Path, step: int) -> int:
    service = name in crashpoints.POINTS
    result = (crashpoints.run if service else crashpoints.run_command)(name, folder, step=step)
    print(f"{name}: {result.tried} runs, the fault was met in {result.hit}")
    print(f"{result.in_flight:>7}  calls were in flight in workers that died")
    print(f"{result.bought_twice:>7}  calls bought twice")
    for law in result.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(result.broken):>7}  laws broken          everything is in {folder}")
    return 1 if result.broken else 0


def _caps(folder: Path, jobs: int, seed: int) -> int:
    toll = caps.run(folder, jobs, seed, lambda done: print(f"{done:>9,}  jobs", flush=True))
    print(f"{toll.jobs:>9,}  simulated jobs, {toll.capped:,} with a cap in roubles")
    print(
        f"{toll.calls:>9,}  calls, {toll.kills:,} kills, {toll.steps:,} steps, {toll.seconds:.0f} s"
    )
    for law in toll.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(toll.broken):>9,}  caps exceeded")
    return 1 if toll.broken else 0


def _crowd(folder: Path, jobs: int, seed: int) -> int:
    found = crowd.run(folder, jobs, seed)
    print(f"{found.jobs:>7}  jobs with a cap, {found.met} met it, {found.kills} workers killed")
    print(f"{found.calls:>7}  billed calls, {found.rub} ₽")
    for law in found.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(found.broken):>7}  laws broken          everything is in {folder}")
    return 1 if found.broken else 0


def _sums(folder: Path, rows: int, seed: int) -> int:
    found = sums.run(folder, rows, seed)
    for name, units in found.by.items():
        print(f"{units / 10**sums.UNIT:>22.6f} ₽  {units} units  {name}")
    for name, seconds in found.seconds.items():
        print(f"{seconds:>9.0f} s  {name}")
    print(f"{found.rows:,} requests, {found.calls:,} calls: the sums", end=" ")
    print("are one number" if found.agree else "DIFFER")
    return 0 if found.agree else 1


def _pairs(folder: Path, step: int) -> int:
    result = pairs.run(folder, step=step)
    print(f"{result.tried} pairs of a kill and a fault of the endpoint")
    print(f"{result.in_flight:>7}  calls were in flight in workers that died")
    print(f"{result.bought_twice:>7}  calls bought twice, also because of the faults")
    for name in result.unmet:
        print(f"not met: {name}")
    for law in result.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(result.broken):>7}  laws broken          everything is in {folder}")
    return 1 if result.broken else 0


def _window(folder: Path, rows: int) -> int:
    found = window.run(folder, rows)
    for share in (50, 90, 99, 100):
        at = found[min(len(found) * share // 100, len(found) - 1)]
        print(f"{1000 * at:>8.3f} ms  p{share} of {len(found)} answers: last byte to journal")
    return 0


def _hosts(folder: Path, away_s: float, who: Sequence[str]) -> int:
    broken = []
    for outcome in hosts.run(folder, away_s, who):
        print(outcome.line, flush=True)
        broken += outcome.found.broken
    for law in broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(broken):>7}  laws broken          everything is in {folder}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
