"""Questions to the endpoint that cost nothing, asked with the key: bounded in bytes and in time.

secrets    those that were sent are taken out of what comes back
document   at most `LARGEST` bytes as they come, never unpacked; `TOTAL_S` from the first byte
           that is sent on, however steadily a head or a body drips
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from batch.credentials import Pass, pass_for
from jobs.address import join
from jobs.api_probe import EMPTY, others, speaks
from jobs.errors import ServiceUnavailable, UsageError
from jobs.message import N_
from jobs.redaction import Redactor
from jobs.request_kinds import RESPONSES

if TYPE_CHECKING:
    import httpx2

LARGEST = 32 * 2**20
"""Bytes that one document may have."""

IDLE_S = 10.0
"""Longest silence, in seconds: to a connection, and from one piece of a document to the next."""

TOTAL_S = 60.0
"""Longest time for one document, in seconds, however steadily it drips."""

HINT = N_("check the network and the address (--base-url, NIGHTSHIFT_BASE_URL), then try again")

_FINE, _TROUBLE = 200, 429
"""From the second on it may pass."""

_MISSING = frozenset({404, 405, 501})
_CHAT = "chat/completions"
_T = TypeVar("_T")


class Page(NamedTuple):
    """An answer: its HTTP status, and its body."""

    status: int
    body: bytes


Ask = Callable[[str, bytes], Awaitable[Page]]
"""Asks an address: GET without a body, else POST."""


def asking(base_url: str, questions: Callable[[Ask], Awaitable[_T]]) -> _T:
    """Runs questions to one endpoint, over one connection. `ServiceUnavailable` for every fault of
    the road.
    """
    import asyncio

    return asyncio.run(_asked(questions, pass_for(base_url, os.environ)))


async def _asked(questions: Callable[[Ask], Awaitable[_T]], opens: Pass) -> _T:
    redactor = Redactor(opens.key, *opens.secrets)
    async with _client(opens) as client:
        return await questions(lambda url, body: _ask(client, url, body, redactor))


@asynccontextmanager
async def _client(opens: Pass) -> AsyncIterator[httpx2.AsyncClient]:
    import httpx2

    async with httpx2.AsyncClient(
        # The machine's own certificates, as the workers trust them.
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=IDLE_S,
        headers=_headers(opens),
    ) as client:
        yield client


def _headers(opens: Pass) -> dict[str, str]:
    """As a worker's; some gateways want a content type even where there is no content."""
    found = {
        "Accept": "application/json",
        # A compressed document could unpack to anything.
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "Nightshift",
    }
    if opens.key.isascii() and opens.key.isprintable() and opens.key:
        found["Authorization"] = f"Bearer {opens.key}"
    for name, value in opens.headers.items():
        found = {each: old for each, old in found.items() if each.lower() != name.lower()}
        found |= {name: value} if value else {}
    return found


async def _ask(client: httpx2.AsyncClient, url: str, body: bytes, redactor: Redactor) -> Page:
    import asyncio

    import httpx2

    try:
        async with (
            asyncio.timeout(TOTAL_S),
            client.stream("POST" if body else "GET", url, content=body or None) as response,
        ):
            answered = response.status_code == _FINE
            found = redactor.body(await _body(response, url, redactor), answered=answered)
            return Page(response.status_code, found)
    except TimeoutError:
        raise ServiceUnavailable(
            N_("{url} takes longer than {total_s:g} s", url=url, total_s=TOTAL_S), hint=HINT
        ) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ServiceUnavailable(
            N_(
                "{url} cannot be read: {kind}: {why}",
                url=url,
                kind=type(error).__name__,
                # Of a malformed head it quotes a line, in which the key may stand.
                why=redactor.text(str(error)),
            ),
            hint=HINT,
        ) from error


async def _body(response: httpx2.Response, url: str, redactor: Redactor) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ServiceUnavailable(
            N_(
                "{url} sends a compressed response that was not requested ({encoding!r})",
                url=url,
                encoding=redactor.text(encoding)[:40],
            ),
            hint=HINT,
        )
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LARGEST:
            raise ServiceUnavailable(
                N_("{url} sends more than {largest} bytes", url=url, largest=LARGEST), hint=HINT
            )
    return bytes(body)


# ── Is it there at all? ──────────────────────────────────────────────────────────────────────────


def check_reach(base_url: str) -> None:
    """`UsageError` with the right address where another one at that host is the API's.

    For an endpoint that lists no models: one with a list was found by it. Where nothing answers as
    an API does, nothing is raised: it may be a moment, and the first call tells.
    """
    with suppress(ServiceUnavailable):
        asking(base_url, lambda ask: _check(ask, base_url))


def lacks_responses(base_url: str) -> bool:
    """Whether an endpoint surely has no `/responses`; it may be a moment in which nobody knows."""
    with suppress(ServiceUnavailable):
        page = asking(base_url, lambda ask: ask(join(base_url, RESPONSES.path), EMPTY))
        return page.status in _MISSING and not speaks(*page)
    return False


async def _check(ask: Ask, base_url: str) -> None:
    page = await _chat(ask, base_url)
    if page.status >= _TROUBLE or speaks(*page):
        return
    for other in others(base_url):
        if speaks(*await _chat(ask, other)):
            raise UsageError(
                N_(
                    "{url} does not exist (HTTP {status})",
                    url=join(base_url, _CHAT),
                    status=page.status,
                ),
                hint=N_("the API is at another address: --base-url {other}", other=other),
            )


async def _chat(ask: Ask, base_url: str) -> Page:
    return await ask(join(base_url, _CHAT), EMPTY)
