"""JSON as models write it: within fences or prose, with a comma too many or too few.

Only punctuation is repaired: letters, digits, signs and brackets stay what and where they are.
"""

from __future__ import annotations

import json
import re
from typing import Any

FENCE = re.compile(r"\A\s*```[\w-]*\s*\n?(.*?)\n?\s*```\s*\Z", re.DOTALL)
_SIGNIFICANT = re.compile(r"[^\W_]+|[-+.]\d|[][{}]")


def parsed(text: str) -> tuple[Any, bool, str]:
    """(the value, whether its form was repaired, what is wrong) of an answer that is to be JSON."""
    bare = text.strip()
    try:
        return _loaded(bare), False, ""
    except (ValueError, RecursionError):
        pass
    candidate = _json_in(bare)
    if candidate is None:
        return None, False, f"{shortened(bare)} holds no JSON"
    try:
        return _loaded(candidate), True, ""
    except (ValueError, RecursionError):
        return _mended(candidate)


def _loaded(text: str) -> Any:
    value = json.loads(text, parse_constant=_refuse)
    return json.loads(whole(json.dumps(value, ensure_ascii=False))) if "\\u" in text else value


def _refuse(name: str) -> None:
    raise ValueError(name)


def _json_in(text: str) -> str | None:
    """The one object or list in a text, from its first bracket to its last."""
    fenced = FENCE.match(text)
    inner = fenced[1] if fenced else text
    starts = [place for place in (inner.find("{"), inner.find("[")) if place >= 0]
    if not starts:
        return None
    start = min(starts)
    stop = inner.rfind("}" if inner[start] == "{" else "]")
    return inner[start : stop + 1] if stop > start else None


def _mended(candidate: str) -> tuple[Any, bool, str]:
    import json_repair

    if len(candidate) > 2**20:
        return None, False, f"{shortened(candidate)} is not valid JSON"
    try:
        value = json_repair.loads(candidate, skip_json_loads=True)
    except (ValueError, RecursionError):
        value = None
    # The same letters, digits, signs and brackets in the same order: only punctuation was mended.
    if value is None or _content(json.dumps(value, ensure_ascii=False)) != _content(candidate):
        return None, False, f"{shortened(candidate)} is not valid JSON"
    return value, True, ""


def _content(text: str) -> list[str]:
    return [each.casefold() for each in _SIGNIFICANT.findall(text)]


def whole(text: str) -> str:
    """The text with U+FFFD for every half of a surrogate pair, which no encoding has."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of an answer in one line, for a message: quoted, or `most` characters bare."""
    line = " ".join(text.split())
    return (
        repr(line if len(line) <= most else line[: most - 1] + "…") if most == 60 else line[:most]
    )
