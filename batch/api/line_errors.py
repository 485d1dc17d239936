"""What is wrong with the lines of a batch, in the words of OpenAI's API; pure.

The rules are those of `batch.reading`; here a line that they refused is looked at once more, for
the code and the parameter that programs know.
"""

from __future__ import annotations

import json
import re
from typing import Any

from batch.api.batch_options import full_url
from jobs.request import Fault
from jobs.request_kinds import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Kind

Problem = dict[str, Any]
"""`code`, `line` (from 1, or None), `message`, `param`."""

MOST = 100
"""So many are told of a batch."""

MOST_LINES, MOST_BYTES = 50_000, 200 * 1024**2
"""OpenAI's own limits, for a server that enforces them."""

_MEMBERS = ("custom_id", "method", "url", "body")
_NAMED = re.compile(r'"([a-z_]+(?:[.\[][a-z0-9_\]]+)*)" ')


def problem(
    code: str, message: str, *, line: int | None = None, param: str | None = None
) -> Problem:
    """One entry of a batch's errors."""
    return {"code": code, "line": line, "message": message, "param": param}


def problem_of(fault: Fault, raw: bytes, kind: Kind = CHAT) -> Problem:
    """What is wrong with a line that was refused, in a batch of that kind."""
    code, param, message = _judged(fault, raw, kind)
    return problem(code, message, line=fault.line, param=param)


def _judged(fault: Fault, raw: bytes, kind: Kind) -> tuple[str, str | None, str]:
    if fault.code == "input.duplicate_id":
        return _duplicate(fault.custom_id or "")
    line = _parsed(raw)
    if not isinstance(line, dict):
        return "invalid_json_line", None, "This line is not parseable as valid JSON."
    for name in _MEMBERS:
        if line.get(name) is None:
            return "missing_required_parameter", name, f"Missing required parameter: '{name}'."
    return _in_envelope(line, kind) or _in_body(line["body"], kind) or _other(fault)


def _duplicate(custom_id: str) -> tuple[str, str, str]:
    told = (
        f"The custom_id '{custom_id[:100]}' for this request is a duplicate of another request."
        " The custom_id parameter must be unique for each request in a batch."
    )
    return "duplicate_custom_id", "custom_id", told


def _in_envelope(line: dict[str, Any], kind: Kind) -> tuple[str, str, str] | None:
    if not isinstance(line["custom_id"], str) or not line["custom_id"]:
        return "invalid_custom_id", "custom_id", "The custom_id must be a non-empty string."
    if line["method"] != "POST":
        return "invalid_method", "method", "The method must be 'POST'."
    if not isinstance(line["url"], str) or full_url(line["url"]) != kind.url:
        told = "The URL provided for this request does not match the batch endpoint."
        return "invalid_url", "url", told
    if not isinstance(line["body"], dict):
        return "invalid_request", "body", "The body must be an object."
    return None


def _in_body(body: dict[str, Any], kind: Kind) -> tuple[str, str, str] | None:
    if not body.get("model"):
        return "invalid_request", "body.model", "Model parameter is required."
    if not body.get(kind.asks) and not (kind is RESPONSES and body.get("prompt")):
        told = f"{kind.asks.capitalize()} parameter is required."
        return "invalid_request", f"body.{kind.asks}", told
    if body.get("stream"):
        told = f"{_NAMES[kind.url]}: Streaming is not supported in the Batch API."
        return "streaming_unsupported", "body.stream", told
    return None


_NAMES = {
    CHAT.url: "Chat Completions",
    RESPONSES.url: "Responses",
    EMBEDDINGS.url: "Embeddings",
    COMPLETIONS.url: "Completions",
}


def _other(fault: Fault) -> tuple[str, str | None, str]:
    if fault.code == "input.json":
        return "invalid_json_line", None, "This line is not parseable as valid JSON."
    named = _NAMED.search(fault.message)
    return "invalid_request", named[1] if named else None, fault.message


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None


def unknown_model(name: str, line: int | None) -> Problem:
    """The endpoint lists no such model."""
    told = f"The provided model '{name[:100]}' is not supported by the Batch API."
    return problem("model_not_found", told, line=line, param="body.model")


def other_model(name: str, line: int) -> Problem:
    """A second model in a batch, where only one may be."""
    told = (
        f"The model '{name[:100]}' for this request does not match the rest of the batch. Each"
        " batch must contain requests for a single model."
    )
    return problem("mismatched_model", told, line=line, param="body.model")
