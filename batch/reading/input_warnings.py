"""What is accepted and surely not meant: it is sent as it stands and paid for, so it is told first.

All of it follows from keys, roles, types and from where a text is blank, never from what a text
says: lines of one form have the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from batch.reading.json_scan import Kind, Node, is_blank, text_of
from jobs.message import N_

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_ANSWERS = ("tool_calls", "function_call", "refusal", "audio")
"""What an assistant's message may have in place of content."""

_MAY_BE_SILENT = frozenset({"tool", "function"})
"""A tool that prints nothing has still been called."""

_FOREIGN_KEYS = {
    **dict.fromkeys(
        (
            *("max_output_tokens", "max_new_tokens", "maxOutputTokens", "max_gen_len"),
            *("num_predict", "n_predict", "max_length"),
        ),
        "max_tokens",
    ),
    **dict.fromkeys(
        ("system", "instructions", "system_instruction"), "a message of the role system"
    ),
    **dict.fromkeys(("stop_sequences", "stopSequences"), "stop"),
    **dict.fromkeys(("input", "contents", "prompt"), "messages"),
}
"""Keys of other APIs, which chat endpoints leave out, and what to write for them."""

_FOREIGN_PARTS = {
    **dict.fromkeys(("input_text", "output_text"), "text"),
    **dict.fromkeys(("input_image", "image"), "image_url"),
    **dict.fromkeys(("document", "input_file"), "file"),
    **dict.fromkeys(("tool_use",), "tool_calls"),
    **dict.fromkeys(("tool_result",), "a message of the role tool"),
}


def oddities(line: bytes, body: Node, messages: list[Node], *, bare: bool) -> tuple[str, ...]:
    """A sentence for each, the same for all lines of which it is true; `messages` are sent."""
    found = (
        *_of_keys(body, bare=bare),
        *(told for message in messages for told in _of_message(line, message)),
        *_of_last(line, messages),
    )
    return tuple(dict.fromkeys(found))


def oddities_of_texts(line: bytes, asked: list[Node]) -> tuple[str, ...]:
    """The same of texts that are not messages."""
    blank = any(node.kind is Kind.STRING and is_blank(line, node.start) for node in asked)
    told = N_("an input is empty, which most endpoints reject")
    return (told,) if blank else ()


def _of_keys(body: Node, *, bare: bool) -> Iterator[str]:
    for key, instead in _FOREIGN_KEYS.items():
        if key in body.members:
            told = N_(
                '"{key}" belongs to another API and has no effect in chat requests; use {instead}',
                key=key,
                instead=instead,
            )
            yield told
    if {"max_tokens", "max_completion_tokens"} <= body.members.keys():
        told = N_("both max_tokens and max_completion_tokens are set; many endpoints reject that")
        yield told
    if bare and "id" in body.members:
        told = N_('"id" is sent to the endpoint as is; to name a request, use custom_id')
        yield told


def _of_message(line: bytes, message: Node) -> Iterator[str]:
    role = _text(line, message, "role")
    if role not in ROLES:
        told = N_(
            "the role {role!a} is unknown to chat models; use user or assistant", role=role[:40]
        )
        yield told
    answers = any(key in message.members for key in _ANSWERS)
    if role not in _MAY_BE_SILENT and not answers and not _says(line, message, "content"):
        told = N_("a message has no content")
        yield told
    content = message.members.get("content")
    for part in content.value.items if content else ():
        kind = _text(line, part, "type")
        if kind in _FOREIGN_PARTS:
            told = N_(
                'the part type "{kind}" belongs to another API; use {instead}',
                kind=kind,
                instead=_FOREIGN_PARTS[kind],
            )
            yield told


def _says(line: bytes, node: Node, key: str) -> bool:
    """Whether there is a text that is not blank, or a part that is more than text."""
    member = node.members.get(key)
    if member is None or member.value.kind is Kind.NULL:
        return False
    value = member.value
    if value.kind is Kind.ARRAY:
        return any(
            _text(line, part, "type") != "text" or _says(line, part, "text") for part in value.items
        )
    return value.kind is not Kind.STRING or not is_blank(line, value.start)


def _of_last(line: bytes, messages: list[Node]) -> Iterator[str]:
    if ends_with_answer(line, messages):
        told = N_(
            "the last message is from the assistant, so the model will continue it; to get a new"
            " answer instead: --drop-last-assistant"
        )
        yield told


def ends_with_answer(line: bytes, messages: list[Node]) -> bool:
    """Whether the last turn is the assistant's."""
    return _text(line, messages[-1], "role") == "assistant"


def _text(line: bytes, node: Node, key: str) -> str:
    member = node.members.get(key)
    if member is None or member.value.kind is not Kind.STRING:
        return ""
    return text_of(line, member.value)
