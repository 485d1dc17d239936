"""The endpoint's client, and the only importer of the openai SDK.

One call is one request on the wire: no retries here, since only the runner knows what a repetition
may cost. The SDK gives address, authorization and name; its `create` would cost fourteen times
the CPU of the bare road and turn money into floats, so ready bytes go out and raw bytes come back.

    call ── idle timeout ─── restarted by every byte, also by the keep-alive spaces before a body
         └─ total deadline ─ never
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import cast
from urllib.parse import quote

import httpx2
import msgspec

from jobs.address import check_base_url, join
from jobs.redaction import Redactor
from jobs.request_kinds import CHAT, KINDS
from workers.calling.sdk_import import AsyncOpenAI
from workers.calling.transport import (
    Body,
    BrokenKind,
    HttpClient,
    Transport,
    diagnose,
    read_body,
    within,
)

__all__ = ["Answer", "Broken", "BrokenKind", "Endpoint", "Reply"]

MEBIBYTE = 2**20
_KEPT = frozenset(
    {
        b"content-encoding",
        b"content-type",
        b"date",
        b"location",
        b"retry-after",
        b"retry-after-ms",
        b"x-generation-id",
        b"x-litellm-response-cost",
        b"x-request-id",
        b"x-should-retry",
    }
)
_KEPT_PREFIX = b"x-ratelimit-"
_LONGEST_HEADER = 1024
_ANSWER_ID = re.compile(rb'"id"\s*:\s*"(gen-[\w-]{1,120})"')


class Reply(msgspec.Struct, frozen=True, array_like=True, tag="reply"):
    """A whole answer, whatever its status.

    `headers` are the few that are used, names in lower case, values in ASCII. `body` is as it came
    but for the white space in front. `latency_s` is from the call to the last byte.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    latency_s: float

    @property
    def generation_id(self) -> str:
        """What `generation` looks the call up by; empty if neither header nor body has it."""
        found = self.headers.get("x-generation-id", "")
        if not found and (match := _ANSWER_ID.search(self.body, 0, 512)):
            found = match[1].decode()
        return found


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """No whole answer. `status` and `headers` are there if headers came before it broke.

    `detail` names the fault for a person; it holds neither key nor prompt.
    """

    kind: BrokenKind
    detail: str
    latency_s: float
    status: int | None = None
    headers: dict[str, str] = {}

    @property
    def generation_id(self) -> str:
        """What `generation` looks the call up by; empty if no header came."""
        return self.headers.get("x-generation-id", "")


Answer = Reply | Broken
Listener = Callable[[dict[str, str]], None]
"""Is told the headers of an answer, as `Reply` has them."""


class _Sdk(AsyncOpenAI):
    """The official client with a short way for requests that are bytes already."""

    def __init__(
        self, base_url: str, api_key: str, http_client: HttpClient, more: Mapping[str, str]
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0)
        self._address, self._more = base_url, more

    @property
    def user_agent(self) -> str:
        """Who calls: this program, by that SDK."""
        return f"Nightshift AsyncOpenAI/Python {self._version}"

    def mould(self, method: str, path: str) -> httpx2.Request:
        """A request without a body, from which the calls are cast."""
        headers = {
            "Accept": "application/json",
            # A compressed answer saves little and could unpack to anything.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": self.user_agent,
            **self.auth_headers,
        }
        for name, value in self._more.items():
            headers = {each: old for each, old in headers.items() if each.lower() != name.lower()}
            headers |= {name: value} if value else {}
        # Given as a stream, httpx adds no headers of its own, such as a length of 0.
        nothing = httpx2.ByteStream(b"")
        return httpx2.Request(method, join(self._address, path), headers=headers, stream=nothing)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The response as soon as its headers are there."""
        return await self._send_request(request, stream=True)


class Endpoint:
    """One endpoint with one key; `max_connections` calls can be in flight at once.

    Belongs to the event loop of its first call. Answers of more than `max_answer_bytes`, unpacked,
    are cut. `headers` go with every call, in place of those of the same name; an empty one leaves
    that out. The key, and `secrets` among the headers, are taken out of all that comes back. Raises
    `ValueError` for an address that is not https (http is allowed to this machine, and with
    `insecure_http` to private addresses).
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        idle_timeout_s: float = 60.0,
        total_timeout_s: float = 900.0,
        connect_timeout_s: float = 30.0,
        max_answer_bytes: int = 16 * MEBIBYTE,
        max_connections: int = 256,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] = {},
        secrets: Iterable[str] = (),
        insecure_http: bool = False,
    ) -> None:
        self.base_url = check_base_url(base_url, insecure=insecure_http)
        self._idle = idle_timeout_s
        self._total = total_timeout_s
        self._connect = connect_timeout_s
        self._most = max_answer_bytes
        self._redactor = Redactor(api_key, *secrets)
        transport = Transport(
            max_connections=max_connections, tls=tls or ssl.create_default_context()
        )
        self._sdk = _Sdk(self.base_url, api_key, HttpClient(transport), headers)
        self._moulds = {url: self._sdk.mould("POST", kind.path) for url, kind in KINDS.items()}

    async def call(
        self,
        body: bytes,
        *,
        kind: str = CHAT.url,
        idle_timeout_s: float | None = None,
        total_timeout_s: float | None = None,
        on_headers: Listener | None = None,
    ) -> Answer:
        """One request. Raises nothing but `CancelledError`, which drops the connection.

        `on_headers` is told the headers that are used as soon as they are there: the generation id
        is known long before the body is, and whether or not it ever comes. Not so where the whole
        answer came with them.
        """
        return await self._exchange(
            self._moulds[kind],
            body,
            idle_timeout_s or self._idle,
            total_timeout_s or self._total,
            on_headers,
        )

    async def generation(self, generation_id: str) -> Answer:
        """What is known of an earlier call: `data.total_cost` in ₽; may lag behind the call."""
        return await self._get(f"generation?id={quote(generation_id, safe='')}")

    async def credits(self) -> Answer:
        """The balance: `data.credits` in ₽."""
        return await self._get("credits")

    async def models(self) -> Answer:
        """The catalogue with its prices."""
        return await self._get("models")

    async def close(self) -> None:
        """Drops all connections; calls still in flight end as broken."""
        await self._sdk.close()

    async def _get(self, path: str) -> Answer:
        return await self._exchange(self._sdk.mould("GET", path), b"", self._idle, self._total)

    async def _exchange(
        self,
        mould: httpx2.Request,
        body: bytes,
        idle: float,
        total: float,
        on_headers: Listener | None = None,
    ) -> Answer:
        started = monotonic()
        status: int | None = None
        headers: dict[str, str] = {}
        try:
            async with within(total):
                response = await self._sdk.send(_fill(mould, body, self._connect, idle))
                status = response.status_code
                headers = self._redactor.headers(used(response.headers.raw))
                content = await self._read(response, headers, on_headers)
        except Exception as error:  # the rim: whatever it is, it gets a meaning
            kind, detail = diagnose(error)
            return Broken(kind, detail, monotonic() - started, status, headers)
        clean = self._redactor.body(content, answered=200 <= status < 300)
        return Reply(status, headers, clean, monotonic() - started)

    async def _read(
        self, response: httpx2.Response, headers: dict[str, str], on_headers: Listener | None
    ) -> bytes:
        """The body. Whatever goes wrong, the connection is dropped."""
        try:
            if on_headers is not None and not cast("Body", response.stream).is_whole:
                on_headers(headers)
            return await read_body(response, headers.get("content-encoding", ""), self._most)
        finally:
            await cast("httpx2.AsyncByteStream", response.stream).aclose()


def _fill(mould: httpx2.Request, body: bytes, connect: float, idle: float) -> httpx2.Request:
    return httpx2.Request(
        mould.method,
        mould.url,
        headers=mould.headers,
        stream=httpx2.ByteStream(body),
        extensions={"timeout": {"connect": connect, "read": idle}},
    )


def used(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that somebody here reads; values that are not short ASCII are as good as none."""
    kept = {}
    for name, value in raw:
        lower = name.lower()
        wanted = lower in _KEPT or lower.startswith(_KEPT_PREFIX)
        if wanted and value.isascii() and len(value) <= _LONGEST_HEADER:
            kept[lower.decode("latin-1")] = value.decode()
    return kept
