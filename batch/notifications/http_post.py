"""What all channels share: how long a delivery may take, their secrets, and a POST.

Each raises `Undelivered` with a sentence that may be shown: no address, no secret, no answer in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from jobs.errors import UsageError
from jobs.message import N_
from jobs.secret import secret as own_secret

PATIENCE_S = 10.0
"""Of a whole delivery by HTTP, and of each step of one by mail."""

HERE = frozenset({"127.0.0.1", "localhost", "::1"})

_FINE, _ELSEWHERE = 200, 300


class Undelivered(Exception):
    """A word did not arrive; the text says why, and may be shown."""


def secret(environ: Mapping[str, str], variable: str) -> str:
    """A secret from its variable, or from the file that `<variable>_FILE` names; "" if unset."""
    try:
        return own_secret(environ, variable)
    except UsageError as error:
        raise Undelivered(error.message) from None


def post(url: str, body: bytes, headers: dict[str, str], whom: str) -> None:
    """Sends it to `whom`; anything but a success is `Undelivered`."""
    import asyncio

    import httpx2

    every = {"Content-Type": "application/json", "User-Agent": "nightshift", **headers}
    try:
        status = asyncio.run(_status(url, body, every))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        # ValueError also for what no header or address may hold.
        raise Undelivered(
            N_("{whom} does not answer ({kind})", whom=whom, kind=type(error).__name__)
        ) from None
    if not _FINE <= status < _ELSEWHERE:
        raise Undelivered(N_("{whom} answers HTTP {status}", whom=whom, status=status))


async def _status(url: str, body: bytes, headers: dict[str, str]) -> int:
    """What a POST is answered with. No redirect is followed: the signed word is for this address.

    The time is for all of it, however steadily a head drips; the body is not read.
    """
    import asyncio

    import httpx2

    here = urlsplit(url).hostname in HERE
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx2.AsyncClient(trust_env=not here, follow_redirects=False, timeout=None) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code
