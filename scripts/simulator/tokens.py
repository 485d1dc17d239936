"""How many tokens a text counts for: as byte-pair tokenizers count, without being one.

A text falls into words, numbers, runs of signs and single characters of scripts that have no
spaces. A short frequent word is one token and a long one several; how long a piece is depends on
the script, for tokenizers have seen more English than Russian. What no rule can tell, one text in
the same script differing from the next, is a factor drawn from the text itself.

No count is above the UTF-8 bytes of its text, as with every byte-level tokenizer.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

MESSAGE = 4
"""Tokens of the frame around each message."""

_NOISE = 0.08
"""A text counts for up to this share more or less than the rules say."""

_LOOKED_AT = 64 * 1024
"""Characters; what stands behind them in a text is taken to be like them."""

_PIECES = re.compile(
    r"(?P<latin>[A-Za-z\u00c0-\u024f]+)|(?P<cyrillic>[\u0400-\u052f]+)|(?P<number>\d+)"
    r"|(?P<cjk>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])|(?P<lines>[\n\r]\s*)|\s+"
    r"|(?P<signs>[!-/:-@\[-`{-~]+)|(?P<other>.)",
    re.DOTALL,
)
_PER_TOKEN = {"latin": 5.5, "cyrillic": 3.6, "number": 3.0, "signs": 2.0}
"""Characters that one token of such a run spans at most."""

_EACH = {"cjk": 0.75, "lines": 1.0, "other": 1.6}
"""Tokens of one such piece."""


def tokens_in(text: str) -> int:
    """Tokens of a text."""
    if not text:
        return 0
    head = text[:_LOOKED_AT]
    count = sum(map(_tokens_of, _PIECES.finditer(head))) * len(text) / len(head)
    data = text.encode(errors="replace")
    noise = 1 + _NOISE * (zlib.crc32(data) / 2**31 - 1)
    return max(1, min(round(count * noise), len(data)))


def _tokens_of(piece: re.Match[str]) -> float:
    kind = piece.lastgroup
    if kind is None:
        return 0.0  # blanks belong to the word behind them
    if kind in _EACH:
        return _EACH[kind]
    return float(-(-len(piece[0]) // _PER_TOKEN[kind]))


def prompt_tokens(messages: Sequence[Any], fields: Mapping[str, Any]) -> int:
    """Tokens of a request's messages and tools, hidden ones not counted."""
    count = sum(MESSAGE + tokens_in(_text(message)) for message in messages)
    tools = fields.get("tools")
    return count + (tokens_in(json.dumps(tools, ensure_ascii=False)) if tools else 0)


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return "" if content is None else json.dumps(content, ensure_ascii=False)
