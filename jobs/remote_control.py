"""Celery's remote control, signed: anybody who can write to Redis could stop workers by it."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from jobs.constraints import Seconds
from jobs.errors import BadMessage
from jobs.message import N_
from jobs.signing import Seal

LOOKS = frozenset(
    {"ping", "stats", "active_queues", "registered", "active", "query_task", "revoked", "conf"}
)
"""What only asks; Flower shows it."""

FRESH_S = 60.0


class _Order(msgspec.Struct, frozen=True):
    """`to`: names of workers, None for all. `at`: Unix seconds."""

    arguments: dict[str, Any]
    to: list[str] | None
    at: Seconds
    token: str


def _place(command: str) -> str:
    return f"nightshift.control:{command}"


def signed(
    seal: Seal, command: str, arguments: dict[str, Any], to: list[str] | None
) -> dict[str, Any]:
    """The arguments as a worker believes them."""
    order = _Order(arguments, to, time.time(), secrets.token_hex(8))
    return {"signed": seal.sign(_place(command), msgspec.json.encode(order)).hex()}


class Listener:
    """A worker's ear: what is not signed, not for it, or was heard before is `BadMessage`."""

    def __init__(self, seal: Seal, node: str) -> None:
        self._seal = seal
        self._node = node
        self._heard: dict[str, float] = {}

    def arguments(self, command: str, told: dict[str, Any]) -> dict[str, Any]:
        """What the command is really to do."""
        try:
            data = self._seal.verify(_place(command), bytes.fromhex(told.get("signed", "")))
            order = msgspec.json.decode(data, type=_Order)
        except (ValueError, TypeError) as error:
            raise BadMessage(N_("that command is not signed with our secret")) from error
        now = time.time()
        self._heard = {each: at for each, at in self._heard.items() if now - at < 2 * FRESH_S}
        if abs(now - order.at) > FRESH_S or order.token in self._heard:
            raise BadMessage(N_("that command is of another time"))
        if order.to is not None and self._node not in order.to:
            raise BadMessage(N_("that command is for another worker"))
        self._heard[order.token] = now
        return order.arguments
