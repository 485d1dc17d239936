"""What an answer means for its request: one pure function from what came back to an `Outcome`.

The way of an answer:

    Broken ──────────────────────────→ by its kind               BROKEN
    redirect, HTML, no JSON where
    nothing of the API lives ────────→ stop: wrong address
    an error, wrapped or plain ──────→ by the innermost code      RULES
    choices ─────────────────────────→ answered, with flags; or empty, or failed midway
    anything else ───────────────────→ bad body

Status 200 decides nothing: the endpoint sends it with the first keep-alive space, long before it
knows how the call will end, and then puts an error into the body.

The codes (R refused, T retry, S stop):

    endpoint.bad_request        R  400 without a better reason
    endpoint.context_length     R  more tokens than the model takes
    endpoint.model_not_found    R  400 or 404: no such model; pause the model after a few in a row
    endpoint.not_found          R  404: no provider fits the request's preferences
    endpoint.moderation         R  403: the prompt was flagged
    endpoint.forbidden          R  403 without a known reason
    endpoint.too_large          R  413
    endpoint.unprocessable      R  422
    endpoint.refused            R  any other 4xx
    endpoint.answer_too_large   R  the answer outgrew the limit; asking again would too
    endpoint.rate_limited       T  429
    endpoint.overloaded         T  503, 529
    endpoint.in_flight_budget   T  402 for a moment: too much money in flight
    endpoint.conflict           T  409, 421, 425
    endpoint.request_timeout    T  408, 499
    endpoint.5xx                T  any other 5xx, or an error without a code
    endpoint.down               T  521, 522, 523, 525: the gateway could not reach the endpoint
    endpoint.unreachable        T  nothing was sent
    endpoint.local_limit        T  nothing was sent: this machine is out of descriptors or ports
    endpoint.cut                T  the connection ended too early or spoke nonsense
    endpoint.timeout            T  the idle or total limit was reached
    endpoint.unexpected         T  the client met something unknown
    endpoint.bad_body           T  a success that is not an answer
    endpoint.empty              T  no choice, no content, no tool call
    endpoint.failed_midway      T  the model broke off: finish_reason or choice says error
    endpoint.key_rejected       S  401; 403 about the key or its role
    endpoint.insufficient_balance  S  402, or money words in a 429
    endpoint.key_limit          S  403: the key's own cap
    endpoint.redirect           S  3xx, not followed
    endpoint.wrong_address      S  HTML, or 404/405 from something that is not the API
    endpoint.certificate        S  the certificate is not the endpoint's
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from jobs.gateways import ROUBLES, Tariff
from jobs.money import is_amount, parse_amount, times
from jobs.outcome import (
    MAYBE_BILLED,
    NOT_BILLED,
    Answered,
    Billing,
    Charge,
    Outcome,
    Refused,
    Retry,
    RetryKind,
    Stop,
)
from jobs.states import PauseReason
from jobs.usage import Usage
from workers.calling import retry_after
from workers.calling.endpoint import Answer, Broken, BrokenKind, Reply

LONGEST_MESSAGE = 2048
"""Bytes of the server's text that are kept."""


Json = Any
"""Whatever an endpoint may send."""

_MOST_TOKENS = 2**40
_DEEPEST_WRAPPING = 8
_FLAGS = {
    "stop": "",
    "tool_calls": "",
    "function_call": "",
    "length": "truncated",
    "content_filter": "filtered",
}
_ODD = "odd_finish"
_MISMATCH = "model_mismatch"


def classify(answer: Answer, *, asked_model: str, now: float, tariff: Tariff = ROUBLES) -> Outcome:
    """What came of a call for `asked_model`; `now` is Unix time in seconds. Never raises.

    `tariff` tells where the endpoint puts the cost of a call, and in which money.
    """
    if isinstance(answer, Broken):
        return _broken(answer, now)
    if 300 <= answer.status < 400:
        return _redirected(answer)
    document = parse(answer.body)
    told = charge_of(document, tariff)
    error = _error_in(document, answer.status)
    if error is not None:
        return _by_code(answer, told, error, now)
    if not _succeeded(answer.status):
        return _stranger(answer, now)
    if isinstance(document, dict) and isinstance(document.get("choices"), list):
        return _chosen(document, told, document["choices"], asked_model)
    return _bad_body(answer, told)


def _succeeded(status: int) -> bool:
    return 200 <= status < 300


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────


class Number(str):
    """A number with a point or exponent as it stands in the JSON: money must not become a float."""

    __slots__ = ()


class _NoJson:
    """Not JSON; nothing else looks like it."""


NO_JSON = _NoJson()
_decoder = msgspec.json.Decoder(float_hook=Number)
_lenient = json.JSONDecoder(parse_float=Number, parse_constant=Number)


def parse(body: bytes | str) -> Json:
    """The JSON in `body`, or `NO_JSON`.

    msgspec reads it in a third of the time; Python's own reader takes over for what an answer may
    hold although JSON forbids it, or msgspec refuses: lone surrogates, NaN, a byte order mark.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_leniently(body)
    except (ValueError, RecursionError):
        return NO_JSON


def _parse_leniently(body: bytes | str) -> Json:
    try:
        text = body if isinstance(body, str) else body.decode()
        return _lenient.decode(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return NO_JSON


def _text(value: object, most: int = 200) -> str:
    """A string that can be stored and sent anywhere, of so many bytes at most; else empty."""
    if not isinstance(value, str):
        return ""
    return value[:most].encode(errors="replace")[:most].decode(errors="ignore").strip()


def _count(fields: Json, name: str) -> int:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0


# ── Money ────────────────────────────────────────────────────────────────────────────────────────


def charge_of(document: Json, tariff: Tariff = ROUBLES) -> Charge | None:
    """What a body says of its price, or None when it says nothing of one.

    Only the fields of the tariff count: `cost_details` is in dollars everywhere.
    """
    fields = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(fields, dict):
        return None
    cost = next((fields[name] for name in tariff.fields if fields.get(name) is not None), None)
    try:
        # A bool is an int and a text is a str, but neither is a price.
        amount = parse_amount(str(cost)) if type(cost) in {Number, int} else None
    except ValueError:
        amount = None
    if amount is not None and tariff.rate != 1:
        amount = times(amount, tariff.rate)
        amount = amount if is_amount(amount) else None
    billing = Billing.UNKNOWN if amount is None else Billing.KNOWN
    return Charge(billing, amount, _usage(fields), _text(document.get("provider")))


def _usage(fields: dict[str, Json]) -> Usage | None:
    prompt = fields.get("prompt_tokens_details")
    usage = Usage(
        _count(fields, "prompt_tokens"),
        _count(fields, "completion_tokens"),
        _count(prompt, "cached_tokens"),
        _count(prompt, "cache_write_tokens"),
        _count(fields.get("completion_tokens_details"), "reasoning_tokens"),
    )
    return usage if usage.total else None


def _charge(told: Charge | None, otherwise: Charge) -> Charge:
    """The body's word when it names a cost, else what the fault lets us assume."""
    if told is None:
        return otherwise
    if told.billing is Billing.KNOWN:
        return told
    return Charge(otherwise.billing, None, told.usage, told.provider)


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────


def _chosen(
    document: dict[str, Json], told: Charge | None, choices: list[Json], asked_model: str
) -> Outcome:
    charge = told or Charge(Billing.UNKNOWN, provider=_text(document.get("provider")))
    choice = choices[0] if choices and isinstance(choices[0], dict) else {}
    finish = _text(choice.get("finish_reason"))
    if choice.get("error") or finish == "error":
        message = _unwrap(choice.get("error")).message or "the model broke off"
        return Retry(RetryKind.UNCERTAIN, "endpoint.failed_midway", message, charge)
    if finish not in {"length", "content_filter"} and not _says_something(choice.get("message")):
        return Retry(RetryKind.UNCERTAIN, "endpoint.empty", "the answer has no content", charge)
    return Answered(charge, finish, _flags(finish, document.get("model"), asked_model))


def _says_something(message: Json) -> bool:
    return isinstance(message, dict) and any(
        message.get(part) for part in ("content", "tool_calls", "function_call", "refusal", "audio")
    )


def _flags(finish: str, model: object, asked_model: str) -> tuple[str, ...]:
    other = isinstance(model, str) and model.casefold() != asked_model.casefold()
    flags = (_FLAGS.get(finish, _ODD), _MISMATCH if other else "")
    return tuple(flag for flag in flags if flag)


def _bad_body(answer: Reply, told: Charge | None) -> Outcome:
    if _is_html(answer):
        return _wrong_address(answer, MAYBE_BILLED)
    message = "the body is not a chat completion"
    charge = _charge(told, MAYBE_BILLED)
    return Retry(RetryKind.UNCERTAIN, "endpoint.bad_body", message, charge)


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────


class Trouble(msgspec.Struct, frozen=True):
    """An error without its wrappings.

    `code` is the innermost one that could be an HTTP status, `said` one that a text begins with.
    `message` is the innermost text, `words` are all texts in lower case, for the rules that go by
    words; `after` is the error's own wish in seconds.
    """

    code: int | None = None
    said: int | None = None
    message: str = ""
    words: str = ""
    after: float | None = None


_SAID = re.compile(
    r"\s*(?:HTTP|Error code:?|status(?: code)?:?)\s*([1-5][0-9]{2})\b", re.IGNORECASE
)


def _error_in(document: Json, status: int) -> Trouble | None:
    """The error that a body holds; None for answers, and where no JSON of the API is."""
    if not _succeeded(status):
        known = isinstance(document, str | dict) and bool(document)
        return _unwrap(document) if known and not _is_no_such_path(document, status) else None
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        return _unwrap(document)
    if "choices" in document or not ("error" in document or _status(document.get("code"))):
        return None
    return _unwrap(document)


def _is_no_such_path(document: Json, status: int) -> bool:
    """Web frameworks say `{"detail": "Not Found"}`: the path is unknown, not the model."""
    return status in {404, 405} and not (isinstance(document, dict) and document.get("error"))


def _unwrap(value: Json) -> Trouble:
    """Goes through JSON in strings in objects, deeper than the endpoint was seen to nest them."""
    trouble = Trouble()
    for _ in range(_DEEPEST_WRAPPING):
        if isinstance(value, str):
            trouble, value = _peel_text(value, trouble)
        elif isinstance(value, dict):
            trouble, value = _peel_fields(value, trouble)
        elif isinstance(value, list) and value:
            value = value[0]
        else:
            break
    return trouble


def _peel_text(text: str, seen: Trouble) -> tuple[Trouble, Json]:
    short = _text(text, LONGEST_MESSAGE)
    said = _SAID.match(short)
    after = retry_after.from_text(short)
    trouble = Trouble(
        code=seen.code,
        said=int(said[1]) if said else seen.said,
        message=short or seen.message,
        words=f"{seen.words} {short.lower()}",
        after=seen.after if after is None else after,
    )
    return trouble, _json_within(text)


def _json_within(text: str) -> Json:
    """The string that a text is, or the object that it ends with; None if there is neither."""
    bare = text.strip()
    start = 0 if bare.startswith('"') else bare.find("{")
    if start < 0 or not bare.endswith(('"', "}")):
        return None
    found = parse(bare[start:])
    return None if found is NO_JSON else found


def _peel_fields(fields: dict[str, Json], seen: Trouble) -> tuple[Trouble, Json]:
    after = retry_after.from_fields(fields)
    trouble = Trouble(
        code=_status(fields.get("code")) or _status(fields.get("status")) or seen.code,
        said=seen.said,
        message=seen.message,
        words=f"{seen.words} {_words(fields)}",
        after=seen.after if after is None else after,
    )
    return trouble, next((fields[name] for name in _INNER if fields.get(name)), None)


_INNER = ("error", "message", "detail", "msg")


def _status(value: object) -> int | None:
    """An HTTP status of an error, given as number or text."""
    if type(value) is str and len(value) == 3 and value.isdecimal() and value.isascii():
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None


def _words(fields: dict[str, Json]) -> str:
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else ""
    texts = (fields.get("code"), fields.get("type"), fields.get("status"), raw)
    return " ".join(_text(text, LONGEST_MESSAGE) for text in texts if text).lower()


def _by_code(answer: Reply, charge: Charge | None, trouble: Trouble, now: float) -> Outcome:
    code = trouble.code or trouble.said or (NO_CODE if _succeeded(answer.status) else answer.status)
    after = retry_after.from_headers(answer.headers, now)
    told = Trouble(
        message=trouble.message or f"HTTP {code or answer.status}",
        words=trouble.words,
        after=trouble.after if after is None else after,
    )
    outcome = _rule(code)(told)
    return msgspec.structs.replace(outcome, charge=_charge(charge, outcome.charge))


def _stranger(answer: Reply, now: float) -> Outcome:
    """An error status whose body is not of the API: a proxy's page, a plain text, nothing."""
    if answer.status in {404, 405} or (_is_html(answer) and answer.status in {400, 403}):
        return _wrong_address(answer, NOT_BILLED)
    if answer.status < 400:
        return _bad_body(answer, None)
    text = "" if _is_html(answer) else answer.body[:LONGEST_MESSAGE].decode(errors="replace")
    return _by_code(answer, None, _unwrap(text), now)


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────

Rule = Callable[[Trouble], Outcome]


def _refuse(code: str) -> Rule:
    return lambda trouble: Refused(code, trouble.message)


def _retry(kind: RetryKind, code: str, charge: Charge = NOT_BILLED) -> Rule:
    return lambda trouble: Retry(kind, code, trouble.message, charge, trouble.after)


def _stop(reason: PauseReason, code: str) -> Rule:
    return lambda trouble: Stop(reason, code, trouble.message)


def _by_words(*cases: tuple[re.Pattern[str], Rule], otherwise: Rule) -> Rule:
    """The first rule whose words occur in the error."""

    def rule(trouble: Trouble) -> Outcome:
        words = f"{trouble.words} {trouble.message.lower()}"
        return next((then for found, then in cases if found.search(words)), otherwise)(trouble)

    return rule


_MONEY = re.compile(
    r"insufficient[_ ](?:funds|quota)|(?<!load )\bbalance\b|\bcredits?\b|\bspend|\bbilling\b"
    r"|\bpayment\b|\btop up\b|₽|\bруб|\bбаланс|\bсредств|monthly limit"
    r"|(?:key|total|daily|weekly) limit exceeded"
)
_LIMITED = re.compile(r"rate.?limit|too many requests")
_IN_FLIGHT = re.compile(r"in[_ -]flight")
_MODERATED = re.compile(r"moderat|flagged|content.policy|safety|prohibited content|модерац")
_KEYS = re.compile(r"\bkey\b|\brole\b|permission|not allowed|access denied|unauthorized|\bключ")
_NO_MODEL = re.compile(
    r"model.not.found|not a valid model|invalid model|unknown model|no such model"
    r"|no endpoints found for|model\b.{0,120}(?:not found|does not exist|not exist|not available)"
    r"|модел\w*.{0,120}не (?:найден|существует|доступн)"
)
_TOO_LONG = re.compile(r"context.length|maximum context|context window|too many tokens|too long")

_THROTTLED = _retry(RetryKind.THROTTLED, "endpoint.rate_limited")
_OVERLOADED = _retry(RetryKind.THROTTLED, "endpoint.overloaded")
_NO_BALANCE = _stop(PauseReason.INSUFFICIENT_BALANCE, "endpoint.insufficient_balance")
_BAD_KEY = _stop(PauseReason.KEY_REJECTED, "endpoint.key_rejected")
_MODEL_NOT_FOUND = _refuse("endpoint.model_not_found")
_PASSING = _retry(RetryKind.PASSING, "endpoint.5xx", MAYBE_BILLED)
_TIMED_OUT = _retry(RetryKind.PASSING, "endpoint.request_timeout", MAYBE_BILLED)
_CONFLICT = _retry(RetryKind.PASSING, "endpoint.conflict")
_DOWN = _retry(RetryKind.THROTTLED, "endpoint.down")
_REFUSED = _refuse("endpoint.refused")

NO_CODE = 0
"""An error under a success that does not say which: as a 502, unless its words say more."""

RULES: dict[int, Rule] = {
    NO_CODE: _by_words((_MONEY, _NO_BALANCE), (_LIMITED, _THROTTLED), otherwise=_PASSING),
    400: _by_words(
        (_NO_MODEL, _MODEL_NOT_FOUND),
        (_TOO_LONG, _refuse("endpoint.context_length")),
        otherwise=_refuse("endpoint.bad_request"),
    ),
    401: _BAD_KEY,
    402: _by_words(
        (_IN_FLIGHT, _retry(RetryKind.THROTTLED, "endpoint.in_flight_budget")),
        otherwise=_NO_BALANCE,
    ),
    403: _by_words(
        (_MODERATED, _refuse("endpoint.moderation")),
        (_MONEY, _stop(PauseReason.INSUFFICIENT_BALANCE, "endpoint.key_limit")),
        (_KEYS, _BAD_KEY),
        otherwise=_refuse("endpoint.forbidden"),
    ),
    404: _by_words((_NO_MODEL, _MODEL_NOT_FOUND), otherwise=_refuse("endpoint.not_found")),
    408: _TIMED_OUT,
    409: _CONFLICT,
    413: _refuse("endpoint.too_large"),
    421: _CONFLICT,
    422: _refuse("endpoint.unprocessable"),
    425: _CONFLICT,
    429: _by_words((_MONEY, _NO_BALANCE), otherwise=_THROTTLED),
    499: _TIMED_OUT,
    503: _by_words((_MONEY, _NO_BALANCE), otherwise=_OVERLOADED),
    # Cloudflare's: 520 and 524 came after the request was passed on, these before.
    521: _DOWN,
    522: _DOWN,
    523: _DOWN,
    525: _DOWN,
    529: _OVERLOADED,
}


def _rule(code: int) -> Rule:
    return RULES.get(code) or (_REFUSED if 400 <= code < 500 else _PASSING)


# ── The wrong place ──────────────────────────────────────────────────────────────────────────────


def _is_html(answer: Reply) -> bool:
    kind = answer.headers.get("content-type", "")
    claims = kind.startswith("text/html") and answer.body != b"" and parse(answer.body) is NO_JSON
    return answer.body.startswith(b"<") or claims


def _redirected(answer: Reply) -> Outcome:
    host = _host(answer.headers.get("location", ""))
    message = f"HTTP {answer.status} to {host or 'another address'}: check the base URL"
    return Stop(PauseReason.MISCONFIGURED, "endpoint.redirect", message)


def _host(location: str) -> str:
    try:
        return _text(urlsplit(location).hostname)
    except ValueError:
        return ""


def _wrong_address(answer: Reply, charge: Charge) -> Outcome:
    message = f"HTTP {answer.status} with a page that is not the API's: check the base URL"
    return Stop(PauseReason.MISCONFIGURED, "endpoint.wrong_address", message, charge)


# ── Broken calls ─────────────────────────────────────────────────────────────────────────────────

BROKEN: dict[BrokenKind, Rule] = {
    BrokenKind.UNREACHABLE: _retry(RetryKind.UNREACHABLE, "endpoint.unreachable"),
    BrokenKind.EXHAUSTED: _retry(RetryKind.UNREACHABLE, "endpoint.local_limit"),
    BrokenKind.CERTIFICATE: _stop(PauseReason.MISCONFIGURED, "endpoint.certificate"),
    BrokenKind.CUT: _retry(RetryKind.UNCERTAIN, "endpoint.cut", MAYBE_BILLED),
    BrokenKind.TIMEOUT: _retry(RetryKind.UNCERTAIN, "endpoint.timeout", MAYBE_BILLED),
    BrokenKind.TOO_LARGE: lambda trouble: Refused(
        "endpoint.answer_too_large", trouble.message, MAYBE_BILLED
    ),
    BrokenKind.UNEXPECTED: _retry(RetryKind.UNCERTAIN, "endpoint.unexpected", MAYBE_BILLED),
}


def _broken(broken: Broken, now: float) -> Outcome:
    """By its kind; but a status that came before the break says more than the break."""
    if broken.status is not None and broken.status >= 300:
        head = Reply(broken.status, broken.headers, b"", broken.latency_s)
        return _redirected(head) if broken.status < 400 else _by_code(head, None, Trouble(), now)
    return BROKEN[broken.kind](Trouble(message=broken.detail))
