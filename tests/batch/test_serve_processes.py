"""The processes beside the Batch API: started again, unless that is of no use."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from typing import cast

import pytest
from starlette.responses import PlainTextResponse

from batch.api import protocol
from batch.serve_processes import Child, Listening, Team, _server, serve
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


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server that answers `ok`, and lets nobody take longer than 0.3 s over a head."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    with serving() as found:
        yield found


@contextmanager
def serving(answer: str = "ok") -> Iterator[tuple[str, int]]:
    server = _server(PlainTextResponse(answer), Listening("127.0.0.1", 0, None, None))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield bound.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def test_a_client_that_drips_its_head_is_cut_off(address: tuple[str, int]) -> None:
    for head in (b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: "):
        with socket.create_connection(address) as client:
            client.settimeout(30)
            for byte in head:
                client.send(bytes([byte]))
            assert client.recv(100) == b""


def test_who_asks_and_rests_and_asks_again_is_heard(address: tuple[str, int]) -> None:
    with closing(HTTPConnection(*address, timeout=30)) as client:
        client.connect()
        first = client.sock
        for _ in range(2):
            client.request("GET", "/")
            assert client.getresponse().read() == b"ok"
            time.sleep(0.5)
        assert client.sock is first


def test_half_heads_of_strangers_take_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "most_at_once", lambda: 8)
    with serving() as address, ExitStack() as stack:
        strangers = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        for each in strangers:
            each.sendall(b"GET / HTTP/1.1\r\nX: ")
        with closing(HTTPConnection(*address, timeout=30)) as client:
            client.request("GET", "/")
            assert client.getresponse().read() == b"ok"
        strangers[0].settimeout(10)
        with suppress(ConnectionResetError):
            assert strangers[0].recv(100) == b""


def test_who_still_reads_an_answer_makes_room_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "most_at_once", lambda: 8)
    size = 20_000_000
    with serving("x" * size) as address, ExitStack() as stack:
        client = stack.enter_context(closing(HTTPConnection(*address, timeout=30)))
        client.request("GET", "/")
        told = client.getresponse()
        others = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(20)]
        # The first of them had to go: by then all were there.
        with suppress(ConnectionResetError):
            assert others[0].recv(100) == b""
        assert len(told.read()) == size


def test_a_signal_that_comes_while_the_api_is_loaded_ends_it() -> None:
    class Idle:
        failure = None

        def start(self, _failed: Callable[[], None]) -> None:
            """Starts nothing."""

        def end(self, interrupted: Callable[[], int]) -> None:
            assert interrupted() == 1

        wake = start

    def make(*_: object) -> PlainTextResponse:
        os.kill(os.getpid(), signal.SIGTERM)
        return PlainTextResponse("ok")

    serve(Listening("127.0.0.1", 0, None, None), make, cast(Team, Idle()))
