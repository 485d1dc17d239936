"""Several hosts as network namespaces: the server on one, the coordinator and workers on others.

    server ─┬─ coordinator
            ├─ worker-0            the links can be cut, one by one
            └─ worker-1

The simulated endpoint is reached on each host's own loopback, by a carrier over a Unix socket:
namespaces share the file system. So a host that is cut off from the server still gets its answers.

A link is cut by telling both ends a neighbour's address that nobody has: packets leave, and are
dropped in silence. Needs root and ip.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.auditor import Audit
from scripts.torturing.installation import NOTHING, ROOT, Installation

_PATIENCE_S = 60.0
_NOBODY = "02:00:00:00:00:01"


def what_is_missing() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need ip, which is not installed"
    tried = f"ns-try-{secrets.token_hex(3)}"
    if _quiet("ip", "netns", "add", tried):
        return "this machine lets nobody make network namespaces"
    _quiet("ip", "netns", "del", tried)
    return ""


class Hosts(Installation):
    """A house of several hosts. Use as a context manager: no host is left afterwards."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int,
        endpoint: Sequence[str] = (),
        constants: Sequence[str] = (),
    ) -> None:
        self._socket = folder / "redis.sock"
        self._endpoint = folder / "endpoint.sock"
        opened = ("--bind", "0.0.0.0", "--protected-mode", "no")  # noqa: S104  in a namespace
        options = (*opened, "--unixsocket", str(self._socket))
        super().__init__(
            folder, workers=workers, endpoint=endpoint, server=options, constants=constants
        )
        self._tag = secrets.token_hex(3)
        self._hosts = ["coordinator", *(f"worker-{number}" for number in range(workers))]
        self._cut: set[str] = set()
        self._carriers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._build()
            return super().__enter__()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            for carrier in self._carriers:
                carrier.kill()
                carrier.wait()
            for host in ("server", *self._hosts):
                _quiet("ip", "netns", "del", self._namespace(host))

    # ---- hosts -------------------------------------------------------------------------------

    def _namespace(self, host: str) -> str:
        return f"ns-{self._tag}-{host}"

    def _address(self, host: str, end: int) -> str:
        """On the link to a host: of the server's end 1, of its own end 2."""
        return f"10.77.{self._hosts.index(host)}.{end}"

    def _end(self, host: str, end: str) -> str:
        """The name of a link's end: `a` is the server's, `b` the host's."""
        return f"v{self._tag}{self._hosts.index(host)}{end}"

    def _build(self) -> None:
        for host in ("server", *self._hosts):
            _do("ip", "netns", "add", self._namespace(host))
            self._on(host, "ip", "link", "set", "lo", "up")
        for host in self._hosts:
            ends = [self._end(host, end) for end in "ab"]
            _do("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for name, at, end in (("server", ends[0], 1), (host, ends[1], 2)):
                _do("ip", "link", "set", at, "netns", self._namespace(name))
                self._on(name, "ip", "addr", "add", f"{self._address(host, end)}/30", "dev", at)
                self._on(name, "ip", "link", "set", at, "up")

    def _on(self, host: str, *command: str) -> None:
        _do(*self._under(host), *command)

    def _under(self, host: str) -> list[str]:
        return ["ip", "netns", "exec", self._namespace(host)]

    def start(
        self, name: str, under: Sequence[str] = (), environ: Mapping[str, str] = NOTHING
    ) -> None:
        """As in a house of one host, each on its own."""
        if name == "coordinator" and not self._carriers:
            self._carry_the_endpoint()
        super().start(name, [*self._under(name), *under], environ)

    def environ(self, name: str = "command") -> dict[str, str]:
        """Nobody else is in these hosts' network."""
        return {**super().environ(name), "NIGHTSHIFT_INSECURE_REDIS": "1"}

    def redis_url(self, name: str) -> str:
        """At the server's end of the host's link."""
        if name not in self._hosts:
            return f"unix://{self._socket}?db=0"
        return f"redis://{self._address(name, 1)}:{self.port}/0"

    def _wait_for_server(self) -> None:
        _wait_for(self._socket)

    def _carry_the_endpoint(self) -> None:
        port = str(self.simulator.port)
        program = [sys.executable, "-m", "scripts.torturing.hosts"]
        self._carrier([*program, "socket", str(self._endpoint), port])
        _wait_for(self._endpoint)
        for host in self._hosts:
            self._carrier([*self._under(host), *program, "port", str(self._endpoint), port])

    def _carrier(self, command: list[str]) -> None:
        self._carriers.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL))

    # ---- links -------------------------------------------------------------------------------

    def cut(self, *hosts: str) -> None:
        """Drops every packet between these hosts and the server."""
        self._cut.update(hosts)
        self._neighbours(hosts, "replace", "lladdr", _NOBODY, "nud", "permanent")

    def mend(self, *hosts: str) -> None:
        """Lets packets through again."""
        self._cut.difference_update(hosts)
        self._neighbours(hosts, "del")

    def _neighbours(self, hosts: Iterable[str], change: str, *address: str) -> None:
        for host in hosts:
            for at, end in (("server", "a"), (host, "b")):
                other = self._address(host, 2 if at == "server" else 1)
                self._on(at, "ip", "neigh", change, other, *address, "dev", self._end(host, end))

    def all_hosts(self) -> list[str]:
        """Those that have a link to the server."""
        return list(self._hosts)

    # ---- books -------------------------------------------------------------------------------

    def calls_of(self, worker: str, job: str, since: float, till: float = 1e12) -> int:
        """Calls in the ledger that a living worker sent between two moments of Unix time."""
        outboxes = [path.name for path in (self.folder / "scratch" / worker / "outbox").iterdir()]
        return sum(call.rpartition("-")[0] in outboxes for call in self.booked(job, since, till))

    def busiest(self, job: str) -> str:
        """The worker that made most of a job's calls so far."""
        workers = [host for host in self._hosts if host.startswith("worker")]
        return max(workers, key=lambda worker: self.calls_of(worker, job, 0.0))

    def booked(self, job: str, since: float = 0.0, till: float = 1e12) -> list[str]:
        """The ids of a job's calls in the ledger that left between two moments."""
        file = self.folder / "home" / "jobs" / job / "job.sqlite"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT id FROM calls WHERE sent_at BETWEEN ? AND ?", (since, till))
            return [call for (call,) in rows]


@dataclass(frozen=True)
class Outcome:
    """What came of one job: seconds from the mending to the first news at home, and to its end.

    `reckless` are calls that a worker sent although it had been cut off for longer than `STOPS_S`.
    """

    what: str
    found: Audit
    allowed: int
    recovered_s: float
    took_s: float
    reckless: int

    @property
    def line(self) -> str:
        """For a person."""
        return (
            f"{self.what}: news {self.recovered_s:.1f} s after the link was back,"
            f" over after {self.took_s:.1f} s,"
            f" {self.found.bought_twice} bought twice of {self.allowed} that may be"
        )


STOPS_S = 7.0
"""A worker that hears nothing for so long sends nothing more: another may be buying it by now."""

LATENCY_S = 3.0
"""The longest that a call takes in these runs."""

ROWS = 400
ENDPOINT = ("--latency", f"uniform:1:{LATENCY_S}", "--max-in-flight", "16")


def cut_off(hosts: Hosts, cut: Sequence[str], name: str, rows: int, away_s: float) -> Outcome:
    """A job in whose midst some hosts are cut off for a while; none named: the busiest worker.

    What a worker had in flight, or could still send within its lease, another one buys again.
    """
    job = hosts.submit(name, rows)
    before = len(hosts.simulator.book().billed())
    _until(lambda: len(hosts.simulator.book().billed()) > before + 20)
    _until(lambda: len(hosts.booked(job)) > 0)
    cut = cut or [hosts.busiest(job), *(["coordinator"] if name == "both" else [])]
    cut_at = time.time()
    hosts.cut(*cut)
    time.sleep(away_s)
    had, mended_at = len(hosts.booked(job)), time.time()
    hosts.mend(*cut)
    back = time.monotonic()
    _until(lambda: len(hosts.booked(job)) > had or hosts.is_over(name))
    recovered = time.monotonic() - back
    hosts.wait(name)
    took = time.monotonic() - back
    # What came late is taken in all the same, and the outputs are written anew.
    _until(lambda: len(hosts.booked(job)) >= len(hosts.simulator.book().billed()) - before)
    time.sleep(1)
    workers = [host for host in cut if host.startswith("worker")]
    lone = workers[0] if len(workers) == 1 else None
    allowed = hosts.calls_of(lone, job, cut_at - LATENCY_S - 1) if lone else 0
    reckless = hosts.calls_of(lone, job, cut_at + STOPS_S, mended_at) if lone else 0
    found = hosts.audit(name, job, allowed)
    return Outcome(f"{', '.join(cut)} cut off", found, allowed, recovered, took, reckless)


WHO = ("worker", "coordinator", "server", "both")


def run(
    folder: Path, away_s: float, who: Sequence[str] = WHO, rows: int = ROWS
) -> Iterator[Outcome]:
    """The long form: these are away for `away_s`, one after another.

    `both` are the busiest worker and the coordinator at the same time.
    """
    missing = what_is_missing()
    if missing:
        raise SystemExit(f"SKIPPED, NOT RUN: {missing}")
    with Hosts(folder, workers=2, endpoint=ENDPOINT) as hosts:
        for name in who:
            cut = {"coordinator": ["coordinator"], "server": hosts.all_hosts()}.get(name, [])
            yield cut_off(hosts, cut, name, rows, away_s)


# ---- helpers -------------------------------------------------------------------------------------


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _quiet(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


def _wait_for(path: Path) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) == 0

    _until(answers)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("that did not come about")
        time.sleep(0.05)


# ---- the carrier: a program of its own -----------------------------------------------------------


def _carry_between(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    while True:
        one, _ = listener.accept()
        threading.Thread(target=_pair, args=(one, connect), daemon=True).start()


def _pair(one: socket.socket, connect: Callable[[], socket.socket]) -> None:
    try:
        other = connect()
    except OSError:
        one.close()
        return
    threading.Thread(target=_pump, args=(other, one), daemon=True).start()
    _pump(one, other)


def _pump(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            to.sendall(data)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _carrier_main(side: str, path: str, port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def to_port() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port))

    def to_socket() -> socket.socket:
        there = socket.socket(socket.AF_UNIX)
        there.connect(path)
        return there

    if side == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(256)
        _carry_between(listener, to_port)
    else:
        _carry_between(socket.create_server(("127.0.0.1", port), backlog=256), to_socket)


if __name__ == "__main__":
    _carrier_main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
