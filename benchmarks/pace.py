"""How well the pace uses what an endpoint allows: whole installations against the simulator.

    scripts/bench pace rpm --workers 2
    scripts/bench pace slots --given

What is allowed is enforced by the simulator, whose book of calls is what is counted; minutes are
minutes, nothing is scaled but where a scene says so.

    rpm, tpm      a limit that was given: share of it used from the second minute on, refusals
    unknown       a limit of requests per minute that nobody told: used in the third minute
    drop          50 calls in flight are borne, then 5: refusals and use in the minute after that
    outage        the endpoint is gone for `--seconds`: calls made, and how soon all is as before
    slots         256 in flight, a median of 2 s each: the time against the best that is possible
    shares        a large job, then a small urgent one: how soon that is done
    trips         round trips to Redis for each call
    mixed         7 % of the calls are refused by chance and 20 % fail: seconds for 900 requests
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from scripts.simulator.book import BookEntry, canonical_hash
from scripts.torturing.hosts import Hosts
from scripts.torturing.installation import Installation

_LONGEST_S = 20
"""The longest that a call takes where a limit is given: its tokens are known then."""

Scene = Callable[[Path, argparse.Namespace], dict[str, object]]


def _calls(house: Installation) -> list[BookEntry]:
    return list(house.simulator.book().chats())


def _until(house: Installation, count: int, patience_s: float = 60.0) -> float:
    """When so many calls have come, by the monotonic clock."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if house.simulator.stats()["calls"] >= count:
            return time.monotonic()
        time.sleep(0.1)
    raise TimeoutError("no call comes")


def _used(calls: list[BookEntry], start: float, end: float) -> dict[str, object]:
    """What was let in, refused and used in a span of time, per minute of it.

    As the endpoint counts: a prompt when its call is let in, an answer when it is there. A call
    that is in flight was let in, as a refusal comes at once.
    """
    some = [call for call in calls if start <= call.received_mono < end]
    let_in = [call for call in some if call.admitted or call.in_flight]
    minutes = (end - start) / 60
    answered = [call for call in calls if start <= (call.finished_mono or end) < end]
    tokens = sum(call.prompt_tokens for call in let_in)
    tokens += sum(call.completion_tokens for call in answered)
    return {
        "calls_per_minute": round(len(let_in) / minutes, 1),
        "tokens_per_minute": round(tokens / minutes),
        "refused_share": round(1 - len(let_in) / max(len(some), 1), 4),
    }


def _house(folder: Path, options: argparse.Namespace, endpoint: list[str]) -> Installation:
    make = Hosts if options.hosts else Installation
    return make(folder, workers=options.workers, endpoint=endpoint)


def _paced(
    folder: Path, options: argparse.Namespace, endpoint: list[str], given: list[str], start: float
) -> dict[str, object]:
    """A job that never ends; what was used from `start` seconds on."""
    with _house(folder, options, endpoint) as house:
        house.submit("night", options.requests, *given)
        began = _until(house, 1)
        time.sleep(max(0.0, began + options.seconds + _LONGEST_S - time.monotonic()))
        calls = _calls(house)
        return _used(calls, began + start, began + options.seconds)


def _rpm(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    limit = options.limit or 1200
    endpoint = ["--rpm", str(limit), "--latency", f"lognormal:2:0.5:{_LONGEST_S}"]
    found = _paced(folder, options, endpoint, ["--rpm", str(limit)], 60)
    return found | {"used": round(float(str(found["calls_per_minute"])) / limit, 4)}


def _tpm(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    limit = options.limit or 1_200_000
    endpoint = ["--tpm", str(limit), "--latency", f"lognormal:2:0.5:{_LONGEST_S}"]
    found = _paced(folder, options, endpoint, ["--tpm", str(limit)], 60)
    return found | {"used": round(float(str(found["tokens_per_minute"])) / limit, 4)}


def _unknown(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    limit = options.limit or 1200
    endpoint = ["--rpm", str(limit), "--latency", f"lognormal:2:0.5:{_LONGEST_S}"]
    found = _paced(folder, options, endpoint, [], 120)
    return found | {"used": round(float(str(found["calls_per_minute"])) / limit, 4)}


def _drop(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    endpoint = ["--max-in-flight", "50", "--latency", "lognormal:1:0.5:10"]
    with _house(folder, options, endpoint) as house:
        house.submit("night", options.requests)
        began = _until(house, 1)
        time.sleep(max(0.0, began + 40 - time.monotonic()))
        house.simulator.control("limits", {"max_in_flight": 5})
        fell = time.monotonic()
        time.sleep(120)
        calls = _calls(house)
        after = [call for call in calls if call.admitted and call.finished_mono is not None]
        busy = sum(
            max(0.0, min(call.finished_mono or 0, fell + 120) - max(call.received_mono, fell + 60))
            for call in after
        )
        return {
            "before": _used(calls, began + 20, fell),
            "first_minute": _used(calls, fell, fell + 60),
            "second_minute": _used(calls, fell + 60, fell + 120),
            "used_of_5_in_second_minute": round(busy / 60 / 5, 4),
        }


def _outage(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """The simulator stays and answers every call with 500, so that it can count them."""
    endpoint = ["--max-in-flight", "100", "--latency", "lognormal:1:0.3:5"]
    with _house(folder, options, endpoint) as house:
        job = house.submit("night", options.requests)
        began = _until(house, 1)
        time.sleep(max(0.0, began + 30 - time.monotonic()))
        house.simulator.control("faults", [{"kind": "500", "share": 1}])
        fell = time.monotonic()
        time.sleep(5)
        told = house.state(job)
        time.sleep(options.seconds - (time.monotonic() - fell))
        house.simulator.control("faults", [])
        back = time.monotonic()
        time.sleep(75)
        calls = _calls(house)
        failed = house.state(job)["failed"]
        answered = [c.received_mono for c in calls if c.status == 200 and not c.fault]
        rate_before = sum(fell - 15 <= at < fell for at in answered) / 15
        full = next(
            (
                second
                for second in range(75)
                if sum(back + second <= at < back + second + 5 for at in answered) / 5
                >= 0.9 * rate_before
            ),
            math.inf,
        )
        return {
            "told": {name: told[name] for name in ("state", "reason", "reason_text")},
            "calls_in_the_first_5_s": sum(fell <= c.received_mono < fell + 5 for c in calls),
            "probes_after_that": sum(fell + 5 <= c.received_mono < back for c in calls),
            "seconds_until_as_before": full,
            "failed": failed,
        }


def _greedy(durations: list[float], places: int) -> float:
    """The end of all, if each begins as soon as a place is free: who does not know how long a call
    will take can do no better.
    """
    ends = [0.0] * places
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _slots(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    endpoint = ["--max-in-flight", "256", "--latency", "lognormal:2:0.6:30"]
    given = ["--max-in-flight", "256"] if options.given else []
    with _house(folder, options, endpoint) as house:
        house.submit("night", options.requests, *given)
        _until(house, 1)
        while not house.is_over("night"):
            time.sleep(0.1)
        calls = _calls(house)
        worked = [(call.finished_mono or 0) - call.received_mono for call in calls if call.admitted]
        first = min(call.received_mono for call in calls)
        last = max(call.finished_mono or 0 for call in calls)
        best = _greedy(worked, 256)
        return {
            "seconds": round(last - first, 1),
            "best": round(best, 1),
            "against_best": round((last - first) / best, 4),
            "refused_share": round(1 - len(worked) / len(calls), 4),
        }


def _shares(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    endpoint = ["--max-in-flight", "20", "--latency", "lognormal:1:0.3:5"]
    with _house(folder, options, endpoint) as house:
        house.submit("night", options.requests, "--max-in-flight", "20")
        began = _until(house, 1)
        time.sleep(max(0.0, began + 20 - time.monotonic()))
        house.submit("urgent", 50, "--priority", "high", "--max-in-flight", "20")
        asked = time.monotonic()
        while not house.is_over("urgent"):
            time.sleep(0.1)
        lines = house.input("urgent").read_text().splitlines()
        urgent = {canonical_hash(json.loads(line)["body"]["messages"]) for line in lines}
        calls = [call for call in _calls(house) if call.messages_hash in urgent]
        return {
            "first_call_after_s": round(min(call.received_mono for call in calls) - asked, 1),
            "last_answer_after_s": round(max(c.finished_mono or 0 for c in calls) - asked, 1),
            "alone_s": 50 / 20,
        }


def _trips(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    endpoint = ["--latency", "lognormal:1:0.3:5", "--max-in-flight", "100"]
    with _house(folder, options, endpoint) as house:
        house.submit("night", options.requests, "--max-in-flight", "100")
        _until(house, 1)
        time.sleep(options.seconds)
        calls = len(_calls(house))
        redis = Redis.from_url(house.redis_url("worker-0"))
        stats = redis.info("commandstats")
        redis.close()
        trips = stats["cmdstat_evalsha"]
        return {
            "calls": calls,
            "trips_per_call": round(trips["calls"] / calls, 3),
            "script_us": trips["usec_per_call"],
        }


def _mixed(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Either kind of trouble alone, and both; the endpoint bears 400 in flight."""
    refused, failed = ["--fault", "429:share=0.07"], ["--fault", "500:share=0.2"]
    took = {}
    for name, faults in {"429": refused, "500": failed, "both": [*refused, *failed]}.items():
        endpoint = ["--max-in-flight", "400", "--latency", "lognormal:1:0.5:10", *faults]
        with _house(folder / name, options, endpoint) as house:
            house.submit("night", 900)
            began = _until(house, 1)
            while not house.is_over("night"):
                time.sleep(0.1)
            took[name] = round(time.monotonic() - began, 1)
    return {"seconds": took}


SCENES: dict[str, Scene] = {
    "rpm": _rpm,
    "tpm": _tpm,
    "unknown": _unknown,
    "drop": _drop,
    "outage": _outage,
    "slots": _slots,
    "shares": _shares,
    "trips": _trips,
    "mixed": _mixed,
}


def main() -> int:
    """Plays one scene and prints what came out as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--hosts", action="store_true", help="Each worker on a host of its own.")
    parser.add_argument("--given", action="store_true", help="slots: the limit is told.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = SCENES[options.scene](Path(folder), options)
    print(json.dumps({"scene": options.scene, "workers": options.workers, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
