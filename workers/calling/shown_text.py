"""What an endpoint said, as it may be shown anywhere: one line, no key, nothing of a prompt."""

from __future__ import annotations

import re
import unicodedata

from jobs.message import Message, Parameter
from jobs.request_kinds import prompt_texts
from workers.calling.reading import Json, parse, text_of

LONGEST = 300
"""Characters that are shown."""

_QUOTED = 16
"""So many characters that stand in the prompt too are a quotation of it."""

_SECRET = re.compile(
    r"\b(?:sk|pk|key|rk)-[\w*.-]{6,}|\bBearer\s+\S+|\b(?=\w*[0-9])(?=\w*[A-Za-z])\w{24,}"
)


def own_words(message: str, body: bytes = b"", status: int | None = None) -> Message:
    """`HTTP 429: slow down`; `body` is the request that it answers."""
    line = _ours(message, body) if isinstance(message, Message) else Message(_line(message, body))
    if status is None or line.startswith("HTTP "):
        return line
    return Message("HTTP {status}: {line}", status=status, line=line)


def _ours(message: Message, body: bytes) -> Message:
    """A sentence of ours, with what it quotes made harmless."""
    given = message.parameters.items()
    return Message(message.form, **{name: _harmless(value, body) for name, value in given})


def _harmless(value: Parameter, body: bytes) -> Parameter:
    if isinstance(value, Message):
        return _ours(value, body)
    return _line(value, body) if isinstance(value, str) else value


def _line(text: str, body: bytes) -> str:
    line = " ".join("".join(map(_visible, text)).split())
    line = _SECRET.sub("…", _without_prompt(line, body))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _visible(char: str) -> str:
    return " " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char


def _without_prompt(line: str, body: bytes) -> str:
    """Quotations of the prompt cut out, however the endpoint broke its lines."""
    prompt = " ".join(" ".join(_texts(_asked(body))).split())
    kept, at = "", 0
    while at < len(line):
        size = _quoted(line, at, prompt)
        kept += "…" if size else line[at]
        at += size or 1
    return kept


def _quoted(line: str, at: int, prompt: str) -> int:
    """How many characters from here on stand in the prompt too, if they are many."""
    size = _QUOTED
    if len(line) - at < size or line[at : at + size] not in prompt:
        return 0
    while at + size < len(line) and line[at : at + size + 1] in prompt:
        size += 1
    return size


def _asked(body: bytes) -> Json:
    document = parse(body)
    return [said for _, said in prompt_texts(document)] if isinstance(document, dict) else None


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [text_of(value, 2**20)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]
