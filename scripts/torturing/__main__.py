"""python -m scripts.torturing CAMPAIGN [--blows N] [--away SECONDS]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.torturing import crashpoints, hosts
from scripts.torturing.campaigns import PLANS, run


def main() -> int:
    """Runs a campaign and prints what it came to; 1 if a law was broken."""
    parser = argparse.ArgumentParser(description="Long fault runs, audited after each job.")
    names = [*PLANS, *crashpoints.POINTS, "hosts"]
    parser.add_argument("campaign", choices=names, metavar="CAMPAIGN")
    parser.add_argument("--blows", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--step", type=int, default=1, help="try every Nth crash point only")
    parser.add_argument(
        "--away", type=float, default=60, help="hosts: seconds that each is cut off"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="nightshift-torture-"))
    if given.campaign in crashpoints.POINTS:
        return _crashpoints(given.campaign, folder, given.step)
    if given.campaign == "hosts":
        return _hosts(folder, given.away)
    tally = run(given.campaign, given.blows, folder, given.seed)
    for name, count in sorted(tally.blows.items()):
        print(f"{count:>7}  {name}")
    print(f"{tally.jobs:>7}  jobs, {tally.rows:,} requests, {tally.seconds:.0f} s")
    print(f"{tally.bought_twice:>7}  calls bought twice")
    print(f"{tally.allowed_twice:>7}  calls were in flight at kills")
    print(f"{tally.uncertain:>7}  calls still uncertain at the end")
    for law in tally.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(tally.broken):>7}  laws broken          everything is in {folder}")
    return 1 if tally.broken else 0


def _crashpoints(name: str, folder: Path, step: int) -> int:
    result = crashpoints.run(name, folder, step=step)
    print(f"{name}: {result.tried} runs, the fault was met in {result.hit}")
    print(f"{result.bought_twice:>7}  calls bought twice")
    for law in result.broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(result.broken):>7}  laws broken          everything is in {folder}")
    return 1 if result.broken else 0


def _hosts(folder: Path, away_s: float) -> int:
    outcomes = hosts.run(folder, away_s)
    for outcome in outcomes:
        print(outcome.line)
    broken = [law for outcome in outcomes for law in outcome.found.broken]
    for law in broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(broken):>7}  laws broken          everything is in {folder}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
