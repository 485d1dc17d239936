"""One line of output.jsonl or errors.jsonl: OpenAI's Batch form and one key more."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from batch.reports.rows import Row
from jobs.job_options import Spec
from jobs.money import plain
from jobs.result import ResultState

_encode = msgspec.json.Encoder().encode
_NOTHING = frozenset({b"null", b"false", b"0", b'""', b"{}", b"[]"})
_checks = msgspec.json.Decoder(msgspec.Raw)
_lenient = json.JSONDecoder(parse_float=str)

_MOST_TEXT = 2048
"""Characters of an answer that is not JSON, beside a failure that it explains."""

_REFUSED = 400

HALF_PAIR = "lone_surrogate"
"""The flag of an answer in which half of a surrogate pair was replaced: readers stop at it."""

_DEEPEST = 200
"""Brackets within brackets that a line may hold: other programs' readers have a limit, too."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_GIANT = re.compile(rb"[0-9]{4000}")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_BREAKS = (
    (b"\xc2", b"\xc2\x85", b"\\u0085"),
    (b"\xa8", b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xa9", b"\xe2\x80\xa9", b"\\u2029"),
)
"""Where str.splitlines() ends a line, too, beside the controls, which JSON escapes anyway."""

_STEPS = [0] * 256
_STEPS[ord("[")] = _STEPS[ord("{")] = 1
_STEPS[ord("]")] = _STEPS[ord("}")] = -1
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_QUOTED = re.compile(rb'"[^"]*"')


def output_line(row: Row, job: str) -> bytes:
    """A completed request of a job."""
    body, flags = embedded(row.body)
    flags = (*row.flags, *flags)
    facts = {**_facts(row), "latency_s": round(row.latency_s, 3)}
    if row.answer is not None:
        facts["answer"] = row.answer
    return _line(
        job,
        row.line,
        custom_id=row.custom_id,
        response=_response(row, body),
        error=None,
        nightshift={**facts, "flags": flags} if flags else facts,
    )


def error_line(row: Row, job: str, not_run: str = "") -> bytes:
    """A failed request, or one that was not run for the reason `not_run`.

    A refusal that came under an HTTP status of its own stands under `response`. Else `response` is
    null and `error` tells why: so does OpenAI. An error or a useless answer under status 200 stands
    under `nightshift`, where nobody who decides by `status_code` or by `error` takes it for a
    success. An answer that is not JSON is quoted in `nightshift`.
    """
    code = row.code or f"not_run.{not_run}"
    message = row.message or "the job ended before this request was sent"
    error = {"code": code, "message": message}
    body, flags = embedded(row.body)
    facts = {**_facts(row), **error}
    if flags:
        facts["flags"] = flags
    if isinstance(body, str) and body:
        facts["raw"] = body[:_MOST_TEXT]
    refused = row.status is not None and row.status >= _REFUSED
    if row.status is not None and not refused:
        facts["response"] = _response(row, None if isinstance(body, str) else body)
    return _line(
        job,
        row.line,
        custom_id=row.custom_id,
        response=_response(row, body if _has_error(body) else {"error": error})
        if refused
        else None,
        error=None if refused else error,
        nightshift=facts,
    )


def fault_line(fault: sqlite3.Row, job: str) -> bytes:
    """An input line that was no request."""
    error = {"code": fault["code"], "message": fault["message"]}
    free = {"attempts": 0, "cost_rub": "0", "cost_source": "none"}
    return _line(
        job,
        fault["line"],
        custom_id=fault["custom_id"],
        response=None,
        error=error,
        nightshift={"line": fault["line"], **free, **error},
    )


def input_line(custom_id: str, body: bytes, kind: str) -> bytes:
    """A request of some kind as a line of an input: its body byte for byte."""
    head = b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}\n'
    return head % (_encode(custom_id), _encode(kind), body)


def batch_output_line(row: Row, job: str) -> bytes:
    """A completed request of a batch: OpenAI's form and nothing else."""
    body, _ = embedded(row.body)
    response = _response(row, body)
    return _line(job, row.line, custom_id=row.custom_id, response=response, error=None)


def batch_error_line(row: Row, job: str, not_run: str = "") -> bytes:
    """A request of a batch that failed, or was not run, as OpenAI's API tells it."""
    code, message = row.code, row.message
    if row.state is None:
        code, message = _NOT_RUN.get(not_run, ("batch_failed", "This request was not executed."))
    error = {"code": code, "message": message}
    refused = row.status is not None and row.status >= _REFUSED
    body, _ = embedded(row.body)
    return _line(
        job,
        row.line,
        custom_id=row.custom_id,
        response=_response(row, body if _has_error(body) else {"error": _in_full(error)})
        if refused
        else None,
        error=None if refused else error,
    )


_NOT_RUN = {
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
    "deadline": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
}


def _in_full(error: dict[str, str]) -> dict[str, str | None]:
    return {"message": error["message"], "type": None, "param": None, "code": error["code"]}


class Form(NamedTuple):
    """How the lines of a job's files are written: of an answer, and of a failure."""

    output: Callable[[Row, str], bytes]
    error: Callable[[Row, str, str], bytes]


def form_of(spec: Spec) -> Form:
    """Ours, or for what came through the Batch API just OpenAI's."""
    if spec.origin is None:
        return Form(output_line, error_line)
    return Form(batch_output_line, batch_error_line)


def line_of(row: Row, job: str) -> bytes:
    """The line of a finished request, in whichever file it belongs."""
    completed = row.state is ResultState.COMPLETED
    return output_line(row, job) if completed else error_line(row, job)


def _line(job: str, line: int, **fields: Any) -> bytes:
    """One line for all readers: also for those that split at every line break of Unicode."""
    encoded = _encode({"id": f"batch_req_{job.removeprefix('job_')}_{line}", **fields})
    for telling, character, escape in _BREAKS:
        # A search for one byte takes a tenth of the time.
        if telling in encoded:
            encoded = encoded.replace(character, escape)
    return encoded + b"\n"


def _response(row: Row, body: object) -> dict[str, Any]:
    return {"status_code": row.status, "request_id": row.request_id, "body": body}


def _facts(row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "line": row.line,
        "attempts": row.attempts,
        "cost_rub": plain(row.cost),
        "cost_source": row.source,
    }
    if row.together > 1:
        facts["together"] = row.together
    if row.copy_of is not None:
        facts["copy_of"] = row.copy_of
    if row.reused_from is not None:
        facts["reused_from"] = row.reused_from
    if row.unknown:
        facts["uncertain_calls"] = row.unknown
        facts["uncertain_rub"] = plain(row.uncertain) if row.bounded else None
    return facts


class _Refusal(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


_refusal = msgspec.json.Decoder(_Refusal)


def _has_error(body: msgspec.Raw | str | None) -> bool:
    """Whether an answer is a refusal in the API's own form."""
    if not isinstance(body, msgspec.Raw):
        return False
    try:
        error = bytes(_refusal.decode(body).error)
    except (ValueError, RecursionError):
        return False
    return error not in _NOTHING


def embedded(body: bytes) -> tuple[msgspec.Raw | str, tuple[str, ...]]:
    """A raw answer for a line of JSON: as it came if it is JSON, else as text, whole; and flags.

    What the classifier bears although JSON forbids it is mended: a byte order mark goes, NaN and
    Infinity become texts, half a surrogate pair becomes U+FFFD, which is flagged. Line breaks
    between tokens are blanks; in strings none can stand.
    """
    bare = body.removeprefix(_BOM).strip(_BLANK)
    if len(bare) > _DEEPEST and not _is_readable(bare):
        return body.decode(errors="replace"), ()
    try:
        text = bare.decode()
        _checks.decode(bare)
    except UnicodeDecodeError:
        return body.decode(errors="replace"), ()
    except (ValueError, RecursionError):
        return _mended(text)
    return msgspec.Raw(_on_one_line(bare)), ()


def _mended(text: str) -> tuple[msgspec.Raw | str, tuple[str, ...]]:
    """Of NaN and Infinity, and of half pairs; not JSON even so, it is a text."""
    numbered = _TOKENS.sub(_as_text, text)
    try:
        _lenient.decode(numbered)
    except (ValueError, RecursionError):
        return text, ()
    whole = _ESCAPES.sub(_as_character, numbered)
    return msgspec.Raw(_on_one_line(whole.encode())), () if whole == numbered else (HALF_PAIR,)


def _is_readable(bare: bytes) -> bool:
    """Whether every reader can bear its numbers and its depth."""
    if len(bare) >= 4000 and _GIANT.search(bare):
        return False
    return bare.count(b"[") + bare.count(b"{") <= _DEEPEST or _is_flat(bare)


def _is_flat(bare: bytes) -> bool:
    """Whether brackets stand in brackets no deeper than they may.

    Without an object for each token, which takes a hundred times the size of an answer that is all
    brackets.
    """
    bare = bare.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_BRACKETS)
    # Where one string ends and the next one begins, or an empty one stands: the parity stays.
    brackets = _outside_of_strings(bare.replace(b'""', b""))
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) <= _DEEPEST


def _outside_of_strings(bare: bytes) -> bytearray:
    found, at = bytearray(), 0
    for quoted in _QUOTED.finditer(bare):
        found += bare[at : quoted.start()]
        at = quoted.end()
    return found + bare[at:]


def _as_text(token: re.Match[str]) -> str:
    found = token[0]
    return found if found.startswith('"') else f'"{found}"'


def _as_character(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["half"] else escape[0]


def _on_one_line(bare: bytes) -> bytes:
    if b"\n" in bare or b"\r" in bare:
        return bare.replace(b"\r", b" ").replace(b"\n", b" ")
    return bare
