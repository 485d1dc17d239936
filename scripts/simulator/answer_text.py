"""What the model says: made from the request alone, so that the same request gets the same text.

    prose    invented sentences in Latin and Cyrillic letters, of varying length
    echo     the last user message, word for word
    label    the word after ``label:`` or ``label=`` in the last user message, else ``unknown``
    table    one of the choices that the message names, for a row or for each of a pack

A request that asks for JSON (`response_format`) gets JSON, which fits its schema if it has one; one
that must call a tool calls it. `tokens` says how they are counted.
"""

import json
import re
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from . import tables
from .body import Chat
from .schema_instances import instance
from .tokens import tokens_in

MODES = ("prose", "echo", "label", "table")
_LABEL = re.compile(r"label\s*[:=]\s*[\"']?([\w./-]+)", re.IGNORECASE)
_WORDS = """
    night shift lamp queue river ledger kopeck morning answer quiet train window seven paper
    harbour copper signal winter and then because while under over almost never always again
    ночь смена лампа очередь река утро ответ тихо поезд окно семь бумага медь сигнал зима и потом
"""
# Words are drawn once: an answer is a run of them, which is much faster than drawing each.
_POOL = Random(0).choices(_WORDS.split(), k=8192)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Style:
    """How answers look. Token figures are medians; single answers have half to one and a half."""

    mode: str = "prose"
    answer_tokens: int = 120
    reasoning_tokens: int = 60
    slips: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `completion_tokens` includes `reasoning_tokens`."""

    content: str | None
    reasoning: str | None
    tool_calls: list[dict[str, Any]] | None
    finish_reason: str
    completion_tokens: int
    reasoning_tokens: int


def compose(chat: Chat, style: Style, dice: Random, *, reasons: bool) -> Answer:
    """The answer to `chat`, cut at its `max_tokens`."""
    thought = _thought(style, dice) if reasons else ""
    content, tool_calls = _say(chat, style, dice)
    said = content if content is not None else json.dumps(tool_calls)
    thoughts = tokens_in(thought)
    answer = Answer(
        content=content,
        reasoning=thought or None,
        tool_calls=tool_calls,
        finish_reason="tool_calls" if tool_calls else "stop",
        completion_tokens=max(tokens_in(said), 1) + thoughts,
        reasoning_tokens=thoughts,
    )
    return _cut(answer, chat.max_tokens)


def _cut(answer: Answer, max_tokens: int | None) -> Answer:
    """The answer within `max_tokens`; thinking may eat up to half of them, as it does in life."""
    if max_tokens is None or answer.completion_tokens <= max_tokens:
        return answer
    reasoning_tokens = min(answer.reasoning_tokens, max_tokens // 2)
    return replace(
        answer,
        content=_head(answer.content or "", max_tokens - reasoning_tokens),
        tool_calls=None,
        reasoning=_head(answer.reasoning or "", reasoning_tokens) or None,
        finish_reason="length",
        completion_tokens=max_tokens,
        reasoning_tokens=reasoning_tokens,
    )


def _head(text: str, tokens: int) -> str:
    return text.encode()[: tokens * 4].decode(errors="ignore")


def _say(chat: Chat, style: Style, dice: Random) -> tuple[str | None, list[dict[str, Any]] | None]:
    if chat.forced_tool:
        return None, [_tool_call(chat.forced_tool, dice)]
    if style.mode == "table":
        return tables.say(chat.user_text(), style.slips, dice, chat.schema), None
    if chat.schema is not None:
        return json.dumps(instance(chat.schema, dice), ensure_ascii=False), None
    if chat.wants_json:
        answer = {"answer": _prose(12, dice), "n": dice.randrange(1000)}
        return json.dumps(answer, ensure_ascii=False), None
    if style.mode == "echo":
        return chat.last_user_text(), None
    if style.mode == "label":
        found = _LABEL.search(chat.last_user_text())
        return (found[1] if found else "unknown"), None
    return _prose(_around(style.answer_tokens, dice), dice), None


def _thought(style: Style, dice: Random) -> str:
    return _prose(_around(style.reasoning_tokens, dice), dice) if style.reasoning_tokens else ""


def _around(median: int, dice: Random) -> int:
    return max(1, int(median * dice.uniform(0.5, 1.5)))


def _prose(tokens: int, dice: Random) -> str:
    # A word of this mix is about one and a half tokens.
    words = max(1, tokens * 2 // 3)
    start = dice.randrange(len(_POOL))
    said = " ".join(_POOL[start : start + words])
    if (missing := start + words - len(_POOL)) > 0:
        said += " " + " ".join(_POOL[number % len(_POOL)] for number in range(missing))
    return f"{dice.randrange(16**6):06x} {said}."


def _tool_call(name: str, dice: Random) -> dict[str, Any]:
    return {
        "id": f"call_{dice.randrange(16**12):012x}",
        "type": "function",
        "index": 0,
        "function": {"name": name, "arguments": json.dumps({"query": _prose(6, dice)})},
    }
