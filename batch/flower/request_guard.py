"""What stands before every page: bounds of a request, a brake on guessing, and safe headers."""

from __future__ import annotations

import logging
import math
import resource
from collections import Counter
from typing import Any

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import OutputTransform

from jobs.message import N_

log = logging.getLogger("nightshift.flower")

LIMITS: dict[str, int] = {
    # A click is the largest that is ever sent. Counted before anybody is asked for a password.
    "max_body_size": 64 * 1024,
    "max_header_size": 32 * 1024,
    "max_buffer_size": 256 * 1024,
    "body_timeout": 10,
    "idle_connection_timeout": 120,
}
"""Of Tornado's server: bytes, and seconds."""

_MOST_STRANGERS = 256

_LONGEST_WAIT_S = 5.0
_MOST_GUESSERS = 10_000
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""For Flower's own pages, which have scripts within; ours have a stricter one."""

_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guesses:
    """Counts wrong passwords by address. The right one is never held up."""

    def __init__(self) -> None:
        self._wrong: Counter[str] = Counter()

    def wrong(self, address: str) -> float:
        """One more; returns the seconds by which its refusal is held back. Few are logged."""
        if len(self._wrong) >= _MOST_GUESSERS:
            self._wrong.clear()
        self._wrong[address] += 1
        count = self._wrong[address]
        if math.log2(count).is_integer():
            log.warning(N_("wrong passwords from {address}: {count}", count=count, address=address))
        return float(min(0.05 * 1.5 ** min(count, 20), _LONGEST_WAIT_S))


def most_strangers() -> int:
    """Connections on which nobody has shown the password: a quarter of all descriptors at most."""
    return min(_MOST_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class Doorstep(HTTPServer):
    """Keeps places for who has the password: of all others, the first to come gives way.

    Else half a request on each of a thousand connections leaves no descriptor for anybody, and
    Tornado logs that without end.
    """

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """As `HTTPServer`."""
        super().initialize(*args, **kwargs)
        self._strangers: dict[IOStream, None] = {}
        self._most = most_strangers()

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Somebody comes."""
        if len(self._strangers) >= self._most:
            self._make_room()
        self._strangers[stream] = None
        super().handle_stream(stream, address)

    def admit(self, stream: IOStream) -> None:
        """The password came on it."""
        self._strangers.pop(stream, None)

    def _make_room(self) -> None:
        self._strangers = {each: None for each in self._strangers if not each.closed()}
        if len(self._strangers) >= self._most:
            first = next(iter(self._strangers))
            self.admit(first)
            first.close()


class SafeHeaders(OutputTransform):
    """Adds to each answer the headers that its handler did not set."""

    def transform_first_chunk(
        self,
        status_code: int,
        headers: httputil.HTTPHeaders,
        chunk: bytes,
        finishing: bool,  # noqa: ARG002, FBT001  Tornado's
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        """The same answer."""
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers.pop("Server", None)
        return status_code, headers, chunk
