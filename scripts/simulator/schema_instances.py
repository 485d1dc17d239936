"""An instance of a JSON Schema: what a model says that heeds one."""

import json
from random import Random
from typing import Any

Schema = Any
"""An object, or whether anything fits."""

_DEEPEST = 6
_TEXTS = {
    "date": "2026-02-01",
    "date-time": "2026-02-01T10:30:00Z",
    "time": "10:30:00Z",
    "email": "lamp@example.org",
    "uri": "https://example.org/lamp",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_WORD = "лампа river "


def instance(schema: Schema, dice: Random, said: str = "") -> Any:
    """A value that fits; where one of some words is wanted, and `said` is among them, it is that.

    Patterns, conditions and what must not be are not looked at.
    """
    return _instance(schema, schema, dice, said, 0)


def _instance(schema: Schema, root: Schema, dice: Random, said: str, depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return said if said in schema["enum"] else schema["enum"][0]
    match _type_of(schema):
        case "object":
            return _object(schema, root, dice, said, depth)
        case "array":
            return _array(schema, root, dice, said, depth)
        case "string":
            return _text(schema)
        case "integer" | "number" as kind:
            return _number(schema, dice, whole=kind == "integer")
        case "boolean":
            return dice.random() < 0.5
    return None


def _resolved(schema: Schema, root: Schema) -> dict[str, Any]:
    """With what it refers to, all that it must be, and the first of what it may be."""
    found: dict[str, Any] = dict(schema) if isinstance(schema, dict) else {}
    for _ in range(_DEEPEST):
        parts = found.pop("allOf", [])
        for choices in ("anyOf", "oneOf"):
            parts += found.pop(choices, [])[:1]
        if "$ref" in found:
            parts.append(_at(root, found.pop("$ref")))
        for part in parts:
            found |= part if isinstance(part, dict) else {}
    return found


def _at(root: Schema, pointer: str) -> Schema:
    for name in pointer.removeprefix("#").strip("/").split("/"):
        root = root[name.replace("~1", "/").replace("~0", "~")] if name else root
    return root


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(kind[0] if isinstance(kind, list) else kind)


def _object(
    schema: dict[str, Any], root: Schema, dice: Random, said: str, depth: int
) -> dict[str, Any]:
    named: dict[str, Any] = schema.get("properties", {})
    required = schema.get("required", [])
    names = dict.fromkeys([*(named if depth < _DEEPEST else ()), *required])
    return {name: _instance(named.get(name, True), root, dice, said, depth + 1) for name in names}


def _array(schema: dict[str, Any], root: Schema, dice: Random, said: str, depth: int) -> list[Any]:
    first = schema.get("prefixItems", [])
    least = schema.get("minItems", 0 if depth >= _DEEPEST else 1)
    rest = [schema.get("items", True)] * max(least - len(first), 0)
    return [_instance(each, root, dice, said, depth + 1) for each in (*first, *rest)]


def _text(schema: dict[str, Any]) -> str:
    text = _TEXTS.get(schema.get("format", ""), _WORD.strip())
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    return (text if len(text) >= least else (_WORD * least)[:least])[:most]


def _number(schema: dict[str, Any], dice: Random, *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1 if whole else 0.5)
    first = -(-schema.get("minimum", 0) // step)
    if "exclusiveMinimum" in schema:
        first = schema["exclusiveMinimum"] // step + 1
    last = schema.get("maximum", (first + 10) * step) // step
    if "exclusiveMaximum" in schema:
        last = -(-schema["exclusiveMaximum"] // step) - 1
    found = step * dice.randint(int(first), max(int(first), int(last)))
    return int(found) if whole else found


def schema_in(text: str) -> Schema:
    """The schema that a text holds, from its first brace on; None where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    except ValueError:
        return None
