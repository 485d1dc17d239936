"""How long an answer is in a worker's memory alone: from its last byte to the journal (P3).

Seen from outside, by strace: the last read on the answer's connection before the write of the
journal's record that holds the same generation id. Watching makes both slower, so the true window
is shorter. A SIGKILL within it loses the answer; after it, none does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.torturing.house import House

_CALL = re.compile(
    r"^\d+ +(?P<at>[\d.]+) (?P<name>read|recvfrom|recvmsg|write)\((?P<fd>\d+)<(?P<file>.*?)>, "
    r"(?P<rest>.*)$"
)
_RESUMED = re.compile(r"^\d+ +(?P<at>[\d.]+) <\.\.\. \w+ resumed>(?P<rest>.*)$")
_TOOK = re.compile(r" <([\d.]+)>$")
_GENERATION = re.compile(r"gen-[0-9a-z-]+")


def run(folder: Path, rows: int) -> list[float]:
    """Seconds of each answer of a job of so many requests, ascending."""
    if shutil.which("strace") is None:
        raise SystemExit("SKIPPED, NOT RUN: the window needs strace, which is not installed")
    seen = folder / "worker.strace"
    options = ("--latency", "uniform:0.5:1.5", "--max-in-flight", "64")
    with House(folder, workers=0, endpoint=options) as house:
        house.start("worker-0", under=_strace(seen))
        house.submit("in", rows)
        house.wait("in")
    with seen.open(errors="replace") as lines:
        return sorted(windows(lines))


def windows(lines: Iterable[str]) -> Iterator[float]:
    """The windows that strace's lines tell."""
    connection: dict[str, str] = {}
    last_read: dict[str, float] = {}
    begun: dict[str, re.Match[str]] = {}
    for line in lines:
        thread = line.partition(" ")[0]
        if resumed := _RESUMED.match(line):
            # Another thread's call was told in between: this is the second half.
            call, told, at = begun.pop(thread, None), resumed["rest"], float(resumed["at"])
        elif call := _CALL.match(line):
            told, at = call["rest"], float(call["at"])
            if told.endswith("<unfinished ...>"):
                begun[thread] = call
                continue
        if call is None:
            continue
        took = _TOOK.search(told)
        ids = _GENERATION.findall(call["rest"] + told)
        if call["name"] != "write":
            last_read[call["fd"]] = at
            connection.update(dict.fromkeys(ids, call["fd"]))
        elif "/outbox/" in call["file"] and "ended" in call["rest"] and ids and took:
            fd = connection.get(ids[0])
            if fd is not None:
                yield at + float(took[1]) - last_read[fd]


def _strace(seen: Path) -> list[str]:
    calls = "trace=read,recvfrom,recvmsg,write"
    return ["strace", "-f", "-qq", "-ttt", "-T", "-yy", "-s", "800", "-e", calls, "-o", str(seen)]
