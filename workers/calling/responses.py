"""Requests for `/responses`, by chat where an endpoint has nothing else (`jobs.responses_as_chat`).

That there is no such path, where chat then answers, settles it for all calls of this process:
unless it has answered there before, for then it is but away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from jobs.request_kinds import CHAT, RESPONSES
from jobs.responses_as_chat import Untranslatable, to_chat
from workers.calling.classifier import lacks_path
from workers.calling.endpoint import Answer, Reply

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


class Responses:
    """Asks an endpoint for responses; `call` is its method of that name."""

    def __init__(self, call: Callable[..., Awaitable[Answer]]) -> None:
        self._call = call
        self._lacking = self._has = False

    async def call(self, body: bytes, by: str, **how: Any) -> Answer:
        """One request; `by` chat, native, or auto: natively as long as the endpoint knows how."""
        if by == "chat" or (by == "auto" and self._lacking):
            return await self._by_chat(body, how)
        answer = await self._call(body, kind=RESPONSES.url, **how)
        self._has |= _succeeded(answer)
        if by != "auto" or self._has or not lacks_path(answer):
            return answer
        instead = await self._by_chat(body, how)
        self._lacking |= _succeeded(instead)
        return instead

    async def _by_chat(self, body: bytes, how: dict[str, Any]) -> Answer:
        try:
            chat = to_chat(_decode(body))
        except Untranslatable as error:
            return _refusal(error.what)
        return await self._call(_encode(chat), kind=CHAT.url, **how)


def _succeeded(answer: Answer) -> bool:
    return isinstance(answer, Reply) and 200 <= answer.status < 300


def _refusal(what: str) -> Answer:
    """Nothing is sent: as an endpoint refuses what it does not take."""
    told = f"the endpoint has no /responses, and chat has no counterpart of {what}"
    error = {"message": told, "type": "invalid_request_error", "param": what, "code": None}
    return Reply(400, {}, _encode({"error": error}), 0.0)
