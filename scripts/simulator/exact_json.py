"""JSON whose numbers keep every digit.

The endpoint writes money as unrounded JSON numbers. A float on the way would change the last
digits, so a `Decimal` is written digit by digit, and `Raw` puts any text at all where a value
should be, including text that is no JSON (``NaN``, ``1e999``).
"""

import decimal
import json
import re
import secrets
from dataclasses import dataclass
from decimal import Decimal

# Sums of many prices stay exact; anything that would have to be rounded is a mistake here.
EXACT = decimal.Context(prec=60, traps=[decimal.Inexact, decimal.InvalidOperation])

_MARK = secrets.token_hex(8)
_MARKED = re.compile(f'"{_MARK}<(\\d+)>"')


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that goes into the JSON as it is, without quotes."""

    text: str


def dumps(value: object) -> bytes:
    """The UTF-8 JSON of `value`; every `Decimal` and `Raw` in it exactly as written."""
    texts: list[str] = []

    def mark(item: object) -> str:
        texts.append(_text_of(item))
        return f"{_MARK}<{len(texts) - 1}>"

    text = json.dumps(value, default=mark, ensure_ascii=False, separators=(",", ":"))
    if texts:
        text = _MARKED.sub(lambda match: texts[int(match[1])], text)
    return text.encode()


def plain(amount: Decimal) -> str:
    """`amount` without an exponent and without trailing zeros: ``0.0000522948192``."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text_of(item: object) -> str:
    if isinstance(item, Decimal):
        return plain(item)
    if isinstance(item, Raw):
        return item.text
    raise TypeError(f"{type(item).__name__} has no JSON form")
