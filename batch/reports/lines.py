"""One line of output.jsonl or errors.jsonl: OpenAI's Batch form and one key more."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

import msgspec

from batch.reports.rows import Row
from jobs.money import plain
from jobs.result import ResultState

_encode = msgspec.json.Encoder().encode
_checks = msgspec.json.Decoder(msgspec.Raw)
_lenient = json.JSONDecoder(parse_float=str)

_MOST_TEXT = 2048
"""Characters of an answer that is not JSON, beside a failure that it explains."""

_REFUSED = 400

_DEEPEST = 200
"""Brackets within brackets that a line may hold: other programs' readers have a limit, too."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_GIANT = re.compile(rb"[0-9]{4000}")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+')


def output_line(row: Row) -> bytes:
    """A completed request."""
    return (
        _encode(
            {
                "id": f"request-{row.line}",
                "custom_id": row.custom_id,
                "response": {
                    "status_code": row.status,
                    "request_id": row.request_id,
                    "body": embedded(row.body),
                },
                "error": None,
                "nightshift": {
                    **_facts(row),
                    "latency_s": round(row.latency_s, 3),
                    **({"flags": row.flags} if row.flags else {}),
                },
            }
        )
        + b"\n"
    )


def error_line(row: Row, not_run: str = "") -> bytes:
    """A failed request, or one that was not run for the reason `not_run`.

    A refusal that came as an answer stands under `response`; where no answer came, `response` is
    null and `error` tells why: so does OpenAI. An answer that is not JSON is told in `nightshift`.
    """
    code = row.code or f"not_run.{not_run}"
    message = row.message or "the job ended before this request was sent"
    answered = row.status is not None and (row.body or row.status >= _REFUSED)
    body = embedded(row.body) if answered else None
    refusal = body if _has_error(body) else {"error": {"code": code, "message": message}}
    facts = {**_facts(row), "code": code, "message": message}
    if isinstance(body, str) and body:
        facts["raw"] = body[:_MOST_TEXT]
    return (
        _encode(
            {
                "id": f"request-{row.line}",
                "custom_id": row.custom_id,
                "response": {
                    "status_code": row.status,
                    "request_id": row.request_id,
                    "body": refusal,
                }
                if answered
                else None,
                "error": None if answered else {"code": code, "message": message},
                "nightshift": facts,
            }
        )
        + b"\n"
    )


def fault_line(fault: sqlite3.Row) -> bytes:
    """An input line that was no request."""
    return (
        _encode(
            {
                "id": f"request-{fault['line']}",
                "custom_id": fault["custom_id"],
                "response": None,
                "error": {"code": fault["code"], "message": fault["message"]},
                "nightshift": {
                    "line": fault["line"],
                    "attempts": 0,
                    "cost_rub": "0",
                    "cost_source": "none",
                    "code": fault["code"],
                    "message": fault["message"],
                },
            }
        )
        + b"\n"
    )


def line_of(row: Row) -> bytes:
    """The line of a finished request, in whichever file it belongs."""
    return output_line(row) if row.state is ResultState.COMPLETED else error_line(row)


def _facts(row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "line": row.line,
        "attempts": row.attempts,
        "cost_rub": plain(row.cost),
        "cost_source": row.source,
    }
    if row.copy_of is not None:
        facts["copy_of"] = row.copy_of
    if row.uncertain:
        facts["uncertain_rub"] = plain(row.uncertain)
    return facts


def _has_error(body: msgspec.Raw | str | None) -> bool:
    """Whether an answer is a refusal in the API's own form."""
    if not isinstance(body, msgspec.Raw):
        return False
    try:
        document = _lenient.decode(bytes(body).decode())
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and bool(document.get("error"))


def embedded(body: bytes) -> msgspec.Raw | str:
    """A raw answer for a line of JSON: as it came if it is JSON, else as text, whole.

    What the classifier bears although JSON forbids it is mended: a byte order mark goes, and NaN
    and Infinity become texts. Line breaks between tokens are blanks; in strings none can stand.
    """
    bare = body.removeprefix(_BOM).strip(_BLANK)
    if len(bare) > _DEEPEST and not _is_readable(bare):
        return body.decode(errors="replace")
    try:
        text = bare.decode()
        _checks.decode(bare)
    except UnicodeDecodeError:
        return body.decode(errors="replace")
    except (ValueError, RecursionError):
        return _mended(text)
    return msgspec.Raw(_on_one_line(bare))


def _is_readable(bare: bytes) -> bool:
    """Whether every reader can bear its numbers and its depth."""
    if len(bare) >= 4000 and _GIANT.search(bare):
        return False
    if bare.count(b"[") + bare.count(b"{") <= _DEEPEST:
        return True
    depth = deepest = 0
    for bracket in _BRACKETS.sub(b"", bare):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest <= _DEEPEST


def _mended(text: str) -> msgspec.Raw | str:
    """Of lone surrogates, and of NaN and Infinity as texts; not JSON even so, it is a text."""
    try:
        _lenient.decode(text)
    except (ValueError, RecursionError):
        return text
    return msgspec.Raw(_on_one_line(_TOKENS.sub(_as_text, text).encode()))


def _as_text(token: re.Match[str]) -> str:
    found = token[0]
    return found if found.startswith('"') else f'"{found}"'


def _on_one_line(bare: bytes) -> bytes:
    if b"\n" in bare or b"\r" in bare:
        return bare.replace(b"\r", b" ").replace(b"\n", b" ")
    return bare
