"""A line between Redis and its clients that can be made slow, deaf or forgetful.

It lives in a thread of its own. Clients reach it at `port` of loopback.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

_AT_ONCE = 2**16

T = TypeVar("T")


class _Line:
    """One client's connection, both ways."""

    def __init__(self) -> None:
        self.is_dead = False
        self.loses_reply = False
        self.writers: list[asyncio.StreamWriter] = []

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Relay:
    """Use as a context manager.

    `delay_s` is how long what a client sends is on its way. While `deaf`, what either side says is
    lost, and who was connected then never hears anything again, as behind a firewall that forgot
    its connections. `hear` is shown what clients send, and says whether the reply to it gets lost
    together with the connection.
    """

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        self.deaf = False
        self.hear: Callable[[bytes], bool] = lambda _: False
        self.lost_replies = 0
        self._to_port = to_port
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._meet, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset_all(self) -> int:
        """Breaks every connection; how many there were."""
        return self._wait(self._reset_all())

    # ---- in the thread -----------------------------------------------------------------------

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        await self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset_all(self) -> int:
        lines = list(self._lines)
        for line in lines:
            line.reset()
        return len(lines)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line()
        line.writers.append(writer)
        self._lines.add(line)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
                line.writers.append(back)
                await asyncio.gather(
                    self._carry(line, reader, back, asks=True),
                    self._carry(line, there, writer, asks=False),
                )
        finally:
            line.reset()
            self._lines.discard(line)
            if task is not None:
                self._tasks.discard(task)

    async def _carry(
        self, line: _Line, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        try:
            while data := await source.read(_AT_ONCE):
                line.is_dead |= self.deaf
                if line.is_dead:
                    continue
                if asks:
                    line.loses_reply |= self.hear(data)
                    await asyncio.sleep(self.delay_s)
                elif line.loses_reply:
                    self.lost_replies += 1
                    return
                to.write(data)
                await to.drain()
        except OSError:
            return
        finally:
            line.reset()
