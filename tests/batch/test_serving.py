"""The processes beside the Batch API: started again, unless that is of no use."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import cast

import pytest
from starlette.responses import PlainTextResponse

from batch.api import protocol
from batch.serving import Child, Listening, Team, _server, serve
from jobs.errors import ServiceUnavailable


def _ended(child: Child) -> None:
    deadline = time.monotonic() + 30
    while child.alive:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_child_that_is_killed_is_started_again_however_often() -> None:
    child = Child("coordinator", ["/bin/sh", "-c", "kill -9 $$"], {})
    for _ in range(20):
        child.tend()
        _ended(child)


def test_a_child_that_ends_by_itself_again_and_again_ends_the_server() -> None:
    child = Child("coordinator", ["/bin/sh", "-c", "exit 3"], {})

    def again() -> None:
        for _ in range(20):
            child.tend()
            _ended(child)

    with pytest.raises(ServiceUnavailable, match="keeps exiting"):
        again()


from batch.api import protocol
from batch.serving import Child, Listening, Team, _server, serve
