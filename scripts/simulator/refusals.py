"""Answers that are no answer: the endpoint's error bodies, in every form they come in.

A refusal has a status and a meaning, since one status may mean several things: 402 is an empty
balance or a burst against the in-flight budget, 429 a rate limit or the key's monthly limit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from .exact_json import dumps

JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers and body bytes, still to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


class RefusedError(Exception):
    """The call ends with this reply instead of an answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a refusal says: its text, and what stands under `metadata`."""

    text: str
    metadata: Mapping[str, object] = field(default_factory=dict)


# Per status, the first meaning is the usual one.
MEANINGS: dict[int, dict[str, Meaning]] = {
    400: {
        "params": Meaning("Bad request parameters"),
        "model": Meaning("The model is not a valid model ID"),
        "context": Meaning("The prompt exceeds the maximum context length of this model"),
    },
    401: {"key": Meaning("Invalid API key")},
    402: {
        "balance": Meaning("Insufficient balance: please top up your account, 0.00 ₽ left"),
        "in_flight": Meaning(
            "The budget for requests in flight is used up, retry when some have finished",
            {"reason": "in_flight_budget_exhausted"},
        ),
    },
    403: {
        "moderation": Meaning(
            "The input was flagged by moderation",
            {"reasons": ["violence"], "flagged_input": "…", "provider_name": "Minimax"},
        ),
        "role": Meaning("Your role does not allow this operation"),
        "key_limit": Meaning("Key limit exceeded: the total spend limit of this key is reached"),
    },
    404: {
        "model": Meaning("Model not found"),
        "endpoint": Meaning("No endpoints found that match the provider preferences"),
    },
    408: {"timeout": Meaning("Request timed out")},
    409: {"conflict": Meaning("Conflict")},
    413: {"size": Meaning("Request entity too large")},
    422: {"form": Meaning("Unprocessable entity")},
    429: {
        "rate": Meaning("Rate limit exceeded, slow down"),
        "upstream": Meaning(
            "The provider is rate-limited upstream, retry shortly",
            {"provider_name": "Minimax", "raw": "too many requests"},
        ),
        "spend_limit": Meaning("Monthly spend limit of the key reached: 2054.78 of 2000 ₽"),
    },
    500: {"broken": Meaning("Internal server error")},
    502: {"provider": Meaning("The provider returned an invalid response")},
    503: {"nobody": Meaning("No provider is available")},
    504: {"slow": Meaning("Gateway timeout")},
    524: {"slow": Meaning("The provider did not answer in time")},
    529: {"overload": Meaning("The provider is overloaded")},
}

FORMS = ("object", "string", "json", "nested", "text")


def error_object(
    code: int,
    meaning: str | None = None,
    *,
    text: str | None = None,
    retry_after: str | None = None,
) -> dict[str, object]:
    """``{"message", "code"[, "metadata"]}`` as it stands under ``error``."""
    said = _meaning(code, meaning)
    metadata = dict(said.metadata)
    if retry_after is not None:
        metadata["headers"] = {"Retry-After": retry_after}
    error: dict[str, object] = {"message": said.text if text is None else text, "code": code}
    return error | ({"metadata": metadata} if metadata else {})


def refusal(
    status: int,
    meaning: str | None = None,
    *,
    text: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A plain refusal: the status says what it is, the body is ``{"error": {…}}``."""
    return Reply(status, dumps({"error": error_object(status, meaning, text=text)}), headers or {})


def wrapped(error: dict[str, object], status: int, form: str, headers: Mapping[str, str]) -> Reply:
    """An error of one code under another status, usually 200 or 503.

    `form` is where the error is hidden: ``object`` as usual; ``string`` as text led by
    ``HTTP nnn:``; ``json`` as JSON inside a string; ``nested`` as JSON inside a string inside JSON
    inside a string; ``text`` as words alone.
    """
    return Reply(status, dumps({"error": _hidden(error, form)}), headers)


def retry_after_header(wish: str | None, now: datetime) -> dict[str, str]:
    """The header for a wish: ``date:7`` is an HTTP date in 7 s, all else is sent as it is."""
    if wish is None:
        return {}
    if wish.startswith("date:"):
        wish = format_datetime(now + timedelta(seconds=float(wish[5:])), usegmt=True)
    return {"Retry-After": wish, "Date": format_datetime(now, usegmt=True)}


def now_utc() -> datetime:
    """Now, as an aware UTC time."""
    return datetime.now(UTC)


def _hidden(error: dict[str, object], form: str) -> object:
    match form:
        case "object":
            return error
        case "string":
            return f"HTTP {error['code']}: {error['message']}"
        case "json":
            return json.dumps({"error": error}, ensure_ascii=False)
        case "nested":
            inner = json.dumps({"error": error}, ensure_ascii=False)
            outer = {"error": {"message": inner, "code": 502}}
            return json.dumps(outer, ensure_ascii=False)
        case _:
            return error["message"]


def _meaning(code: int, name: str | None) -> Meaning:
    known = MEANINGS.get(code, {"error": Meaning("Error")})
    return known[name] if name else next(iter(known.values()))
