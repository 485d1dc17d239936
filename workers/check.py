"""`python -m workers.check`: what the endpoint says to the key, as JSON for `nightshift doctor`.

A program of its own, since only workers know the key and the SDK.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from jobs.errors import NightshiftError
from jobs.money import plain
from workers.calling.endpoint import Answer, Endpoint, Reply
from workers.calling.lookup import balance_in
from workers.settings import api_key, endpoint_url

_PATIENCE_S = 10.0


async def look(base_url: str, key: str) -> dict[str, Any]:
    """What is reachable: `models`, `key` and `balance`, each a finding with `ok` and `text`."""
    endpoint = Endpoint(base_url, key, idle_timeout_s=_PATIENCE_S, total_timeout_s=_PATIENCE_S)
    try:
        models, credits_ = await asyncio.gather(endpoint.models(), endpoint.credits())
    finally:
        await endpoint.close()
    return {"endpoint": _reached(models), "key": _key(credits_)}


def _reached(answer: Answer) -> dict[str, Any]:
    if not isinstance(answer, Reply):
        return {"ok": False, "text": answer.detail}
    if answer.status != 200 or not answer.body.startswith(b"{"):
        return {"ok": False, "text": f"no catalogue there (HTTP {answer.status})"}
    return {"ok": True, "text": f"answers in {answer.latency_s:.2f} s"}


def _key(answer: Answer) -> dict[str, Any]:
    if not isinstance(answer, Reply):
        return {"ok": False, "text": answer.detail}
    if answer.status in {401, 403}:
        return {"ok": False, "text": f"the endpoint refuses the key (HTTP {answer.status})"}
    balance = balance_in(answer)
    if balance is None:
        return {"ok": True, "text": "accepted; the endpoint tells no balance"}
    return {"ok": balance > 0, "text": f"accepted; balance {plain(balance)} ₽"}


def main() -> int:
    """Prints the findings; a key or an address that is missing is a finding too."""
    try:
        base_url, key = endpoint_url(os.environ), api_key(os.environ)
        found = asyncio.run(look(base_url, key))
    except NightshiftError as error:
        found = {"key": {"ok": False, "text": f"{error.message}; {error.hint}"}}
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
