"""Requests beside chat: read as the chat that they amount to, and answered in their own form.

So everything that holds for chat (keys, limits, prices, faults) holds for them.
"""

import struct
import time
from base64 import b64encode
from random import Random
from typing import Any

from .exact_json import Raw
from .refusals import RefusedError, refusal

Document = dict[str, Any]

CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS = PATHS = (
    "chat/completions",
    "responses",
    "embeddings",
    "completions",
)
VECTOR = 8
"""Numbers of a vector, unless `dimensions` says otherwise."""


def form_of(path: str) -> str:
    """What is asked at a path."""
    return next(form for form in PATHS if path.endswith(f"/{form}"))


def as_chat(form: str, fields: Document) -> Document:
    """The fields of the chat request that this one amounts to."""
    match form:
        case "responses":
            return _from_responses(fields)
        case "embeddings":
            return {**fields, "messages": _users(_listed(fields.get("input"), "input"))}
        case "completions":
            return {**fields, "messages": _users(_listed(fields.get("prompt"), "prompt"))}
    return fields


def answers(form: str, fields: Document) -> int:
    """How many answers it is billed for."""
    if form == EMBEDDINGS:
        return 0
    return (
        len(_listed(fields.get("prompt"), "prompt")) * _each(fields) if form == COMPLETIONS else 1
    )


def _each(fields: Document) -> int:
    return max(fields.get("n") or 1, fields.get("best_of") or 1)


def _users(texts: list[str]) -> list[Document]:
    return [{"role": "user", "content": text} for text in texts]


def _listed(value: Any, name: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise RefusedError(refusal(400, "params", text=f"{name}: a string or a list is required"))
    if isinstance(value[0], int):
        value = [value]
    return [each if isinstance(each, str) else " ".join(map(str, each)) for each in value]


def _from_responses(fields: Document) -> Document:
    asked = fields.get("input")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list) or not items:
        raise RefusedError(refusal(400, "params", text="input: a string or a list is required"))
    if "messages" in fields:
        raise RefusedError(refusal(400, "params", text="Unsupported parameter: 'messages'"))
    said = fields.get("instructions")
    system = [{"role": "system", "content": said}] if said else []
    chat = {**fields, "messages": [*system, *items]}
    if fields.get("max_output_tokens") is not None:
        chat["max_tokens"] = fields["max_output_tokens"]
    form = (fields.get("text") or {}).get("format")
    if form:
        chat["response_format"] = form
    tools = fields.get("tools")
    if tools:
        chat["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if isinstance(choice := fields.get("tool_choice"), dict):
        chat["tool_choice"] = {"type": "function", "function": choice}
    return chat


def answer(form: str, document: Document, fields: Document, dice: Random) -> Document:
    """A chat completion in the form of what was asked."""
    match form:
        case "responses":
            return _response(document, fields)
        case "embeddings":
            return _embeddings(document, fields, dice)
        case "completions":
            return _completion(document, fields)
    return document


def _completion(document: Document, fields: Document) -> Document:
    count = len(_listed(fields.get("prompt"), "prompt")) * (fields.get("n") or 1)
    choices = [
        {
            **{name: each[name] for name in ("finish_reason", "error") if name in each},
            "text": each["message"]["content"],
            "index": place,
            "logprobs": None,
        }
        for each in document["choices"]
        for place in range(count)
    ]
    return {**document, "object": "text_completion", "choices": choices}


def _embeddings(document: Document, fields: Document, dice: Random) -> Document:
    size = fields.get("dimensions") or VECTOR
    data = [
        {"object": "embedding", "index": place, "embedding": _vector(size, fields, dice)}
        for place, _ in enumerate(_listed(fields.get("input"), "input"))
        if document["choices"]
    ]
    usage = document.get("usage")
    if isinstance(usage, dict):
        gone = ("completion_tokens", "completion_tokens_details")
        usage = {name: value for name, value in usage.items() if name not in gone}
    kept = _kept(document)
    return {**kept, "object": "list", "data": data, "usage": usage}


def _kept(document: Document) -> Document:
    """What an answer of any form tells."""
    return {name: document[name] for name in ("id", "model", "provider") if name in document}


def _vector(size: int, fields: Document, dice: Random) -> list[float] | str:
    numbers = [round(dice.uniform(-1, 1), 6) for _ in range(size)]
    if fields.get("encoding_format") == "base64":
        return b64encode(struct.pack(f"<{size}f", *numbers)).decode()
    return numbers


_ENDS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _response(document: Document, fields: Document) -> Document:
    choice: Document = next(iter(document["choices"]), {})
    reason, message = choice.get("finish_reason"), choice.get("message") or {}
    status = "incomplete" if reason in _ENDS else "failed" if reason == "error" else "completed"
    error = choice.get("error")
    kept = _kept(document)
    return {
        **kept,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": {"code": "server_error", "message": error["message"]} if error else None,
        "incomplete_details": {"reason": _ENDS[reason]} if reason in _ENDS else None,
        "instructions": fields.get("instructions"),
        "metadata": fields.get("metadata") or {},
        "output": list(_items(message)),
        "parallel_tool_calls": True,
        "temperature": fields.get("temperature", 1),
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
        "top_p": fields.get("top_p", 1),
        "max_output_tokens": fields.get("max_output_tokens"),
        "usage": _usage(document.get("usage")),
    }


def _items(message: Document) -> Any:
    if message.get("reasoning"):
        summary = [{"type": "summary_text", "text": message["reasoning"]}]
        yield {"type": "reasoning", "id": "rs_1", "summary": summary}
    if isinstance(message.get("content"), str | Raw) and message["content"]:
        part = {"type": "output_text", "text": message["content"], "annotations": []}
        yield {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": function["arguments"],
            "status": "completed",
        }


def _usage(usage: Any) -> Any:
    if not isinstance(usage, dict):
        return usage
    names = {"prompt": "input", "completion": "output"}
    renamed = {}
    for name, value in usage.items():
        ours = next((old for old in names if name.startswith(f"{old}_tokens")), "")
        renamed[names[ours] + name.removeprefix(ours) if ours else name] = value
    return renamed
