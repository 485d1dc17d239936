"""What an answer means for its request: one pure function from what came back to an `Outcome`.

The way of an answer:

    Broken ──────────────────────────→ by its kind                         BROKEN
    redirect, HTML, no JSON where
    nothing of the API lives ────────→ stop: wrong address
    an error, wrapped or plain ──────→ by what it says to programs         CODES
                                       else by the innermost HTTP code     RULES
                                       and there by a delay it names, then by its words
    choices ─────────────────────────→ answered, with flags; or empty, or failed midway
    anything else ───────────────────→ bad body

A `Stop` is what one answer says of the key, the address, the model or the money. Whether it is
believed is decided elsewhere, by what else the endpoint answers (`workers.pacing.stop_verdict`).

Status 200 decides nothing: the endpoint sends it with the first keep-alive space, long before it
knows how the call will end, and then puts an error into the body.

The codes (R refused, T retry, S stop):

    endpoint.bad_request        R  400 without a better reason
    endpoint.context_length     R  more tokens than the model takes
    endpoint.model_not_found    R  400 or 404: no such model; pause the model after a few in a row
    endpoint.not_found          R  404: no provider fits the request's preferences
    endpoint.moderation         R  403: the prompt was flagged
    endpoint.forbidden          R  403 without a known reason
    endpoint.too_large          R  413; 429 for a request larger than the whole limit
    endpoint.blocked            S  403, 406 with a page: a firewall, of this text or of all
    endpoint.lost_body          T  400: it says that we sent none of what we did send; once more
    endpoint.no_quota           T  429: the limit is 0
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
    endpoint.stale              T  nothing was read: an idle connection had been closed
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

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from jobs.gateways import ROUBLES, Tariff
from jobs.message import N_
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
from jobs.pause_reasons import PauseReason
from jobs.request_kinds import CHAT, KINDS, Kind, Said, usual_end
from workers.calling import foreign_responses, retry_after
from workers.calling.bill import charge, charge_of, served_by
from workers.calling.endpoint import Answer, Broken, BrokenKind, Reply
from workers.calling.error_body import LONGEST_MESSAGE, Trouble, unwrap
from workers.calling.reading import NO_JSON, Json, parse, text_of

__all__ = ["BROKEN", "LONGEST_MESSAGE", "classify"]

_FLAGS = {
    "stop": "",
    "tool_calls": "",
    "function_call": "",
    "length": "truncated",
    "content_filter": "filtered",
}
_ODD = "odd_finish"
_MISMATCH = "model_mismatch"
_REFUSAL = "refusal"
_THOUGHT = "only_reasoning"


def classify(
    answer: Answer,
    *,
    asked_model: str,
    now: float,
    tariff: Tariff = ROUBLES,
    kind: str = CHAT.url,
) -> Outcome:
    """What came of a call for `asked_model`; `now` is Unix time in seconds. Never raises.

    `tariff` tells where the endpoint puts the cost of a call, and in which money; `kind` is what
    was asked (`jobs.request_kinds`).
    """
    asked = KINDS[kind]
    if isinstance(answer, Broken):
        return _broken(answer, now)
    if 300 <= answer.status < 400:
        return _redirected(answer)
    document, form = foreign_responses.read(answer, asked)
    told = charge_of(document, tariff, answer.headers)
    error = _error_in(document, answer, now, asked)
    if error is not None:
        return _by_code(answer, told, error, now)
    if not _succeeded(answer.status):
        return _stranger(answer, now, asked)
    if isinstance(document, dict) and isinstance(document.get(asked.answers), list):
        return _answered(document, told, form, asked_model, asked)
    return _bad_body(answer, told, asked)


def _succeeded(status: int) -> bool:
    return 200 <= status < 300


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────


def _answered(
    document: dict[str, Json], told: Charge | None, form: bytes, asked_model: str, kind: Kind
) -> Outcome:
    billed = told or Charge(Billing.UNKNOWN, provider=served_by(document))
    said = kind.read(document)
    finish = text_of(said.finish)
    if said.error or finish.lower() == "error":
        message = unwrap(said.error, 0.0).message or "the model stopped with an error"
        return Retry(RetryKind.UNCERTAIN, "endpoint.failed_midway", message, billed)
    finish = usual_end(finish)
    flags = _flags(finish, said, document.get("model"), asked_model)
    if finish not in {"length", "content_filter"} and not (said.content or said.reasoning):
        return Retry(RetryKind.UNCERTAIN, "endpoint.empty", N_("the answer has no content"), billed)
    return Answered(billed, finish, flags, form)


def _flags(finish: str, said: Said, model: object, asked_model: str) -> tuple[str, ...]:
    flags = (
        _FLAGS.get(finish, _ODD),
        _REFUSAL if said.refusal else "",
        _THOUGHT if said.reasoning and not said.content else "",
        _MISMATCH if isinstance(model, str) and model and not _is_same(model, asked_model) else "",
    )
    return tuple(filter(None, flags))


_VARIANT = re.compile(r"[@:].*$")
_DATED = re.compile(r"[-.@_](?:20[0-9]{2}-?[01][0-9]-?[0-3][0-9]|[01][0-9][0-3][0-9]|latest)$")


@lru_cache(maxsize=256)  # the same few names with each answer
def _is_same(model: str, asked: str) -> bool:
    """Whether two names are of one model: of an author or without, dated or not.

    An alias stands for whatever is the latest, so nothing else is expected of it.
    """
    if asked.startswith("~") or asked.endswith("-latest"):
        return True
    one, other = (_DATED.sub("", _bare(name)) for name in (model, asked))
    return one == other or _bare(model).startswith(f"{other}-20")


def _bare(name: str) -> str:
    return _VARIANT.sub("", name.casefold().rpartition("/")[2])


def _bad_body(answer: Reply, told: Charge | None, kind: Kind) -> Outcome:
    if _is_html(answer):
        return _wrong_address(answer, MAYBE_BILLED if answer.generation_id else NOT_BILLED, kind)
    packed = answer.headers.get("content-encoding", "identity").strip().lower()
    # Of JSON only what it says to people: the rest may be half an answer.
    said = "" if answer.body.lstrip()[:1] in (b"{", b"[", b'"') else _plain(answer)
    said = said or unwrap(parse(answer.body), 0.0).message
    message = N_("the response is not a chat completion")
    if said:
        message = N_("the response is not a chat completion: {words}", words=said)
    if kind is not CHAT:
        message = N_("the response is not one of {url}", url=kind.url)
        if said:
            message = N_("the response is not one of {url}: {words}", url=kind.url, words=said)
    if packed not in {"", "identity", "gzip", "x-gzip", "deflate", "zstd"}:
        message = N_(
            "the response is compressed as {encoding!r}, which was not requested",
            encoding=text_of(packed, 40),
        )
    billed = charge(told, MAYBE_BILLED)
    if told is not None and b'"%b"' % kind.answers.encode() not in answer.body:
        # An answer in the form of another API: it would cost as much again, in the same form.
        return Refused("endpoint.bad_body", message, billed)
    return Retry(RetryKind.UNCERTAIN, "endpoint.bad_body", message, billed)


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────


def _error_in(document: Json, answer: Reply, now: float, kind: Kind) -> Trouble | None:
    """The error that a body holds; None for answers, and where no JSON of the API is."""
    if not _succeeded(answer.status):
        known = isinstance(document, str | dict | list) and bool(document)
        trouble = _unwrapped(document, answer, now) if known else None
        return None if trouble is None or _is_no_such_path(trouble, answer.status) else trouble
    if not isinstance(document, dict):
        return None
    if document.get("error") and not _is_answer(document, kind):
        return _unwrapped(document, answer, now)
    if document.get(kind.answers):
        return None
    named = "error" in document and kind.answers not in document
    return _unwrapped(document, answer, now) if named or _says_so(document) else None


def _unwrapped(document: Json, answer: Reply, now: float) -> Trouble:
    return unwrap(document, retry_after.answered_at(answer.headers, now))


def _is_answer(document: dict[str, Json], kind: Kind) -> bool:
    """Whether a whole answer stands beside an `error`, which then is no more than a remark."""
    if not isinstance(document.get(kind.answers), list):
        return False
    said = kind.read(document)
    return bool(said.finish) and (said.content or said.reasoning)


def _says_so(document: dict[str, Json]) -> bool:
    """Whether it is an error without the word: a code, or a text for the person alone."""
    coded = unwrap({"code": document.get("code")}, 0.0).code is not None
    failed = (
        document.get("success") is False
        or bool(document.get("errors"))
        or document.get("status") in _FAILED
        or any(document.get(name) not in _FINE for name in ("code", "error_code"))
    )
    bad = isinstance(inner := document.get("base_resp"), dict) and inner.get("status_code")
    return coded or bool(bad) or (failed and any(document.get(name) for name in _TEXTS))


_TEXTS = ("message", "msg", "detail", "error_msg", "errors", "description")
_FAILED = ("error", "fail", "failed", "failure")
_FINE = (None, "", 0, "0", 200, "200")


_NO_PATH = re.compile(
    r"(?:404:? ?)?(?:not found|page not found|method not allowed|resource not found\.?)?|"
    r"cannot (?:post|get) .*|(?:no|unknown|invalid) (?:route|url|path|static resource)\b.*|"
    r"(?:unrecognized|unknown) request url.*|route .*not found.*|no message available"
)


def _is_no_such_path(trouble: Trouble, status: int) -> bool:
    """Web frameworks say `{"detail": "Not Found"}`: the path is unknown, not the model."""
    if status not in {404, 405}:
        return False
    words = trouble.message.lower().strip()
    return status == 405 or _NO_PATH.fullmatch(words, 0, 300) is not None


def lacks_path(answer: Answer) -> bool:
    """Whether there is nothing at all where it was asked."""
    if not isinstance(answer, Reply) or answer.status not in {404, 405, 501}:
        return False
    document = parse(answer.body)
    if not isinstance(document, str | dict | list):
        return True
    trouble = unwrap(document, 0.0)
    return answer.status == 501 or _is_no_such_path(trouble, answer.status)


def _by_code(answer: Reply, billed: Charge | None, trouble: Trouble, now: float) -> Outcome:
    code = trouble.code or trouble.said or (NO_CODE if _succeeded(answer.status) else answer.status)
    after = retry_after.from_headers(answer.headers, now)
    told = msgspec.structs.replace(
        trouble,
        message=trouble.message or f"HTTP {code or answer.status}",
        after=trouble.after if after is None else after,
    )
    outcome = _rule(code, told)(told)
    return msgspec.structs.replace(outcome, charge=charge(billed, outcome.charge))


def _stranger(answer: Reply, now: float, kind: Kind) -> Outcome:
    """An error status whose body is not of the API: a proxy's page, a plain text, nothing."""
    if answer.status in {403, 406} and _is_html(answer):
        return Stop(PauseReason.MISCONFIGURED, "endpoint.blocked", _page(answer))
    if answer.status in {404, 405} or (_is_html(answer) and answer.status == 400):
        return _wrong_address(answer, NOT_BILLED, kind)
    if answer.status < 400:
        return _bad_body(answer, None, kind)
    text = (
        _heading(answer)
        if _is_html(answer)
        else answer.body[:LONGEST_MESSAGE].decode(errors="replace")
    )
    return _by_code(answer, None, unwrap(text, now), now)


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────

Rule = Callable[[Trouble], Outcome]


def _refuse(code: str) -> Rule:
    return lambda trouble: Refused(code, trouble.message)


def _name_the_bound(trouble: Trouble) -> Outcome:
    """It wants the bound of an answer under its other name."""
    way = "--max-tokens-field max_completion_tokens"
    return Refused("endpoint.bad_request", f"{trouble.message} ({way})")


def _retry(kind: RetryKind, code: str, billed: Charge = NOT_BILLED) -> Rule:
    return lambda trouble: Retry(kind, code, trouble.message, billed, trouble.after)


def _stop(reason: PauseReason, code: str) -> Rule:
    return lambda trouble: Stop(reason, code, trouble.message)


Case = Callable[[Trouble], bool]


def _says(pattern: re.Pattern[str]) -> Case:
    return lambda trouble: (
        pattern.search(f"{trouble.codes} {trouble.words} {trouble.message.lower()}") is not None
    )


def _names_a_delay(trouble: Trouble) -> bool:
    return trouble.after is not None


def _by(*cases: tuple[Case, Rule], otherwise: Rule) -> Rule:
    """The first rule whose case holds."""
    return lambda trouble: next((then for case, then in cases if case(trouble)), otherwise)(trouble)


_MONEY = _says(
    re.compile(
        r"insufficient[_ ](?:funds|quota|balance)|(?<!load )\bbalance\b|\bcredits?\b|\bspend"
        r"|\bbilling\b|\bpayment\b|\btop up\b|₽|\bруб|\bбаланс|\bсредств|monthly limit"
        r"|(?:key|total|daily|weekly) limit exceeded|余额|额度|欠费|充值|arrears"
    )
)
_NO_MONEY = _says(
    re.compile(
        r"insufficient[_ ](?:funds|quota|balance|credit)|(?:credit|account) balance is too low"
        r"|(?:out of|not enough|no) (?:credits?|money|funds)\b|余额不足|欠费|недостаточно средств"
        r"|пополните (?:баланс|сч[её]т)|баланс исчерпан|account (?:is |has been )?suspended"
    )
)
"""What nobody says who means anything else."""

_LIMITED = _says(
    re.compile(
        r"rate.?limit|too many (?:requests|tokens, please)|throttl|slow down|please wait before"
        r"|being rate limited|(?:request|qps|call)s? limit|quota will be replenished"
        r"|限流|频率|并发|слишком (?:много|часто)"
        r"|превы\w+ (?:лимит|числ|количеств|частот)\w* запрос"
    )
)
_BY_TIME = _says(
    re.compile(r"(?:requests?|tokens?) per|per (?:min|sec|hour|day)|\b[rt]p[mds]\b|free.?tier")
)
_NOUGHT = _says(re.compile(r"\blimit(?: of|:|=)? ?0\b(?![.,][0-9])|quota(?: of|:) ?0\b"))
_IN_FLIGHT = _says(re.compile(r"in[_ -]flight"))
_MODERATED = _says(
    re.compile(
        r"moderat|flagged|content.?(?:policy|filter|management)|safety|prohibited content"
        r"|inappropriate content|responsible.?ai|sensitive|модерац|敏感"
    )
)
_FIREWALL = _says(re.compile(r"firewall|\bwaf\b|security (?:rule|policy)|request (?:was )?blocked"))
_KEYS = _says(
    re.compile(r"\bkey\b|\brole\b|permission|not allowed|access denied|unauthorized|\bключ")
)
_BAD_API_KEY = _says(
    re.compile(
        r"(?:invalid|incorrect|expired|unknown) (?:api.?key|(?:access |api )?token)"
        r"|(?:api.?key|token) (?:not valid|(?:is )?(?:not valid|invalid)|(?:has )?expired)"
    )
)
_NO_MODEL = _says(
    re.compile(
        r"model.not.found|not a valid model|invalid model|unknown model|no such model"
        r"|no endpoints found for|model\b.{0,120}(?:not found|(?:does )?not exist|not available"
        r"|deprecated|decommissioned|no longer (?:available|supported|served))"
        r"|(?:not|n't) have access to (?:the )?model|deployment\b.{0,80}not (?:exist|found)"
        r"|модел\w*.{0,120}не (?:найден|существует|доступн)|模型.{0,60}不存在"
    )
)
_TOO_LONG = _says(
    re.compile(r"context.?length|maximum context|context.?window|too many tokens|too long|超长")
)
_OTHER_BOUND = _says(re.compile(r"use '?max_completion_tokens'? instead"))
_LOST_BODY = _says(
    re.compile(
        r"no models? (?:was |were )?provided"
        r"|(?:model|messages) (?:is|are|field is) (?:required|missing|empty)"
        r"|(?:missing|empty|no) (?:request )?body\b|unexpected end of (?:json|input)"
        r"|(?:could not|failed to|cannot) parse (?:the )?(?:json|request|body)"
        r"|must provide a model"
    )
)
"""A request that was read here has all of this: what came there was not what we sent."""

_LIMIT_IS, _ASKED = (
    re.compile(rf"\b{word}:?\D{{0,3}}([0-9]{{1,12}})") for word in ("limit", "requested")
)


def _never_fits(trouble: Trouble) -> bool:
    """A request larger than the whole limit: no wait makes it smaller."""
    words = f"{trouble.words} {trouble.message.lower()}".replace(",", "")
    if "request too large" in words:
        return True
    limit, asked = _LIMIT_IS.search(words), _ASKED.search(words)
    return limit is not None and asked is not None and int(asked[1]) > int(limit[1]) > 0


_TOO_LARGE = _refuse("endpoint.too_large")
_CONTEXT = _refuse("endpoint.context_length")
_MODERATION = _refuse("endpoint.moderation")
_LIMIT = _by(
    (_never_fits, _TOO_LARGE),
    (_NOUGHT, _retry(RetryKind.THROTTLED, "endpoint.no_quota")),
    otherwise=_retry(RetryKind.THROTTLED, "endpoint.rate_limited"),
)
_OVERLOADED = _retry(RetryKind.THROTTLED, "endpoint.overloaded")
_NO_BALANCE = _stop(PauseReason.INSUFFICIENT_BALANCE, "endpoint.insufficient_balance")
_BAD_KEY = _stop(PauseReason.KEY_REJECTED, "endpoint.key_rejected")
_MODEL_NOT_FOUND = _refuse("endpoint.model_not_found")
_PASSING = _by(
    (_LIMITED, _LIMIT),
    (_NO_MONEY, _NO_BALANCE),
    otherwise=_retry(RetryKind.PASSING, "endpoint.5xx", MAYBE_BILLED),
)
_TIMED_OUT = _retry(RetryKind.PASSING, "endpoint.request_timeout", MAYBE_BILLED)
_CONFLICT = _retry(RetryKind.PASSING, "endpoint.conflict")
_DOWN = _retry(RetryKind.THROTTLED, "endpoint.down")
_REFUSED = _refuse("endpoint.refused")

_OTHERS = _by(
    (_NO_MODEL, _MODEL_NOT_FOUND),
    (_LIMITED, _LIMIT),
    (_NO_MONEY, _NO_BALANCE),
    otherwise=_REFUSED,
)

NO_CODE = 0
"""An error under a success that does not say which: as a 502, unless its words say more."""

CODES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (
        re.compile(
            r"rate_?limit|throttl|resource_?exhausted|too_?many_?requests|(?:requests|tokens)_per"
            r"|\b130[235]\b|concurrency"
        ),
        _LIMIT,
    ),
    (
        re.compile(
            r"insufficient_(?:user_)?(?:quota|funds|balance|credit)|billing_(?:hard_limit|not_active)"
            r"|payment_required|arrearage|\b1113\b|account_suspended|budget_exceeded"
            r"|exceeded_current_quota"
        ),
        _NO_BALANCE,
    ),
    (
        re.compile(
            r"(?:invalid|incorrect)_api_?key|api_key_invalid|invalid_auth|unrecognized_?client"
        ),
        _BAD_KEY,
    ),
    (
        re.compile(
            r"model_not_found|unknown_model|invalid_model|\b1211\b|deployment_?not_?found"
            r"|model_(?:deprecated|decommissioned|retired|not_supported)"
        ),
        _MODEL_NOT_FOUND,
    ),
    (re.compile(r"context_length_exceeded|string_above_max_length"), _CONTEXT),
    (
        re.compile(
            r"content_?policy|content_filter|moderation|data_?inspection|responsible_?ai|\b1301\b"
        ),
        _MODERATION,
    ),
    (re.compile(r"overloaded|capacity_?exceeded|model_?not_?ready|server_?busy"), _OVERLOADED),
)
"""By the words for programs, which mean one thing; the first counts."""

RULES: dict[int, Rule] = {
    NO_CODE: _by(
        (_LIMITED, _LIMIT),
        (_MONEY, _NO_BALANCE),
        (_MODERATED, _MODERATION),
        (_BAD_API_KEY, _BAD_KEY),
        otherwise=_PASSING,
    ),
    400: _by(
        (_OTHER_BOUND, _name_the_bound),
        (_NO_MODEL, _MODEL_NOT_FOUND),
        (_LIMITED, _LIMIT),
        (_TOO_LONG, _CONTEXT),
        (_NO_MONEY, _NO_BALANCE),
        (_BAD_API_KEY, _BAD_KEY),
        (_MODERATED, _MODERATION),
        (_LOST_BODY, _retry(RetryKind.ONCE, "endpoint.lost_body")),
        otherwise=_refuse("endpoint.bad_request"),
    ),
    401: _BAD_KEY,
    402: _by(
        (_IN_FLIGHT, _retry(RetryKind.THROTTLED, "endpoint.in_flight_budget")),
        otherwise=_NO_BALANCE,
    ),
    403: _by(
        (_NO_MODEL, _MODEL_NOT_FOUND),
        (_MODERATED, _MODERATION),
        (_FIREWALL, _refuse("endpoint.forbidden")),
        (_LIMITED, _LIMIT),
        (_MONEY, _stop(PauseReason.INSUFFICIENT_BALANCE, "endpoint.key_limit")),
        (_KEYS, _BAD_KEY),
        otherwise=_refuse("endpoint.forbidden"),
    ),
    404: _by((_NO_MODEL, _MODEL_NOT_FOUND), otherwise=_refuse("endpoint.not_found")),
    408: _TIMED_OUT,
    409: _CONFLICT,
    413: _TOO_LARGE,
    421: _CONFLICT,
    422: _by((_NO_MODEL, _MODEL_NOT_FOUND), otherwise=_refuse("endpoint.unprocessable")),
    # What it depends on failed: a model behind it, as under a 502.
    424: _PASSING,
    425: _CONFLICT,
    429: _by(
        (_never_fits, _TOO_LARGE),
        (_names_a_delay, _LIMIT),
        (_LIMITED, _LIMIT),
        (_BY_TIME, _LIMIT),
        (_MONEY, _NO_BALANCE),
        otherwise=_LIMIT,
    ),
    499: _TIMED_OUT,
    503: _by(
        (_names_a_delay, _OVERLOADED),
        (_LIMITED, _LIMIT),
        (_MONEY, _NO_BALANCE),
        otherwise=_OVERLOADED,
    ),
    # Cloudflare's: 520 and 524 came after the request was passed on, these before.
    521: _DOWN,
    522: _DOWN,
    523: _DOWN,
    525: _DOWN,
    526: _DOWN,
    530: _DOWN,
    529: _OVERLOADED,
}


def _rule(code: int, trouble: Trouble) -> Rule:
    named = next((rule for found, rule in CODES if found.search(trouble.codes)), None)
    return named or RULES.get(code) or (_OTHERS if 400 <= code < 500 else _PASSING)


# ── The wrong place ──────────────────────────────────────────────────────────────────────────────

_TITLE = re.compile(rb"<(title|h1|message)[^>]*>(.{1,300}?)</\1", re.IGNORECASE | re.DOTALL)


def _is_html(answer: Reply) -> bool:
    kind = answer.headers.get("content-type", "")
    claims = kind.startswith("text/html") and answer.body != b"" and parse(answer.body) is NO_JSON
    return answer.body.startswith(b"<") or claims


def _heading(answer: Reply) -> str:
    """What a page says first."""
    found = _TITLE.search(answer.body, 0, 65_536)
    words = re.sub(rb"<[^>]*>|\s+", b" ", found[2]) if found else b""
    return " ".join(words.decode(errors="replace").split())


def _page(answer: Reply) -> str:
    heading = _heading(answer)
    if not heading:
        return f"HTTP {answer.status} with a page that is not the API's"
    return f"HTTP {answer.status} with a page that is not the API's: {heading}"


def _redirected(answer: Reply) -> Outcome:
    host = _host(answer.headers.get("location", ""))
    message = N_("HTTP {status} to {host}", status=answer.status, host=host or "another address")
    return Stop(PauseReason.MISCONFIGURED, "endpoint.redirect", message)


def _host(location: str) -> str:
    try:
        return text_of(urlsplit(location).hostname)
    except ValueError:
        return ""


def _wrong_address(answer: Reply, billed: Charge, kind: Kind) -> Outcome:
    said = _plain(answer) or "no words"
    message = (
        _page(answer)
        if _is_html(answer)
        else N_("HTTP {status}: {words}", status=answer.status, words=said)
    )
    if kind is not CHAT:
        message = N_("the endpoint may have no /{path}: {why}", path=kind.path, why=message)
    return Stop(PauseReason.MISCONFIGURED, "endpoint.wrong_address", message, billed)


def _plain(answer: Reply) -> str:
    return unwrap(foreign_responses.read(answer)[0], 0.0).message or text_of(
        answer.body[:200].decode(errors="replace")
    )


# ── Broken calls ─────────────────────────────────────────────────────────────────────────────────

BROKEN: dict[BrokenKind, Rule] = {
    BrokenKind.UNREACHABLE: _retry(RetryKind.UNREACHABLE, "endpoint.unreachable"),
    BrokenKind.EXHAUSTED: _retry(RetryKind.UNREACHABLE, "endpoint.local_limit"),
    BrokenKind.STALE: _retry(RetryKind.UNREACHABLE, "endpoint.stale"),
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
