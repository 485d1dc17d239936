"""Our own programs as processes: they import nothing from the folder they are started in, and each
gets the secrets that it needs and no others.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, MutableMapping

from jobs import headers
from jobs.celery_settings import is_celerys
from jobs.secret import CATALOG_HEADER, CATALOG_KEY, KEY_FILE, KEYS, REDIS_URL

_OF_THE_KEY = re.compile(rf"(?:{'|'.join(KEYS)})(?:_FILE)?|{KEY_FILE}|{headers.VARIABLE}")
_OF_THE_CATALOG = re.compile(rf"{CATALOG_KEY}(?:_FILE)?|{CATALOG_HEADER}")
_OF_NOTIFICATIONS = re.compile(r"NIGHTSHIFT_(?:NOTIFY|TELEGRAM|SMTP)_\w+")
_OF_FLOWER = re.compile(r"NIGHTSHIFT_FLOWER_PASSWORD(?:_FILE)?")
_OF_REDIS = re.compile(rf"{REDIS_URL}(?:_FILE)?")
_OF_SERVE = re.compile(r"NIGHTSHIFT_WEBHOOK_SECRET(?:_FILE)?")
"""What `serve` itself signs webhooks with; nothing that it starts does."""
_NEEDLESS = {
    "workers": (
        *(_OF_THE_CATALOG, _OF_NOTIFICATIONS, _OF_FLOWER, re.compile(rf"{REDIS_URL}_FILE")),
    ),
    "workers.key_check": (_OF_THE_CATALOG, _OF_NOTIFICATIONS, _OF_FLOWER, _OF_REDIS),
    "workers.undelivered_report": (
        _OF_THE_KEY,
        _OF_THE_CATALOG,
        _OF_NOTIFICATIONS,
        _OF_FLOWER,
        _OF_REDIS,
    ),
    "coordinator": (_OF_THE_KEY, _OF_FLOWER),
    "intake": (_OF_THE_CATALOG, _OF_NOTIFICATIONS, _OF_FLOWER, _OF_REDIS),
    "flower": (_OF_THE_KEY, _OF_THE_CATALOG, _OF_NOTIFICATIONS),
}
_OF_A_SERVER = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


def program(module: str) -> list[str]:
    """The command line of a module of ours; -P keeps the working folder out of its imports."""
    return [sys.executable, "-P", "-m", module]


def environment(program: str, more: Mapping[str, str]) -> dict[str, str]:
    """What a process of that program is started with."""
    environ = {**os.environ, **more}
    if paths := environ.pop("PYTHONPATH", ""):
        environ["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, paths.split(os.pathsep)))
    return {name: value for name, value in environ.items() if not _is_needless(program, name)}


def keep_only_needed(program: str) -> None:
    """This process has become that program: what it does not need is forgotten."""
    for name in [name for name in os.environ if _is_needless(program, name)]:
        del os.environ[name]


def end_with_parent(environ: MutableMapping[str, str]) -> bool:
    """Where the command that started us holds our standard input, its death ends us too.

    Whether that is so.
    """
    tied = bool(environ.pop("NIGHTSHIFT_TIED", ""))
    if tied:
        threading.Thread(target=_wait_for_parent, daemon=True, name="parent").start()
    return tied


def _wait_for_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def fork_tied() -> int:
    """Goes on as two processes: 0 in the child, whose number is returned in the parent. The child
    has a session of its own, and ends by SIGTERM when its parent does, however that is.
    """
    ends, held = os.pipe()
    if child := os.fork():
        os.close(ends)
        return child
    os.close(held)
    os.setsid()

    def wait() -> None:
        os.read(ends, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent").start()
    return 0


def outlive(child: int) -> int:
    """Passes signals on to the child until it ends; its exit code, 0 where a signal ended it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


def for_a_server() -> dict[str, str]:
    """What a program that is not ours is started with: no secret at all."""
    return {name: os.environ[name] for name in _OF_A_SERVER if name in os.environ}


def _is_needless(program: str, name: str) -> bool:
    needless = any(each.fullmatch(name) for each in (*_NEEDLESS[program], _OF_SERVE))
    return needless or is_celerys(name)
