"""An endpoint that is not the simulator: it answers by a function, and keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback import Quiet, serving


@dataclass
class Asked:
    """A request that came; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body or b"null")


_FREE = (b"", b"{}", b'{"messages":[]}')
"""Bodies by which an address and a key are tried, for nothing."""

Answer = tuple[int, Any]
"""A status, and what is sent as JSON; text goes as HTML."""


@dataclass
class Foreign:
    """The endpoint; `answer` tells what to say, `asked` is what came."""

    answer: Callable[[Asked], Answer]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def root(self) -> str:
        """Where the machine is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def chats(self) -> list[Asked]:
        """The calls that could cost something."""
        return [one for one in self.asked if one.method == "POST" and one.body not in _FREE]


def completion(**more: Any) -> dict[str, Any]:
    """An answer that tells no cost."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "да"},
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage, **more}


@contextmanager
def foreign(answer: Callable[[Asked], Answer]) -> Iterator[Foreign]:
    """Serves on loopback."""
    one = Foreign(answer)

    class Handler(Quiet):
        def answer(self) -> None:
            names = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, names, self.body)
            one.asked.append(asked)
            status, told = one.answer(asked)
            html = isinstance(told, str)
            data = told.encode() if html else json.dumps(told).encode()
            kind = "text/html" if html else "application/json"
            self.reply(status, data, {"Content-Type": kind})

    with serving(Handler) as one.port:
        yield one
