"""The server and the workers of a foreground command: started early, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import msgspec

from batch import embedded_redis
from batch.child_processes import environment, program
from batch.cli.terminal import Say, safe, say
from batch.credentials import key_fingerprint, post_seal, secret_file
from batch.embedded_redis import OwnServer
from batch.language import _
from batch.settings import Settings
from batch.store.home import Home
from jobs.errors import ServiceUnavailable, StorageUnavailable, UsageError
from jobs.job_options import Spec
from jobs.logs import RELAYED, relayed
from jobs.message import N_
from jobs.secret import POST_SECRET_FILE
from jobs.signing import Seal
from jobs.undelivered import Leftovers

DRAIN_S = 930.0
"""A worker's calls in flight have ended by then."""

_MOST_IN_VAIN = 6
"""Workers that ended one after the other with not one more request done. A request that kills its
worker is set aside at its third.
"""

_BORN_DEAD_S = 3.0
_LONGEST_REST_S = 60


class Workers:
    """Worker processes of this command: started, watched, ended; `tell` gets what they say.

    A `patient` command rests where others give up on workers that end in vain.
    """

    def __init__(
        self, count: int, environ: dict[str, str], tell: Say, *, patient: bool = False
    ) -> None:
        self.tell = tell
        self._environ = environ
        self._patient = patient
        self._done = -1
        self._in_vain = 0
        self._rests_until = 0.0
        self._readers: list[threading.Thread] = []
        self._processes = [self._one() for _ in range(count)]

    def restart(self) -> None:
        """Puts others in the place of all that ended."""
        for place, (process, _born) in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[place] = self._one()

    def _one(self) -> tuple[subprocess.Popen[bytes], float]:
        # Its standard input is a pipe of ours: it ends by itself when we are gone, however we went.
        process = subprocess.Popen(
            program("workers"),
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if process.stderr is not None:
            reader = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
            reader.start()
            self._readers.append(reader)
        return process, time.monotonic()

    def _pass_on(self, words: IO[bytes]) -> None:
        for line in words:
            told = relayed(line.decode("utf-8", "replace").rstrip())
            if told:
                self.tell("  " + _("worker: {words}").format(words=safe(_(told))))

    @property
    def alive(self) -> bool:
        """Whether any of them runs."""
        return any(process.poll() is None for process, _born in self._processes)

    def tend(self, finished: Callable[[], int]) -> None:
        """Puts another in the place of one that died; raises where that is of no use.

        `finished` tells how many requests are done.
        """
        if time.monotonic() < self._rests_until:
            return
        if self._rests_until:
            self._rests_until = 0.0
            self.restart()
        for place, (process, born) in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            if code == UsageError.exit_code:
                self._hear_out()
                raise UsageError(N_("the worker failed to start"), hint=N_("see the reason above"))
            if code == StorageUnavailable.exit_code:
                self._hear_out()
                raise StorageUnavailable(N_("the worker exited"), hint=N_("see the reason above"))
            self._count_death(finished())
            born_dead = code >= 0 and time.monotonic() - born < _BORN_DEAD_S
            in_vain = self._in_vain > _MOST_IN_VAIN
            if born_dead or (in_vain and not self._patient):
                self._hear_out()
                raise _keeps_ending(code)
            if in_vain:
                self._rest(code)
                return
            self.tell(_("a worker was killed; another has taken over, no answers are lost"))
            self._processes[place] = self._one()

    def _count_death(self, finished: int) -> None:
        before, self._done = self._done, finished
        self._in_vain = 1 if self._done > before else self._in_vain + 1

    def _rest(self, code: int) -> None:
        """What kills them, as a rule memory that is short, may be over by then."""
        pause = min(2 ** (self._in_vain - _MOST_IN_VAIN), _LONGEST_REST_S)
        self._rests_until = time.monotonic() + pause
        error = _keeps_ending(code)
        why = _(error.message)
        self.tell(_("{why}; starting another in {seconds} s").format(why=why, seconds=pause))
        self.tell("  " + _(error.hint))

    def signal(self, number: signal.Signals) -> None:
        """Tells all of them."""
        for process, _born in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self, enough: Callable[[], bool]) -> None:
        """Lets calls in flight end, unless it is `enough`; then ends what is left."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_S
        while self.alive and not enough() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """Ends what is left, and has all their words told."""
        self.signal(signal.SIGKILL)
        for process, _born in self._processes:
            process.wait()
        self._hear_out()

    def _hear_out(self) -> None:
        for reader in self._readers:
            reader.join(1.0)


def _keeps_ending(code: int) -> ServiceUnavailable:
    if code >= 0:
        hint = N_("NIGHTSHIFT_LOG=INFO shows why")
        return ServiceUnavailable(
            N_("the worker keeps exiting (exit code {code})", code=code), hint=hint
        )
    hint = N_("if it runs out of memory, give it more or lower --max-in-flight")
    return ServiceUnavailable(
        N_("the worker keeps being killed (signal {code})", code=-code), hint=hint
    )


@contextmanager
def stopped_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that goes away go to `handler` meanwhile."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


@dataclass(frozen=True)
class Crew:
    """The server and the workers of a foreground command, and the fingerprint of their API key."""

    home: Home
    url: str
    workers: Workers
    seal: Seal
    key: str
    own: OwnServer


@contextmanager
def crew(home: Home, settings: Settings, spec: Spec, workers: int) -> Iterator[Crew]:
    """Starts them, so that they are there when the input is checked and the user has agreed."""
    # All of them as Ctrl-C, so that no server is left behind.
    with stopped_by(signal.default_int_handler), ExitStack() as stack:
        url = settings.redis_url or embedded_redis.address(home.folder)
        # First the workers: what they import takes longer than a server to start.
        seal = post_seal(settings, home.folder)
        secret = secret_file(settings, home.folder)
        team = Workers(workers, worker_environment(home, url, spec, secret), say)
        stack.callback(team.kill)
        stack.enter_context(embedded_redis.server(settings.redis_url, home.folder))
        # A server ends with the last that uses it.
        stack.callback(team.kill)
        own = OwnServer(settings.redis_url, home.folder, say)
        yield Crew(home, url, team, seal, key_fingerprint(os.environ), own)


def worker_environment(home: Home, url: str, spec: Spec, secret: Path) -> dict[str, str]:
    """What a worker of a command is started with, for the endpoint of a spec."""
    settings = {
        "NIGHTSHIFT_REDIS_URL": url,
        "NIGHTSHIFT_BASE_URL": spec.base_url,
        "NIGHTSHIFT_INSECURE_HTTP": "1" if spec.insecure_http else "",
        "NIGHTSHIFT_HOME": str(home.folder),
        POST_SECRET_FILE: str(secret),
        "NIGHTSHIFT_TIED": "1",
        RELAYED: "1",
    }
    return environment("workers", settings)


def leftovers_of(home: Home, job_id: str) -> Leftovers:
    """What workers on this host have of a job; of those whose journals cannot be read, nothing."""
    process = subprocess.run(
        [*program("workers.undelivered_report"), job_id],
        env=environment("workers.undelivered_report", {"NIGHTSHIFT_HOME": str(home.folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    try:
        return msgspec.json.decode(process.stdout, type=Leftovers)
    except msgspec.DecodeError:
        return Leftovers([], [], [])
