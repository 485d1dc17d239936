"""python -m scripts.torturing CAMPAIGN …"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from scripts.torturing import (
    cap_simulation,
    crashpoints,
    fault_pairs,
    hosts,
    journal_delay,
    known_costs,
    many_jobs,
    restarts,
    serve_kills,
    signals,
    stalls,
    upgrade,
)
from scripts.torturing.campaigns import PLANS, run
from scripts.torturing.installation import end_all
from scripts.torturing.prefork import Prefork
from scripts.torturing.preload import build

Outcome = TypeVar("Outcome")
Play = Callable[[Namespace, Path], list[str]]
"""Plays a campaign in a scratch folder, prints its figures, returns the laws that were broken."""

_ABOUT = """Long fault runs against a whole installation of real processes in a scratch folder.

Each job is audited by scripts/auditor.py, which knows nothing of the product; every law that was
broken is printed, and the exit code is 1 then. Nothing outside of the scratch folder is touched."""

_EXAMPLES = """examples:
  scripts/torture kills --blows 20            some minutes; 1000 for the whole proof
  scripts/torture points --step 10            every tenth crash point of everything
  scripts/torture points worker-0-full-write  a worker whose disk is full at each of its writes
  scripts/torture hosts --away 60             needs root

Options of a campaign: scripts/torture CAMPAIGN --help"""

_SOME = f"{', '.join([*crashpoints.POINTS][:3])}, …, {[*crashpoints.POINTS][-1]}"


def parser() -> ArgumentParser:
    """Of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    top = ArgumentParser(
        "scripts/torture", description=_ABOUT, epilog=_EXAMPLES, formatter_class=shown
    )
    every = ArgumentParser(add_help=False)
    every.add_argument("--folder", type=Path, help="where everything is kept (a new one in /tmp)")
    every.add_argument("--seed", type=int, default=1, help="of all that is chosen at random (1)")
    campaigns = top.add_subparsers(title="campaigns", metavar="CAMPAIGN", required=True)

    def campaign(name: str, play: Play, what: str) -> ArgumentParser:
        added = campaigns.add_parser(name, parents=[every], help=what, description=what)
        added.set_defaults(play=play, campaign=name)
        return added

    for name, plan in PLANS.items():
        one = campaign(name, _blows, plan.what)
        one.add_argument("--blows", type=int, default=50, help="how many (50)")
        one.add_argument("--minutes", type=float, default=float("inf"), help="no blows after")
    one = campaign(
        "points", _points, "a process killed, or its disk full or broken, at its 1st, 2nd, … call"
    )
    one.add_argument(
        "points",
        nargs="*",
        type=_named(crashpoints.POINTS),
        metavar="POINT",
        help=f"which (all): {_SOME}",
    )
    two = campaign(
        "pairs", _pairs, "a kill at each named point of the code while the endpoint errs"
    )
    two.add_argument(
        "points", nargs="*", type=_named(fault_pairs.POINTS), metavar="POINT", help="which (all)"
    )
    for each in (one, two):
        each.add_argument("--step", type=int, default=1, help="every Nth of them only (1)")
        each.add_argument("--beside", type=int, default=2, help="so many points side by side (2)")
    one = campaign("hosts", _hosts, "hosts as network namespaces, cut off from Redis; needs root")
    one.add_argument("--away", type=float, default=60, help="seconds that each is cut off (60)")
    one.add_argument("--who", nargs="*", choices=hosts.WHO, default=hosts.WHO, help="only these")
    one = campaign("restarts", _restarts, "a large job, killed: how soon is it under way again?")
    one.add_argument("--rows", type=int, default=1_000_000, help="requests (1000000)")
    one = campaign("window", _window, "how long an answer is in a worker's memory alone")
    one.add_argument("--rows", type=int, default=1000, help="answers (1000)")
    one = campaign("upgrade", _upgrade, "an older release's programs beside this one's, killed")
    one.add_argument("revision", metavar="REVISION", help="of this repository: the older release")
    one.add_argument("--rows", type=int, default=1500, help="requests of each of two jobs (1500)")
    one = campaign("signals", _signals, "Ctrl-C, SIGTERM, a terminal or reader that goes away")
    one.add_argument(
        "commands",
        nargs="*",
        type=_named(signals.COMMANDS),
        metavar="COMMAND",
        help=f"which (all): {', '.join(signals.COMMANDS)}",
    )
    one.add_argument("--after", type=float, nargs="+", default=[0.3, 1, 2, 4], help="seconds")
    one.add_argument("--twice", action="store_true", help="each signal once more, 0.3 s later")
    one = campaign("stalls", _stalls, "real deaths: how soon does who looks hear of them?")
    one.add_argument(
        "ways",
        nargs="*",
        type=_named(stalls.WAYS),
        metavar="WAY",
        help=f"which (all): {', '.join(stalls.WAYS)}",
    )
    one = campaign("caps", _caps, "simulated jobs: is a cap exceeded at any step?")
    one.add_argument("--jobs", type=int, default=1000, help="how many (1000)")
    one = campaign("crowd", _crowd, "many small jobs at once, each with a cap, workers killed")
    one.add_argument("--jobs", type=int, default=30, help="how many (30)")
    one = campaign("served", _served, "batches of nightshift serve, all that runs them killed")
    one.add_argument("--blows", type=int, default=20, help="how many kills (20)")
    one = campaign("sums", _sums, "a big job's costs added up in five ways")
    one.add_argument("--rows", type=int, default=100_000, help="requests (100000)")
    return top


def _named(points: Collection[str]) -> Callable[[str], str]:
    """Takes the name of one of these."""

    def point(name: str) -> str:
        if name not in points:
            raise argparse.ArgumentTypeError(f"no such point; they are {', '.join(points)}")
        return name

    return point


def main() -> int:
    """Runs a campaign and prints what it came to; 1 if a law was broken."""
    given = parser().parse_args()
    # What ends us ends what we started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = given.folder or Path(tempfile.mkdtemp(prefix="nightshift-torture-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    broken: list[str] = given.play(given, folder)
    for law in broken[:50]:
        print(f"BROKEN {law}")
    print(f"{len(broken):>9,}  laws broken          everything is in {folder}")
    return 1 if broken else 0


def _blows(given: Namespace, folder: Path) -> list[str]:
    tally = run(given.campaign, given.blows, folder, given.seed, given.minutes)
    for name, count in sorted(tally.blows.items()):
        print(f"{count:>9,}  {name}")
    print(f"{tally.jobs:>9,}  jobs, {tally.rows:,} requests, {tally.seconds:.0f} s")
    print(f"{tally.calls:>9,}  billed calls, {tally.rub} ₽")
    print(f"{tally.failed:>9,}  requests failed: of the endpoint, or after three deaths of workers")
    _in_vain(tally.in_flight, tally.bought_twice)
    print(f"{tally.uncertain:>9,}  calls still uncertain at the end")
    print(f"{tally.caps_met:>9,}  caps met")
    for name, times in sorted(tally.recoveries.items()):
        middle, longest = statistics.median(times), max(times)
        print(
            f"{len(times):>9,}  {name}: at work again after {middle:.1f} s, {longest:.1f} at most"
        )
    return tally.broken


def _points(given: Namespace, folder: Path) -> list[str]:
    def play(point: str) -> crashpoints.Result:
        result = crashpoints.run(point, folder / point, step=given.step, nursery=nursery)
        print(f"{result.hit:>9,}  of {result.tried} runs met {point}", flush=True)
        for law in result.broken:
            print(f"BROKEN {law}", flush=True)
        return result

    with Prefork(build("crashpoint", folder)) as nursery:
        results = _side_by_side(play, given.points or crashpoints.POINTS, given.beside)
    print(f"{sum(one.tried for one in results):>9,}  runs")
    _in_vain(sum(one.in_flight for one in results), sum(one.bought_twice for one in results))
    return [law for one in results for law in one.broken]


def _pairs(given: Namespace, folder: Path) -> list[str]:
    def play(point: str) -> fault_pairs.Result:
        result = fault_pairs.run(folder / point, [point], step=given.step)
        print(f"{result.tried:>9,}  faults of the endpoint, and a kill: {point}", flush=True)
        for law in (*result.broken, *(f"not met: {name}" for name in result.unmet)):
            print(law, flush=True)
        return result

    results = _side_by_side(play, given.points or fault_pairs.POINTS, given.beside)
    print(f"{sum(one.tried for one in results):>9,}  pairs")
    _in_vain(sum(one.in_flight for one in results), sum(one.bought_twice for one in results))
    return [law for one in results for law in one.broken]


def _side_by_side(
    play: Callable[[str], Outcome], points: Iterable[str], beside: int
) -> list[Outcome]:
    with ThreadPoolExecutor(beside) as pool:
        try:
            return [*pool.map(play, points)]
        except BaseException:
            # Else the pool waits for what is under way, and for all that was to come.
            end_all()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _in_vain(in_flight: int, bought_twice: int) -> None:
    print(f"{in_flight:>9,}  calls were in flight in workers that were killed")
    print(f"{bought_twice:>9,}  calls bought twice")


def _hosts(given: Namespace, folder: Path) -> list[str]:
    broken = []
    for outcome in hosts.run(folder, given.away, given.who):
        print(outcome.line, flush=True)
        broken += outcome.found.broken
    return broken


def _restarts(given: Namespace, folder: Path) -> list[str]:
    result = restarts.run(folder, given.rows)
    for names, seconds in result.seconds.items():
        told = ", ".join(f"{each:.1f}" for each in seconds)
        print(f"{told} s  until a new call is at home, after a kill of {names}")
    _in_vain(result.in_flight, result.bought_twice)
    return result.broken


def _window(given: Namespace, folder: Path) -> list[str]:
    found = journal_delay.run(folder, given.rows)
    for share in (50, 90, 99, 100):
        at = found[min(len(found) * share // 100, len(found) - 1)]
        print(f"{1000 * at:>9.3f} ms  p{share} of {len(found)} answers: last byte to journal")
    return []


def _upgrade(given: Namespace, folder: Path) -> list[str]:
    broken = []
    for one in upgrade.run(folder, given.revision, given.rows):
        found = one.found
        print(
            f"{one.order}: {found.completed:,} of {found.rows:,} answered,"
            f" {found.billed_calls:,} billed calls, {found.in_flight} in flight in workers that"
            f" were killed, {found.bought_twice} bought twice, {found.uncertain} uncertain"
        )
        broken += one.broken
    return broken


def _signals(given: Namespace, folder: Path) -> list[str]:
    names = given.commands or list(signals.COMMANDS)
    found = signals.run(folder, names, given.after, twice=given.twice)
    print(f"{found.tried:>9,}  commands, {found.met} were there when they were told to stop")
    return found.broken


def _stalls(given: Namespace, folder: Path) -> list[str]:
    return stalls.run(folder, given.ways or list(stalls.WAYS))


def _caps(given: Namespace, folder: Path) -> list[str]:
    def tell(done: int) -> None:
        print(f"{done:>9,}  jobs", flush=True)

    toll = cap_simulation.run(folder, given.jobs, given.seed, tell)
    print(f"{toll.jobs:>9,}  simulated jobs, {toll.capped:,} with a cap in roubles")
    print(
        f"{toll.calls:>9,}  calls, {toll.kills:,} kills, {toll.steps:,} steps, {toll.seconds:.0f} s"
    )
    return toll.broken


def _crowd(given: Namespace, folder: Path) -> list[str]:
    found = many_jobs.run(folder, given.jobs, given.seed)
    print(f"{found.jobs:>9,}  jobs with a cap, {found.met} met it, {found.kills} workers killed")
    print(f"{found.calls:>9,}  billed calls, {found.rub} ₽")
    return found.broken


def _served(given: Namespace, folder: Path) -> list[str]:
    found = serve_kills.run(folder, given.blows, given.seed)
    for name, count in sorted(found.kills.items()):
        print(f"{count:>9,}  kills of {name}")
    print(f"{found.batches:>9,}  batches, {found.rows:,} rows, {found.slowest_s:.0f} s at most")
    _in_vain(found.in_flight, found.bought_twice)
    return found.broken


def _sums(given: Namespace, folder: Path) -> list[str]:
    found = known_costs.run(folder, given.rows, given.seed)
    for name, units in found.by.items():
        print(f"{units / 10**known_costs.UNIT:>22.6f} ₽  {units} units  {name}")
    for name, seconds in found.seconds.items():
        print(f"{seconds:>9.0f}  s: {name}")
    print(f"{found.rows:>9,}  requests, {found.calls:,} calls")
    print(f"{found.unlisted:>9,}  calls that no price explains")
    return [] if found.agree else ["L7: the sums differ"]


if __name__ == "__main__":
    sys.exit(main())
