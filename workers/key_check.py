"""`python -m workers.key_check`: what the endpoint says to the key, in JSON for `doctor`.

A program of its own, since only workers know the SDK. Each question is asked with the key and with
one that is made up: only who refuses the second has looked at the first. It asks for the models and
for the balance, and where those leave something open, for nothing (`jobs.api_probe`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from jobs.api_probe import EMPTY, others, speaks
from jobs.errors import NightshiftError
from jobs.gateways import USD, gateway_of
from jobs.message import N_, data_of
from jobs.secret import extra_headers
from workers.calling.endpoint import Answer, Endpoint, Reply
from workers.calling.lookup import balance_in
from workers.worker_settings import api_key, endpoint_url

_PATIENCE_S = 10.0
_MADE_UP = "sk-nightshift-asks-who-looks-at-keys"
_AS_EMPTY = b'{"messages":[]}'
_FINE, _BAD_KEY, _CRASHED = 200, 401, 500
_REFUSALS = frozenset({401, 403})
_ALSO_REFUSALS = frozenset({400, 404, 500})
"""What some say to an unknown key where a known one is served."""


Ask = Callable[[Endpoint], Awaitable[Answer]]


@dataclass(frozen=True)
class _Pair:
    """The same question, answered to the key and to one that is made up."""

    mine: Answer
    other: Answer

    @property
    def accepted(self) -> bool:
        """Whether the key was looked at and found good."""
        if self.mine.status == _FINE and self.other.status in _ALSO_REFUSALS:
            return True
        return not _is_refusal(self.mine) and _is_refusal(self.other)

    @property
    def refused(self) -> int:
        """The status by which the key was refused, 0 if it was not."""
        return (self.mine.status or 0) if _is_refusal(self.mine) else 0


class _Asker:
    """One endpoint, with the key and without."""

    def __init__(self, base_url: str, key: str, headers: Mapping[str, str]) -> None:
        bare = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        self._mine, self._other = _client(base_url, key, headers), _client(base_url, _MADE_UP, bare)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._mine.close(), self._other.close())

    async def pair(self, ask: Ask) -> _Pair:
        """Both answers to a question; to what is not there nobody is asked twice."""
        mine = await ask(self._mine)
        return _Pair(mine, await ask(self._other) if mine.status == _FINE else mine)

    async def chat(self) -> _Pair:
        """Both answers to an empty chat request; not the same one, which would be a repetition."""
        mine = await self._mine.call(EMPTY)
        telling = isinstance(mine, Reply) and not _is_refusal(mine)
        return _Pair(mine, await self._other.call(_AS_EMPTY) if telling else mine)


async def look(base_url: str, key: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """What is reachable: `endpoint` and `key`, each a finding with `ok`, `text` and `cure`."""
    async with _Asker(base_url, key, headers) as asker:
        models, credits_ = await asyncio.gather(
            asker.pair(Endpoint.models), asker.pair(Endpoint.credits)
        )
        chat: _Pair | None = None
        if not _lists(models.mine) or not _tell_of_key(models, credits_):
            chat = await asker.chat()
    # Who answers nothing is asked for nothing else.
    lost = chat is not None and isinstance(chat.mine, Reply) and not _speaks(chat.mine)
    meant = await _meant(base_url, key, headers) if lost else ""
    reached = _reached(models.mine, chat.mine if chat else None, meant)
    return {
        "endpoint": {**reached, "locked": models.accepted},
        "key": _key([each for each in (chat, credits_, models) if each], base_url),
    }


def _is_refusal(answer: Answer) -> bool:
    return answer.status in _REFUSALS


def _tell_of_key(*pairs: _Pair) -> bool:
    """Whether these leave nothing open: the key was found good or bad, or a balance was told."""
    return any(
        pair.accepted or pair.mine.status == _BAD_KEY or balance_in(pair.mine) is not None
        for pair in pairs
    )


def _client(base_url: str, key: str, headers: Mapping[str, str]) -> Endpoint:
    return Endpoint(
        base_url,
        key,
        idle_timeout_s=_PATIENCE_S,
        total_timeout_s=_PATIENCE_S,
        headers=headers,
        insecure_http=True,
    )


async def _meant(base_url: str, key: str, headers: Mapping[str, str]) -> str:
    """The address at that host where an API is; "" if none is found in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            for url in others(base_url):
                client = _client(url, key, headers)
                try:
                    if _speaks(await client.call(EMPTY)):
                        return url
                finally:
                    await client.close()
    return ""


def _speaks(answer: Answer) -> bool:
    return isinstance(answer, Reply) and speaks(answer.status, answer.body)


def _lists(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.status == 200 and answer.body[:1] in (b"{", b"[")


def _reached(models: Answer, chat: Answer | None, meant: str) -> dict[str, Any]:
    answer = chat or models
    if not isinstance(answer, Reply):
        return _finding(answer.detail, ok=False)
    if meant:
        text = N_("has no chat/completions (HTTP {status})", status=answer.status)
        cure = N_("use --base-url {meant}", meant=meant)
        return _finding(text, cure, ok=False)
    if chat is not None and not _speaks(chat) and (_lists(models) or answer.status >= _CRASHED):
        # Something is there; not all bear a request without content.
        text = N_(
            "answers an empty request with HTTP {status}; whether it accepts others is not known",
            status=answer.status,
        )
        return _finding(text)
    if chat is not None and not _speaks(chat):
        text = N_(
            "has no chat/completions (HTTP {status}), and neither do nearby addresses",
            status=answer.status,
        )
        return _finding(text, ok=False)
    if not _lists(models):
        text = N_(
            "answers in {latency_s:.2f} s; lists no models, so no prices are known",
            latency_s=answer.latency_s,
        )
        return _finding(text)
    return _finding(N_("answers in {latency_s:.2f} s", latency_s=answer.latency_s))


def _key(pairs: list[_Pair], base_url: str) -> dict[str, Any]:
    """By the question that came first to tell keys apart.

    Some tell the balance and the models to other keys than those that may call.
    """
    telling = next((pair for pair in pairs if pair.accepted or pair.refused), None)
    if telling is not None and telling.refused:
        told = N_("the endpoint rejects the key (HTTP {status})", status=telling.refused)
        return _finding(told, ok=False)
    balance = next((found for pair in pairs if (found := balance_in(pair.mine)) is not None), None)
    if balance is not None:
        money = "$" if gateway_of(base_url).currency == USD else "₽"
        told = N_("accepted; balance {balance:exact} {currency}", balance=balance, currency=money)
        return _finding(told, ok=balance > 0)
    if telling is not None:
        return _finding(N_("accepted; the endpoint does not report a balance"))
    if not any(isinstance(pair.mine, Reply) for pair in pairs):
        return _finding(N_("not checked"), ok=False)
    return _finding(N_("not checked: the endpoint answers an invalid key the same way"))


def _finding(text: str, cure: str = "", *, ok: bool = True) -> dict[str, Any]:
    """As it is printed: texts in English, with what they were made of."""
    return {
        "ok": ok,
        "text": str(text),
        "text_data": data_of(text),
        "cure": str(cure),
        "cure_data": data_of(cure),
    }


def main() -> int:
    """Prints the findings; a key or an address that is missing is a finding too."""
    try:
        base_url, key = endpoint_url(os.environ), api_key(os.environ)
        found = asyncio.run(look(base_url, key, extra_headers(os.environ)))
    except NightshiftError as error:
        found = {"key": _finding(error.message, error.hint or "", ok=False)}
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
