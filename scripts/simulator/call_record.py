"""One call from its first byte to its line in the book."""

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiohttp import web

from .body import Chat
from .call_cost import Tokens
from .refusals import RefusedError


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model made for a call, and its cost in roubles."""

    model: str
    provider: str
    finish_reason: str
    tokens: Tokens
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Place:
    """A place among the calls in flight: key and model, and what was reserved for the call."""

    lane: tuple[str, str]
    bound: Decimal


@dataclass(slots=True)
class Call:
    """A call under way. `nth` counts those on its path, `attempt` those with the same body."""

    number: int
    route: str
    nth: int
    attempt: int
    request: web.Request
    raw: bytes
    digest: bytes
    key: str | None
    id: str
    chat: Chat | RefusedError | None = None
    model: str | None = None
    messages_hash: str | None = None
    fault: str | None = None
    place: Place | None = None
    generation: Generation | None = None
    billed: Decimal = Decimal(0)
    status: int | None = None
    delivery: str = "none"
    sent_bytes: int = 0
    _sent: Any = field(default_factory=hashlib.sha256)

    def note_sent(self, data: bytes) -> None:
        """These bytes of the body went out."""
        self._sent.update(data)
        self.sent_bytes += len(data)

    def received(self) -> dict[str, Any]:
        """The first record in the book."""
        return {
            "id": self.id,
            "method": self.request.method,
            "path": self.request.path,
            "key": self.key,
            "body": self.digest.hex(),
            "messages": self.messages_hash,
            "model": self.model,
        }

    def finished(self) -> dict[str, Any]:
        """The last record in the book."""
        record: dict[str, Any] = {
            "id": self.id,
            "key": self.key,
            "status": self.status,
            "sent": self._sent.hexdigest() if self.sent_bytes else None,
            "sent_bytes": self.sent_bytes,
            "delivery": self.delivery,
            "billed": format(self.billed, "f"),
            "admitted": self.place is not None,
            "generated": self.generation is not None,
            "fault": self.fault,
        }
        return record | (_told(self.generation) if self.generation else {})


def _told(generation: Generation) -> dict[str, Any]:
    tokens = generation.tokens
    return {
        "model": generation.model,
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "cached_tokens": tokens.cached,
        "reasoning_tokens": tokens.reasoning,
        "provider": generation.provider,
        "finish_reason": generation.finish_reason,
    }
