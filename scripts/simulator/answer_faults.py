"""Faults of the answer: what it says is wrong, though it arrived whole."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from .exact_json import Raw
from .faults import Rule

Document = dict[str, Any]

# A lone surrogate has no UTF-8, so it can only come as an escape.
HOSTILE: dict[str, str | Raw] = {
    "surrogate": Raw(r'"half a pair: \ud83d, and text after it"'),
    "nul": "before\x00after",
    "separators": "one\u2028two\u2029three\u0085four\x0bfive",
    "ansi": "\x1b[2J\x1b[31mred\x1b[0m\x07\r\n\u202ebidi",
    "html": '<script>alert(1)</script><img src=x onerror="alert(2)">',
    "formula": '=HYPERLINK("http://127.0.0.1:9/","x")',
}
USAGE_FORMS: dict[str, dict[str, Any]] = {
    "null_cost": {"cost": None},
    "zero_prompt": {"prompt_tokens": 0, "total_tokens": 18},
    "negative": {"prompt_tokens": -5, "completion_tokens": -1},
    "fraction": {"prompt_tokens": 1.5, "completion_tokens": Raw("2.0")},
    "text": {"prompt_tokens": "12", "completion_tokens": "many"},
}


def spoil(document: Document, rules: Iterable[Rule]) -> None:
    """Apply every rule to the answer, in place."""
    for rule in rules:
        if change := _CHANGES.get(rule.kind):
            change(document, rule)


def price_factor(rules: Iterable[Rule]) -> Decimal:
    """By how much the rules raise the price of the call."""
    factor = Decimal(1)
    for rule in rules:
        if rule.kind == "price":
            factor *= Decimal(str(rule.settings["factor"]))
    return factor


def _finish(document: Document, rule: Rule) -> None:
    reason, choice = rule.settings["reason"], document["choices"][0]
    if reason == "missing":
        del choice["finish_reason"]
        return
    choice["finish_reason"] = None if reason == "null" else reason
    if reason == "error":
        content = choice["message"]["content"] or ""
        choice["message"]["content"] = content[: len(content) // 2]
        choice["error"] = {"code": 502, "message": "The provider broke off"}


def _no_choices(document: Document, _: Rule) -> None:
    document["choices"] = []


def _no_content_text(document: Document, _: Rule) -> None:
    document["choices"][0]["message"] = {"role": "assistant", "content": ""}


def _content(document: Document, rule: Rule) -> None:
    said = HOSTILE[rule.settings["text"]]
    document["choices"][0]["message"]["content"] = said


def _usage(document: Document, rule: Rule) -> None:
    match rule.settings["form"]:
        case "missing":
            del document["usage"]
        case "null":
            document["usage"] = None
        case "no_cost":
            del document["usage"]["cost"]
        case form:
            document["usage"] |= USAGE_FORMS[form]


def _cost(document: Document, rule: Rule) -> None:
    if isinstance(document.get("usage"), dict):
        document["usage"]["cost"] = Raw(rule.settings["value"])


def _other_model(document: Document, rule: Rule) -> None:
    document["model"] = rule.settings["name"]


_CHANGES: dict[str, Callable[[Document, Rule], None]] = {
    "finish": _finish,
    "no_choices": _no_choices,
    "no_content_text": _no_content_text,
    "content": _content,
    "usage": _usage,
    "cost": _cost,
    "other_model": _other_model,
}
