"""One line of output.jsonl or errors.jsonl: OpenAI's Batch form and one key more."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from batch.reports.rows import Row
from jobs.money import plain
from jobs.result import ResultState

_encode = msgspec.json.Encoder().encode
_MOST_TEXT = 2048


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
                    "body": _embedded(row.body),
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
    null and `error` tells why: so does OpenAI.
    """
    code = row.code or f"not_run.{not_run}"
    message = row.message or "the job ended before this request was sent"
    answered = row.status is not None and row.body
    return (
        _encode(
            {
                "id": f"request-{row.line}",
                "custom_id": row.custom_id,
                "response": _refusal(row, code, message) if answered else None,
                "error": None if answered else {"code": code, "message": message},
                "nightshift": {**_facts(row), "code": code, "message": message},
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
    if row.uncertain:
        facts["uncertain_rub"] = plain(row.uncertain)
    return facts


def _refusal(row: Row, code: str, message: str) -> dict[str, Any]:
    body: Any = _embedded(row.body)
    if not isinstance(body, msgspec.Raw) or b'"error"' not in row.body:
        body = {"error": {"code": code, "message": message}}
    return {"status_code": row.status, "request_id": row.request_id, "body": body}


def _embedded(body: bytes) -> msgspec.Raw | str:
    """The raw answer as it came, on one line; as text if it is not JSON."""
    try:
        msgspec.json.decode(body)
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body[:_MOST_TEXT].decode(errors="replace")
    # Line breaks between JSON's tokens are white space; within strings they cannot stand raw.
    return msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in body else body)
