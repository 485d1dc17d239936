"""The kinds of requests: one line of the table for each, and nobody else asks which it is.

               asks in    bounds its answer by                 answers in
chat           messages   max_tokens, max_completion_tokens    choices
responses      input      max_output_tokens                    output
embeddings     input      nothing: an answer has no tokens     data
completions    prompt     max_tokens, for each answer          choices
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Json = Any
"""Whatever stands in a request or an answer."""


class Said(NamedTuple):
    """What an answer says of itself: why it ended, in the endpoint's word, and what is in it."""

    finish: Json = "stop"
    content: bool = False
    reasoning: bool = False
    refusal: bool = False
    error: Json = None


class Kind(NamedTuple):
    """One kind of request. `asks` and `answers` are the members that make a request and an answer.

    `bounds` are the members that bound an answer, the usual one first; `many`: one request may want
    several answers, each of which is bounded by it. `unbounded` are members whose cost no size
    bounds. `read` says what an answer is, `text` shows it.
    """

    url: str
    asks: str
    answers: str
    bounds: tuple[str, ...]
    read: Callable[[dict[str, Json]], Said]
    text: Callable[[dict[str, Json]], Json]
    unbounded: tuple[str, ...] = ()
    many: bool = False

    @property
    def path(self) -> str:
        """Where it is called, below the address of an endpoint."""
        return self.url.removeprefix("/v1/")


# ── Chat, and completions of a text ──────────────────────────────────────────────────────────────

_CONTENT = ("content", "tool_calls", "function_call", "refusal", "audio", "images")
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


def _of_choice(choice: Json) -> Said:
    if not isinstance(choice, dict):
        return Said("")
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {}
    content = any(map(message.get, _CONTENT)) or bool(choice.get("text"))
    return Said(
        choice.get("finish_reason"),
        content,
        # Beside a content it makes no difference.
        not content and any(map(message.get, _REASONING)),
        bool(message.get("refusal")),
        choice.get("error"),
    )


def _chat(document: dict[str, Json]) -> Said:
    choices = document["choices"]
    return _of_choice(choices[0] if choices else None)


def _chat_text(document: dict[str, Json]) -> Json:
    message = document["choices"][0]["message"]
    return message.get("content") or message


_FINISHES = {
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "complete", "end"), "stop"),
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "error_limit": "length",
    "error_toxic": "content_filter",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "recitation": "content_filter",
    "spii": "content_filter",
    "sensitive": "content_filter",
}
"""Words of others for the same; capitals are no matter."""
_CUT = ("error", "content_filter", "length")
"""Of several answers the worst end is told, in this order."""


def usual_end(finish: str) -> str:
    """Why an answer ended, in the words of the API."""
    usual = _FINISHES.get(finish.lower(), finish.lower())
    return "content_filter" if "content_filter" in usual else usual


def _completions(document: dict[str, Json]) -> Said:
    every = [_of_choice(choice) for choice in document["choices"]] or [Said("")]
    ends = [usual_end(said.finish) if isinstance(said.finish, str) else "" for said in every]
    return Said(
        next((end for end in _CUT if end in ends), ends[0]),
        any(said.content for said in every),
        refusal=any(said.refusal for said in every),
        error=next((said.error for said in every if said.error), None),
    )


def _completions_text(document: dict[str, Json]) -> Json:
    choices = document["choices"]
    texts = [choice["text"] if "text" in choice else choice["message"] for choice in choices]
    return texts[0] if len(texts) == 1 else texts


# ── Embeddings ───────────────────────────────────────────────────────────────────────────────────

_SHOWN = 4


def _embeddings(document: dict[str, Json]) -> Said:
    vectors = [each.get("embedding") for each in document["data"] if isinstance(each, dict)]
    return Said(content=bool(vectors) and len(vectors) == len(document["data"]) and all(vectors))


def _embeddings_text(document: dict[str, Json]) -> Json:
    return "\n".join(_vector(each["embedding"]) for each in document["data"])


def _vector(vector: Json) -> str:
    """Its first numbers, and how many there are; base64 as it is, cut."""
    if isinstance(vector, str):
        return f"{vector[:40]}… ({len(vector)})"
    numbers = ", ".join(str(number) for number in vector[:_SHOWN])
    return f"[{numbers}, …] ({len(vector)})" if len(vector) > _SHOWN else f"[{numbers}]"


# ── Responses ────────────────────────────────────────────────────────────────────────────────────

_BROKEN_OFF = ("failed", "cancelled", "in_progress", "queued")


def _responses(document: dict[str, Json]) -> Said:
    items = [item for item in document["output"] if isinstance(item, dict)]
    parts = [part for item in items if item.get("type") == "message" for part in _parts(item)]
    status, details = document.get("status"), document.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    finish = (reason or "length") if status == "incomplete" else "stop"
    return Said(
        "error" if status in _BROKEN_OFF else finish,
        any(part.get("text") or part.get("refusal") for part in parts)
        or any(str(item.get("type")).endswith("_call") for item in items),
        any(item.get("type") == "reasoning" for item in items),
        any(part.get("type") == "refusal" for part in parts),
        document.get("error") if status in _BROKEN_OFF else None,
    )


def _parts(item: dict[str, Json]) -> list[dict[str, Json]]:
    content = item.get("content")
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}]
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _responses_text(document: dict[str, Json]) -> Json:
    items = document["output"]
    parts = [part for item in items if item.get("type") == "message" for part in _parts(item)]
    texts = [part.get("text") or part.get("refusal") or "" for part in parts]
    return "".join(texts) or [item for item in items if item.get("type") != "reasoning"]


# ── The table ────────────────────────────────────────────────────────────────────────────────────

CHAT = Kind(
    "/v1/chat/completions",
    "messages",
    "choices",
    ("max_tokens", "max_completion_tokens"),
    _chat,
    _chat_text,
    unbounded=(
        *("plugins", "web_search_options", "search_parameters", "models", "preset", "audio"),
    ),
)
RESPONSES = Kind(
    "/v1/responses",
    "input",
    "output",
    ("max_output_tokens",),
    _responses,
    _responses_text,
    unbounded=("previous_response_id", "conversation", "prompt", "plugins", "models", "preset"),
)
EMBEDDINGS = Kind("/v1/embeddings", "input", "data", (), _embeddings, _embeddings_text)
COMPLETIONS = Kind(
    "/v1/completions",
    "prompt",
    "choices",
    ("max_tokens",),
    _completions,
    _completions_text,
    unbounded=("plugins", "models", "preset"),
    many=True,
)
KINDS: dict[str, Kind] = {each.url: each for each in (CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS)}


PROMPT = frozenset({*(kind.asks for kind in KINDS.values()), "instructions"})
"""What `prompt_texts` tells of a body."""


def kind_of(url: str) -> Kind | None:
    """The kind that an address of any host and version is for, also with a query; None: no kind."""
    path = url.partition("?")[0].rstrip("/")
    return next((kind for kind in KINDS.values() if path.endswith(f"/{kind.path}")), None)


_EMBEDS = re.compile(r"embed|(?:^|[/_-])(?:bge|gte|e5|minilm)(?:[/_-]|$)", re.IGNORECASE)
_OF_VECTORS = frozenset({"encoding_format", "dimensions", "input_type"})


def kind_by_shape(body: Json) -> Kind | None:
    """The kind of a body that nobody names, by what it asks in; None where it does not show.

    `input` is what two kinds ask in: vectors are wanted where it is a list of texts or of tokens,
    or of a model whose name says so.
    """
    if not isinstance(body, dict):
        return None
    if "messages" in body:
        return CHAT
    if not isinstance(body.get("model"), str):
        return None
    if "input" not in body:
        return COMPLETIONS if "prompt" in body else None
    asked = body["input"]
    listed = isinstance(asked, list) and not any(isinstance(each, dict) for each in asked)
    embeds = listed or _OF_VECTORS & body.keys() or _EMBEDS.search(body["model"])
    return EMBEDDINGS if embeds else RESPONSES


def answers_in(body: dict[str, Json]) -> int:
    """How many answers a request for completions wants, and pays for."""
    prompts = body[COMPLETIONS.asks]
    several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    each = max(body.get(key) or 1 for key in ("n", "best_of"))
    return (len(prompts) if several else 1) * each


def text_of(document: Json) -> Json:
    """What an answer says, for people: a text, or what of it is no text; all of what is no answer.

    By what it answers in, so that it need not be known what was asked.
    """
    for kind in KINDS.values():
        try:
            if document[kind.answers]:
                return kind.text(document)
        except (LookupError, TypeError, AttributeError):
            continue
    return document


def prompt_texts(body: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    """(who says it, what) of all that becomes the prompt of a body, whatever its kind."""
    if isinstance(body.get("instructions"), str):
        yield "instructions", body["instructions"]
    asked = next((body[kind.asks] for kind in KINDS.values() if kind.asks in body), None)
    if isinstance(asked, list) and any(isinstance(each, dict) for each in asked):
        for each in asked:
            if isinstance(each, dict):
                yield str(each.get("role") or each.get("type")), each
    elif asked is not None:
        yield next(kind.asks for kind in KINDS.values() if kind.asks in body), asked
