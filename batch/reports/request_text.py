"""A request and its answer as texts, for whoever shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from batch.reports.rows import Row
from jobs.request_kinds import PROMPT, prompt_texts, text_of


def prompt_of(request: Any) -> Iterator[tuple[str, str]]:
    """Who says something in a request, and what."""
    for who, said in prompt_texts(request):
        yield who, as_text(said.get("content") or said if isinstance(said, dict) else said)


def rest_of(request: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that are no part of its prompt."""
    return {name: value for name, value in request.items() if name not in PROMPT}


def answer_of(row: Row) -> str:
    """The text of an answer, or all of it where it is of another form."""
    if not row.body:
        return ""
    try:
        body = json.loads(row.body)
    except ValueError:
        return row.body.decode("utf-8", "replace")
    return as_text(text_of(body))


def as_text(content: Any) -> str:
    """The text, or JSON of what is none."""
    if isinstance(content, str):
        return content
    return "" if content is None else json.dumps(content, ensure_ascii=False, indent=1)
