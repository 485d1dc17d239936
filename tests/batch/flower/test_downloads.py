"""A download that breaks off: who gets less than announced knows it, and the log is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from batch.flower.page_handlers import FilePage
from batch.flower.status_reader import FileGone
from batch.reports.output_files import Piece
from jobs.errors import ServiceUnavailable
from jobs.message import N_


@pytest.mark.parametrize("error", [FileGone(), ServiceUnavailable(N_("Redis does not answer"))])
def test_a_download_that_breaks_off_is_cut_and_is_no_trouble(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def pieces() -> AsyncIterator[Piece]:
        yield Piece(6, "mark", b"def")
        raise error

    class Page(RequestHandler):
        async def get(self) -> None:
            self.set_header("Content-Length", 9)
            page: Any = self
            await FilePage._send(page, Piece(9, "mark", b"abc"), pieces())

    async def got() -> bytes:
        socket, port = bind_unused_port()
        server = HTTPServer(Application([("/", Page)]))
        server.add_socket(socket)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        came = await reader.read()
        writer.close()
        server.stop()
        return came.partition(b"\r\n\r\n")[2]

    assert asyncio.run(got()) == b"abcdef"
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []
