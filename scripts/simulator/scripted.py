"""Scripted refusals: the reply that a rule of that family puts in the answer's place."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from .faults import Rule
from .refusals import (
    HTML,
    JSON,
    Reply,
    error_object,
    now_utc,
    refusal,
    retry_after_header,
    wrapped,
)

PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works</body></html>"
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'

_BODIES: dict[str, tuple[bytes, str]] = {
    "html": (PAGE, HTML),
    "empty": (b"", JSON),
    "null": (b"null", JSON),
    "list": (b'[{"choices":[]}]', JSON),
    "string": (b'"an answer, but not an object"', JSON),
    "no_content": (b"", JSON),
    "sse": (STREAM, "text/event-stream"),
}


def scripted(rule: Rule) -> Reply:
    """The reply of a rule of the family *refusal*."""
    return _MAKERS.get(rule.kind, _body)(rule)


def seconds_before(rule: Rule) -> float | None:
    """How long the rule lets the client wait; None: as long as a model works."""
    after = rule.settings.get("after")
    if after or rule.settings.get("status") != 200:
        return float(after or 0)
    return None


def _status(rule: Rule) -> Reply:
    told = rule.settings
    headers = retry_after_header(told["retry_after"], now_utc() + timedelta(seconds=told["skew"]))
    if told["should_retry"] is not None:
        headers["x-should-retry"] = told["should_retry"]
    return refusal(told["code"], told["meaning"], text=told["text"], headers=headers)


def _wrapped(rule: Rule) -> Reply:
    told = rule.settings
    wish = told["retry_after"]
    error = error_object(told["code"], told["meaning"], text=told["text"], retry_after=wish)
    return wrapped(error, told["status"], told["form"], {})


def _redirect(rule: Rule) -> Reply:
    return Reply(rule.settings["code"], b"", {"Location": rule.settings["location"]})


def _deep(rule: Rule) -> Reply:
    depth = rule.settings["depth"]
    return Reply(rule.settings["status"], b'{"choices":' + b"[" * depth + b"]" * depth + b"}")


def _body(rule: Rule) -> Reply:
    body, content_type = _BODIES[rule.kind]
    return Reply(rule.settings["status"], body, content_type=content_type)


_MAKERS: Mapping[str, Callable[[Rule], Reply]] = {
    "status": _status,
    "wrapped": _wrapped,
    "redirect": _redirect,
    "deep": _deep,
}
