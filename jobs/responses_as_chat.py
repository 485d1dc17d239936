"""Requests for `/responses` as chat requests, and the answers back, where an endpoint has but chat.

    instructions, input   → messages           choices[0].message → output
    text.format           → response_format    finish_reason      → status, incomplete_details
    max_output_tokens     → max_tokens         usage              → usage, in the other words
    reasoning.effort      → reasoning_effort
    tools, tool_choice    → the same, of functions alone

What has no counterpart is refused by name: to leave it out would change what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = Any
"""Whatever stands in a request or an answer."""

_Object = dict[str, Json]


class Untranslatable(Exception):
    """A request holds `what`, which chat has no counterpart of."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


# ── There ────────────────────────────────────────────────────────────────────────────────────────

_SAME = frozenset(
    {
        *(
            "model",
            "temperature",
            "top_p",
            "user",
            "metadata",
            "service_tier",
            "parallel_tool_calls",
            "n",
        ),
        *("safety_identifier", "prompt_cache_key", "provider", "session_id"),
    }
)
_LEFT_OUT = frozenset(
    {"store", "max_tool_calls", "stream", "background", "stream_options", "truncation"}
)
"""What changes no answer that comes in one piece and is kept here. Of a prompt that is too long for
its model chat tells an error, where `truncation` would have shortened it."""


def to_chat(body: _Object) -> _Object:
    """The chat request that says the same; `Untranslatable` where there is none."""
    key = "input"
    try:
        chat: _Object = {"messages": _messages(body)}
        for key, value in body.items():
            if value is not None and key not in _LEFT_OUT and value != []:
                chat |= _member(key, value)
    except (AttributeError, LookupError, TypeError, ValueError):
        # Of a shape that the API does not have either.
        raise Untranslatable(key) from None
    return chat


def _member(key: str, value: Json) -> _Object:
    if key in _SAME:
        return {key: value}
    if key in _MEMBERS:
        return _MEMBERS[key](value)
    if key not in ("input", "instructions"):
        raise Untranslatable(key)
    return {}


def _text(value: Json) -> _Object:
    found = {"verbosity": value["verbosity"]} if value.get("verbosity") else {}
    form = value.get("format") or {"type": "text"}
    match form.get("type"):
        case "text":
            return found
        case "json_object":
            return {**found, "response_format": {"type": "json_object"}}
        case "json_schema":
            schema = {key: each for key, each in form.items() if key != "type"}
            return {**found, "response_format": {"type": "json_schema", "json_schema": schema}}
    raise Untranslatable("text.format")


def _include(value: Json) -> _Object:
    """What tools and reasoning would add beside the answer; of the message itself nothing."""
    for what in value:
        if str(what).startswith("message."):
            raise Untranslatable(f"include: {what}")
    return {}


def _reasoning(value: Json) -> _Object:
    return {"reasoning_effort": value["effort"]} if value.get("effort") else {}


def _tools(value: Json) -> _Object:
    return {"tools": [_function(tool) for tool in value]}


def _function(tool: Json) -> _Object:
    if tool.get("type") != "function":
        raise Untranslatable(f"tools: {tool.get('type')}")
    return {
        "type": "function",
        "function": {key: each for key, each in tool.items() if key != "type" and each is not None},
    }


def _tool_choice(value: Json) -> _Object:
    if isinstance(value, str):
        return {"tool_choice": value}
    if value.get("type") != "function":
        raise Untranslatable(f"tool_choice: {value.get('type')}")
    return {"tool_choice": {"type": "function", "function": {"name": value.get("name")}}}


_MEMBERS: dict[str, Callable[[Json], _Object]] = {
    "max_output_tokens": lambda value: {"max_tokens": value},
    "top_logprobs": lambda value: {"logprobs": True, "top_logprobs": value} if value else {},
    "text": _text,
    "include": _include,
    "reasoning": _reasoning,
    "tools": _tools,
    "tool_choice": _tool_choice,
}


def _messages(body: _Object) -> list[_Object]:
    asked, said = body.get("input"), body.get("instructions")
    messages: list[_Object] = [{"role": "system", "content": said}] if said else []
    if isinstance(asked, str):
        return [*messages, {"role": "user", "content": asked}]
    for item in asked or ():
        _add(messages, item)
    if not asked:
        raise Untranslatable("prompt")
    return messages


def _add(messages: list[_Object], item: _Object) -> None:
    """Appends what an item says; calls of one turn belong to one message."""
    match item.get("type") or "message":
        case "message":
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": _content(item["content"], role)})
        case "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            messages[-1].setdefault("tool_calls", []).append(call)
        case "function_call_output":
            content = _content(item.get("output"), "assistant")
            answer = {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
            messages.append(answer)
        case "reasoning":
            pass
        case kind:
            raise Untranslatable(f"input: {kind}")


def _content(content: Json, role: str) -> Json:
    """A text as it is; parts as parts, of the assistant as one text."""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    if role == "assistant" and all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: _Object) -> _Object:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part.get("text")}
        case "refusal":
            return {"type": "text", "text": part.get("refusal")}
        case "input_image" if part.get("image_url"):
            image = {"url": part["image_url"], "detail": part.get("detail") or "auto"}
            return {"type": "image_url", "image_url": image}
    raise Untranslatable(f"input: {part.get('type')}")


# ── And back ─────────────────────────────────────────────────────────────────────────────────────

_INCOMPLETE = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
}


def to_response(document: _Object) -> _Object:
    """What a chat completion says, as a response: with every member that its readers need."""
    choices = document.get("choices") or [{}]
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = _message(choice)
    finish, error = choice.get("finish_reason"), choice.get("error")
    reason = _INCOMPLETE.get(str(finish))
    failed = bool(error) or finish == "error"
    told = {key: document[key] for key in ("provider", "service_tier") if document.get(key)}
    return {
        "id": document.get("id") or "",
        "object": "response",
        "created_at": document.get("created") or 0,
        "status": "failed" if failed else "incomplete" if reason else "completed",
        "error": error or document.get("error"),
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": document.get("model") or "",
        "output": _output(message, str(document.get("id") or "")),
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": _usage(document.get("usage")),
        # Not of the API, but what gabriel reads.
        "output_text": _said(message),
        **told,
    }


def _message(choice: _Object) -> _Object:
    """What it says; a text beside it is what completions have instead."""
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text = choice.get("text")
    return message if message.get("content") or not text else {**message, "content": text}


def _output(message: _Object, name: str) -> list[_Object]:
    items: list[_Object] = []
    if thought := message.get("reasoning") or message.get("reasoning_content"):
        summary = [{"type": "summary_text", "text": thought}]
        items.append({"id": f"rs_{name}", "type": "reasoning", "summary": summary})
    if parts := list(_parts(message)):
        items.append(
            {
                "id": f"msg_{name}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": parts,
            }
        )
    return [*items, *_images(message, name), *map(_call, _calls(message, name))]


def _images(message: _Object, name: str) -> list[_Object]:
    """As the tool answers that makes them: in base64, or where they are."""
    found = (image.get("image_url") for image in _objects(message.get("images")))
    urls = [str(image.get("url") or "") for image in found if isinstance(image, dict)]
    return [
        {
            "id": f"ig_{name}_{place}",
            "type": "image_generation_call",
            "status": "completed",
            "result": url.partition(";base64,")[2] or url,
        }
        for place, url in enumerate(urls)
        if url
    ]


def _calls(message: _Object, name: str) -> list[_Object]:
    """Those of the answer, also in the form that chat had before it had tools."""
    called = message.get("function_call")
    return _objects(message.get("tool_calls")) or (
        [{"id": name, "function": called}] if isinstance(called, dict) else []
    )


def _objects(value: Json) -> list[_Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _parts(message: _Object) -> list[_Object]:
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        content = "".join(text for text in texts if isinstance(text, str))
    said: _Object = {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
    return [
        *([said] if content else []),
        *([{"type": "refusal", "refusal": refusal}] if refusal else []),
    ]


def _said(message: _Object) -> Json:
    return next((part["text"] for part in _parts(message) if "text" in part), "")


def _call(call: _Object) -> _Object:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    return {
        "id": f"fc_{call.get('id')}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.get("id") or "",
        "name": function.get("name") or "",
        "arguments": function.get("arguments") or "",
    }


def _usage(usage: Json) -> Json:
    """In the words of responses, and what else was told, the cost above all, as it was."""
    if not isinstance(usage, dict):
        return None
    given, made = (_told(usage.get(f"{part}_tokens_details")) for part in ("prompt", "completion"))
    ours = ("prompt_tokens", "completion_tokens", "prompt_tokens_details")
    rest = {
        key: value
        for key, value in usage.items()
        if key not in (*ours, "completion_tokens_details")
    }
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    total = sum(each for each in (prompt, completion) if isinstance(each, int))
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, **given},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0, **made},
        "total_tokens": usage.get("total_tokens") or total,
        **{key: value for key, value in rest.items() if key != "total_tokens"},
    }


def _told(details: Json) -> _Object:
    if not isinstance(details, dict):
        return {}
    return {key: value for key, value in details.items() if value is not None}
