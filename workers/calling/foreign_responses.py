"""Answers that say what a chat completion says, in another form: made into one, and so kept.

    {"data": {"choices": …}}           a gateway's envelope, whatever it calls it; [{…}]; "{…}"
    {…}{…}, {…} [DONE]                 something behind it
    choices[0].delta                   a piece of a stream that is the whole answer
    choices: {…}, message: "text"      a list of one, and an object of one, left out
    data: {…} data: [DONE]             a stream that nobody asked for: put together, with its usage
    not UTF-8                          by the charset that the answer names, else Latin-1

Whoever sent it was paid for it, so its form alone is no reason to buy it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jobs.request_kinds import CHAT, RESPONSES, Kind
from jobs.responses_as_chat import to_response
from workers.calling.endpoint import Reply
from workers.calling.reading import NO_JSON, Json, first_of, parse, write

_DEEPEST = 3
_PARTS = frozenset({"message", "delta", "text"})
_EVENT = re.compile(rb"\s*(?:data|event|id|retry)?:")
_CHARSET = re.compile(r"charset=\"?([\w.:-]{1,40})")
_JOINED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "arguments"})
"""Texts that come in pieces."""


def read(answer: Reply, kind: Kind = CHAT) -> tuple[Json, bytes]:
    """What the body says, and the answer it was made into; no bytes if it is one as it is.

    A response may be asked for by chat (`jobs.responses_as_chat`). Of the others no other forms
    were met.
    """
    document = parse(answer.body)
    if kind is CHAT:
        return _chat(answer, document)
    if kind is RESPONSES and not (isinstance(document, dict) and kind.answers in document):
        return _response(*_chat(answer, document))
    return document, b""


def _response(document: Json, form: bytes) -> tuple[Json, bytes]:
    if not isinstance(document, dict) or not isinstance(document.get(CHAT.answers), list):
        return document, form
    try:
        response = to_response(document)
        text = write(response).encode()
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return document, form
    # What a response cannot say (a sound) stays as it came, rather than to be bought again.
    lost = CHAT.read(document).content and not RESPONSES.read(response).content
    return (document, form) if lost else (response, text)


def _chat(answer: Reply, document: Json) -> tuple[Json, bytes]:
    if isinstance(document, dict) and "choices" in document:
        return _with_message(document)
    try:
        usual = _made_usual(answer, document)
        return (document, b"") if usual is None else (usual, write(usual).encode())
    except (ValueError, RecursionError, LookupError):
        return document, b""


def _made_usual(answer: Reply, document: Json) -> Json:
    if document is NO_JSON and _EVENT.match(answer.body):
        return _assembled(answer.body)
    if document is NO_JSON:
        document = _in_its_charset(answer)
        return _with_message(document)[0] if isinstance(document, dict) else None
    if isinstance(document, dict) and document.get("error"):
        return None
    inner = _completion_in(document, _DEEPEST)
    if inner is None:
        return None
    around = document.get("usage") if isinstance(document, dict) else None
    return {"usage": around, **_with_message(inner)[0]}


def _completion_in(value: Json, depth: int) -> dict[str, Json] | None:
    """The completion that an envelope holds, if it holds one."""
    if isinstance(value, str):
        value = parse(value) if value.lstrip().startswith("{") else None
    if isinstance(value, dict) and value.get("choices"):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = (_completion_in(each, depth - 1) for each in inner if depth)
    return next(filter(None, found), None)


def _with_message(document: dict[str, Json]) -> tuple[Json, bytes]:
    """Its choices as a list; the first with its `delta`, or its text, as the message that it is."""
    choices = document.get("choices")
    if isinstance(choices, dict):
        choices = [choices] if _PARTS & choices.keys() else list(choices.values())
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return document, b""
    first = choices[0]
    message = first.get("message") or first.get("delta")
    if isinstance(message, str):
        message = {"role": "assistant", "content": message}
    if choices is document.get("choices") and message in (None, first.get("message")):
        return document, b""
    usual = {**document, "choices": [{**first, "message": message}, *choices[1:]]}
    return usual, write(usual).encode()


def _in_its_charset(answer: Reply) -> Json:
    """What a body says that is no JSON in UTF-8, or has something behind its JSON."""
    try:
        text = answer.body.decode()
    except UnicodeDecodeError:
        named = _CHARSET.search(answer.headers.get("content-type", "").lower())
        text = answer.body.decode(named[1] if named else "latin-1")
        if (found := parse(text)) is not NO_JSON:
            return found
    return first_of(text)


# ── Streams ──────────────────────────────────────────────────────────────────────────────────────


def _assembled(body: bytes) -> Json:
    """The completion that a stream tells; None for one that breaks off or holds none.

    An error that it ends with is what it says, with the usage that came before.
    """
    whole: dict[str, Json] = {}
    choice: dict[str, Json] = {}
    ended = False
    for event in _events(body):
        ended |= event == "[DONE]"
        piece = parse(event)
        if not isinstance(piece, dict):
            continue
        whole |= {name: value for name, value in piece.items() if value is not None}
        if piece.get("error"):
            return whole
        _join_choice(choice, piece.get("choices"))
    ended |= bool(choice.get("finish_reason"))
    if not ended or "choices" not in whole:
        return None
    return {**whole, "object": "chat.completion", "choices": [choice] if choice else []}


def _events(body: bytes) -> Iterator[str]:
    """The data of each event; lines end with LF or CRLF."""
    data: list[str] = []
    for line in [*body.decode(errors="replace").split("\n"), ""]:
        line = line.removesuffix("\r")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _join_choice(whole: dict[str, Json], choices: Json) -> None:
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return
    piece = first.get("delta") or first.get("message")
    told = {name: value for name, value in first.items() if value is not None and name != "delta"}
    whole |= {**told, "message": whole.get("message") or {}}
    if isinstance(piece, dict):
        _join(whole["message"], piece)


def _join(whole: dict[str, Json], piece: dict[str, Json]) -> None:
    for name, value in piece.items():
        before = whole.get(name)
        if name == "tool_calls" and isinstance(value, list):
            whole[name] = _joined_tools(before or [], value)
        elif isinstance(before, dict) and isinstance(value, dict):
            _join(before, value)
        elif _come_in_pieces(name, before, value):
            whole[name] = before + value
        elif value is not None or name not in whole:
            whole[name] = value


def _come_in_pieces(name: str, before: Json, value: Json) -> bool:
    texts = isinstance(before, str) and isinstance(value, str) and name in _JOINED
    return texts or (isinstance(before, list) and isinstance(value, list))


def _joined_tools(whole: list[Json], pieces: list[Json]) -> list[Json]:
    """Tool calls come in pieces too, each with the place of its call."""
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        place = piece.get("index")
        if type(place) is not int or not 0 <= place <= len(whole):
            place = len(whole)
        if place == len(whole):
            whole.append({})
        _join(whole[place], {name: value for name, value in piece.items() if name != "index"})
    return whole
