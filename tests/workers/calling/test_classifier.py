"""Every answer has one meaning. The ids name the lines of the catalogue of faults (E1 to E44)."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.gateways import Tariff
from jobs.outcome import Answered, Billing, Charge, Outcome, Refused, Retry, RetryKind, Stop
from jobs.pause_reasons import PauseReason
from jobs.request_kinds import KINDS, RESPONSES
from jobs.usage import Usage
from workers.calling import classifier
from workers.calling.classifier import LONGEST_MESSAGE, classify
from workers.calling.endpoint import Broken, BrokenKind, Reply

MODEL = "minimax/minimax-m1"
NOW = 1_795_600_000.0
COST = Decimal("0.0000522948192")
N, K, U = Billing.NONE, Billing.KNOWN, Billing.UNKNOWN

USAGE = (
    '{"prompt_tokens":480,"completion_tokens":20,"total_tokens":500,'
    '"prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":3},'
    '"completion_tokens_details":{"reasoning_tokens":5},'
    '"cost":0.0000522948192,"cost_details":{"upstream_inference_cost":0.5}}'
)
CHOICE = '{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Привет"}}'


def body(choices: str = f"[{CHOICE}]", usage: str = USAGE, **extra: str) -> bytes:
    """A chat completion; the values are JSON, so that what is not JSON can be put in too."""
    fields = {"id": '"gen-1"', "model": f'"{MODEL}"', "provider": '"Minimax"'}
    fields |= {"choices": choices, "usage": usage} | extra
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def choice(finish: str = '"stop"', message: str = '{"content":"x"}', **extra: str) -> bytes:
    more = "".join(f',"{name}":{value}' for name, value in extra.items())
    return body(f'[{{"finish_reason":{finish},"message":{message}{more}}}]')


def outcome_of(
    content: bytes = b"", status: int = 200, asked: str = MODEL, **headers: str
) -> Outcome:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Reply(status, names, content, 1.0), asked_model=asked, now=NOW)


def retry_of(content: bytes = b"", status: int = 200, **headers: str) -> Retry:
    outcome = outcome_of(content, status, **headers)
    assert isinstance(outcome, Retry)
    return outcome


def refusal_of(content: bytes, status: int = 200) -> Refused:
    outcome = outcome_of(content, status)
    assert isinstance(outcome, Refused)
    return outcome


def error(code: object = None, message: str = "it did not work", **extra: object) -> bytes:
    coded = {"message": message} if code is None else {"message": message, "code": code}
    return json.dumps({"error": coded | extra}).encode()


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_answer_is_answered_with_its_exact_cost() -> None:
    outcome = outcome_of(body())

    assert outcome == Answered(Charge(K, COST, Usage(480, 20, 7, 3, 5), "Minimax"), "stop", ())


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        pytest.param(choice('"tool_calls"', '{"tool_calls":[{"id":"1"}]}'), (), id="tools"),
        pytest.param(choice('"stop"', '{"refusal":"no"}'), ("refusal",), id="refusal"),
        pytest.param(body(error="null"), (), id="error null beside choices"),
        pytest.param(choice('"length"'), ("truncated",), id="E22"),
        pytest.param(choice('"length"', '{"content":""}'), ("truncated",), id="E22 only thought"),
        pytest.param(choice('"content_filter"'), ("filtered",), id="E23"),
        pytest.param(choice('"content_filter"', "{}"), ("filtered",), id="E23 nothing left"),
        pytest.param(choice('"interrupted"'), ("odd_finish",), id="E24 unknown"),
        pytest.param(choice('"end_turn"'), (), id="another word for stop"),
        pytest.param(
            choice('"ALTERNATIVE_STATUS_CONTENT_FILTER"', "{}"), ("filtered",), id="E23 long"
        ),
        pytest.param(choice("null"), ("odd_finish",), id="E24 null"),
        pytest.param(body('[{"message":{"content":"x"}}]'), ("odd_finish",), id="E24 missing"),
        pytest.param(body(model='"other/model"'), ("model_mismatch",), id="E38"),
        pytest.param(body(model='"MiniMax/MiniMax-M1"'), (), id="E38 only the case differs"),
        pytest.param(body(model='"minimax-m1-2025-06-17"'), (), id="E38 dated, without its author"),
        pytest.param(body(model='"minimax/minimax-m1:free"'), (), id="E38 a variant"),
        pytest.param(body(model='"minimax/minimax-m10"'), ("model_mismatch",), id="E38 another"),
        pytest.param(body(model="7"), (), id="model is no name"),
        pytest.param(choice(message=r'{"content":"\ud800"}'), (), id="E41 lone surrogate"),
        pytest.param(choice(message=r'{"content":"\u0000\u001b[0m"}'), (), id="E41 NUL, ANSI"),
        pytest.param(choice(message='{"content":"\u2028\u0085"}'), (), id="E41 line ends"),
        pytest.param(b"\xef\xbb\xbf" + body(), (), id="byte order mark"),
    ],
)
def test_an_answer_is_kept_and_flagged(content: bytes, flags: tuple[str, ...]) -> None:
    outcome = outcome_of(content)

    assert isinstance(outcome, Answered)
    assert outcome.flags == flags
    assert outcome.charge.cost == COST


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(body("[]"), "endpoint.empty", id="E21 no choices"),
        pytest.param(body("[null]"), "endpoint.empty", id="E21 choice is null"),
        pytest.param(choice(message='{"content":""}'), "endpoint.empty", id="E21 no content"),
        pytest.param(
            choice(message='{"content":null,"tool_calls":[]}'), "endpoint.empty", id="E21"
        ),
        pytest.param(choice(message="null"), "endpoint.empty", id="E21 no message"),
        pytest.param(choice('"error"'), "endpoint.failed_midway", id="E24"),
        pytest.param(choice(error='{"code":502}'), "endpoint.failed_midway", id="E24 in choice"),
        pytest.param(body("null"), "endpoint.bad_body", id="E19 choices null, with a cost"),
    ],
)
def test_a_useless_answer_is_asked_for_once_more_and_its_cost_booked(
    content: bytes, code: str
) -> None:
    outcome = outcome_of(content)

    assert isinstance(outcome, Retry)
    assert (outcome.kind, outcome.code) == (RetryKind.UNCERTAIN, code)
    assert (outcome.charge.billing, outcome.charge.cost) == (K, COST)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="E19 empty"),
        pytest.param(b"null", id="E19 null"),
        pytest.param(b"[]", id="E19 list"),
        pytest.param(b'[{"choices":[]}]', id="E19 list of one"),
        pytest.param(b'"text"', id="E19 string"),
        pytest.param(b"17", id="E19 number"),
        pytest.param(b"{}", id="E19 empty object"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', id="E19 SSE cut off"),
        pytest.param(b"data: [DONE]\n\n", id="E19 SSE of nothing"),
        pytest.param(body()[:-1], id="E18 truncated"),
        pytest.param(body() + body(), id="E36 two answers"),
        pytest.param(b"[" * 100_000, id="E40 unclosed"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="E40"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="E40 objects"),
        pytest.param(b'{"n":' + b"9" * 5_000 + b",}", id="a number too long"),
        pytest.param(b'{"choices":"\xff"}', id="E41 not UTF-8"),
        pytest.param('{"choices":[]}'.encode("utf-16"), id="UTF-16"),
    ],
)
def test_a_success_that_is_no_answer_is_a_bad_body(content: bytes) -> None:
    outcome = outcome_of(content)

    assert isinstance(outcome, Retry)
    assert (outcome.kind, outcome.code) == (RetryKind.UNCERTAIN, "endpoint.bad_body")
    assert outcome.charge.billing is U


def test_e19_a_204_is_a_bad_body() -> None:
    assert retry_of(b"", 204).code == "endpoint.bad_body"


# ── Money and tokens ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "usage",
    [pytest.param("null", id="E25 null"), pytest.param("[]", id="E25 list")]
    + [
        pytest.param(f'{{"prompt_tokens":5,"cost":{cost}}}', id=f"E26 {cost}")
        for cost in (
            "null NaN Infinity -Infinity 1e999 1e-999 -1 -0.5 true false [] {} "
            '"NaN" "text" "-1" "1_0" {"total":"x"} 1e99999999999999999999 0.' + "1" * 31
        ).split()
    ],
)
def test_a_cost_that_cannot_be_trusted_is_unknown_and_the_answer_stays(usage: str) -> None:
    outcome = outcome_of(body(usage=usage))

    assert isinstance(outcome, Answered)
    assert (outcome.charge.billing, outcome.charge.cost) == (U, None)
    assert outcome.charge.provider == "Minimax"


def test_e25_without_usage_the_cost_is_unknown() -> None:
    outcome = outcome_of(b'{"choices":[%s]}' % CHOICE.encode())

    assert isinstance(outcome, Answered)
    assert (outcome.charge.billing, outcome.charge.usage) == (U, None)


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("0", "0"),
        ("5", "5"),
        ("5.22948192E-5", "0.0000522948192"),
        ("0.1", "0.1"),
        ("123456789.000000000000000001", "123456789.000000000000000001"),
    ],
)
def test_a_cost_never_passes_through_a_float(text: str, cost: str) -> None:
    charge = outcome_of(body(usage=f'{{"cost":{text}}}')).charge

    assert (charge.billing, charge.cost) == (K, Decimal(cost))
    assert str(charge.cost) == str(Decimal(text))


def test_a_gateway_that_names_roubles_is_read_there() -> None:
    assert outcome_of(body(usage='{"cost":0.001,"cost_rub":0.09}')).charge.cost == Decimal("0.09")


@pytest.mark.parametrize("count", ["-1", "4.5", "1e3", '"7"', "true", "null", "[]", "9" * 40])
def test_e26_a_count_that_is_none_is_left_out(count: str) -> None:
    usage = f'{{"prompt_tokens":{count},"completion_tokens":20,"cost":1}}'

    assert outcome_of(body(usage=usage)).charge.usage == Usage(0, 20)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────

BAD_400 = json.dumps({"error": {"message": "no such parameter", "code": 400}})
BUSY_429 = json.dumps({"error": {"message": "slow down", "code": 429}})


def wrapped(text: str, times: int = 1) -> bytes:
    """An error as text in an object, so many times."""
    for _ in range(times):
        text = json.dumps({"error": text})
    return text.encode()


RETRIES = [
    pytest.param(429, error(429), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E1"),
    pytest.param(429, b"", RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E3 no body"),
    pytest.param(429, b"<html>", RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E3 page"),
    pytest.param(500, error(500), RetryKind.PASSING, "endpoint.5xx", U, id="E6 500"),
    pytest.param(502, b"<html>", RetryKind.PASSING, "endpoint.5xx", U, id="E6 502"),
    pytest.param(504, b"", RetryKind.PASSING, "endpoint.5xx", U, id="E6 504"),
    pytest.param(524, b"<html>", RetryKind.PASSING, "endpoint.5xx", U, id="E6 524"),
    pytest.param(522, b"<html>", RetryKind.THROTTLED, "endpoint.down", N, id="E14 by a gateway"),
    pytest.param(
        503, wrapped(BUSY_429), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E7 429"
    ),
    pytest.param(529, error(529), RetryKind.THROTTLED, "endpoint.overloaded", N, id="E8 529"),
    pytest.param(503, b"", RetryKind.THROTTLED, "endpoint.overloaded", N, id="E8 503"),
    pytest.param(408, error(408), RetryKind.PASSING, "endpoint.request_timeout", U, id="E9 408"),
    pytest.param(409, error(409), RetryKind.PASSING, "endpoint.conflict", N, id="E9 409"),
    pytest.param(200, error(429), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E20 429"),
    pytest.param(
        200, error("429"), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E20 429 as text"
    ),
    pytest.param(
        200, wrapped(BUSY_429, 2), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E20 twice"
    ),
    pytest.param(
        200,
        wrapped("HTTP 429: slow down"),
        RetryKind.THROTTLED,
        "endpoint.rate_limited",
        N,
        id="E20 said",
    ),
    pytest.param(
        200,
        wrapped(f"HTTP 400: {BUSY_429}"),
        RetryKind.THROTTLED,
        "endpoint.rate_limited",
        N,
        id="E20 a code weighs more than what is said",
    ),
    pytest.param(
        200, wrapped("too many requests"), RetryKind.THROTTLED, "endpoint.rate_limited", N, id="E20"
    ),
    pytest.param(200, error(), RetryKind.PASSING, "endpoint.5xx", U, id="E20 no code"),
    pytest.param(200, wrapped("oh"), RetryKind.PASSING, "endpoint.5xx", U, id="E20 text"),
    pytest.param(200, b'{"error":{}}', RetryKind.PASSING, "endpoint.5xx", U, id="E20 empty"),
    pytest.param(200, error(1003), RetryKind.PASSING, "endpoint.5xx", U, id="E20 no HTTP code"),
    pytest.param(200, error(502), RetryKind.PASSING, "endpoint.5xx", U, id="E20 502"),
    *(
        pytest.param(
            429, content, RetryKind.THROTTLED, "endpoint.rate_limited", N, id=f"429 {name}"
        )
        for name, content in {
            "a code beats words": error("rate_limit_exceeded", "check your plan and billing"),
            "a status beats words": error(429, "your billing details", status="RESOURCE_EXHAUSTED"),
            "a delay beats words": error(429, "add credits, or retry in 38s"),
            "a limit per minute beats an offer": error(
                429, "Limit 3 requests per min. Add a payment method at https://x.example/billing"
            ),
            "what fits later": error(429, "TPM: Limit 30000, Used 29000, Requested 5000"),
            "what the provider said itself": error(
                429, "Provider error, see billing", metadata={"raw": '{"type":"rate_limit_error"}'}
            ),
        }.items()
    ),
    pytest.param(
        400,
        b'{"__type":"ThrottlingException","message":"Too many tokens, please wait"}',
        RetryKind.THROTTLED,
        "endpoint.rate_limited",
        N,
        id="400 that is a limit",
    ),
    pytest.param(
        500,
        error(500, "rate limit exceeded, try again in 2 seconds"),
        RetryKind.THROTTLED,
        "endpoint.rate_limited",
        N,
        id="500 that is a limit",
    ),
    pytest.param(
        429, error(429, "limit: 0"), RetryKind.THROTTLED, "endpoint.no_quota", N, id="429 of none"
    ),
    pytest.param(
        400, error(400, "No models provided"), RetryKind.ONCE, "endpoint.lost_body", N, id="lost"
    ),
    *(
        pytest.param(status, b"<html>", RetryKind.THROTTLED, "endpoint.down", N, id=f"E14 {status}")
        for status in (521, 523, 525, 526, 530)
    ),
    pytest.param(
        503,
        error(503, "add credits, or retry in 38s"),
        RetryKind.THROTTLED,
        "endpoint.overloaded",
        N,
        id="503 with a delay beats words",
    ),
    pytest.param(
        402,
        error(402, type="in_flight_budget_exhausted"),
        RetryKind.THROTTLED,
        "endpoint.in_flight_budget",
        N,
        id="E31 in flight",
    ),
]


@pytest.mark.parametrize(("status", "content", "kind", "code", "billing"), RETRIES)
def test_what_may_pass_is_tried_again(
    status: int, content: bytes, kind: RetryKind, code: str, billing: Billing
) -> None:
    outcome = outcome_of(content, status)

    assert isinstance(outcome, Retry)
    assert (outcome.kind, outcome.code, outcome.charge.billing) == (kind, code, billing)


REFUSALS = [
    pytest.param(400, error(400), "endpoint.bad_request", id="E34 400"),
    pytest.param(503, wrapped(BAD_400), "endpoint.bad_request", id="E7 400"),
    pytest.param(503, wrapped(BAD_400, 3), "endpoint.bad_request", id="E7 nested"),
    pytest.param(200, error(400), "endpoint.bad_request", id="E20 400"),
    pytest.param(200, wrapped(BAD_400, 2), "endpoint.bad_request", id="E20 400 nested"),
    pytest.param(200, wrapped(json.dumps(BAD_400)), "endpoint.bad_request", id="E20 quoted twice"),
    pytest.param(
        400,
        error(400, "This endpoint's maximum context length is 1000000 tokens"),
        "endpoint.context_length",
        id="E34 context",
    ),
    pytest.param(
        400, error(400, "minimax/m9 is not a valid model ID"), "endpoint.model_not_found", id="E33"
    ),
    pytest.param(
        404, error(404, 'No endpoints found for "a/b"'), "endpoint.model_not_found", id="E33 404"
    ),
    pytest.param(404, error("model_not_found"), "endpoint.model_not_found", id="E33 by type"),
    pytest.param(
        404,
        error(404, "No allowed providers are available"),
        "endpoint.not_found",
        id="404 preferences",
    ),
    pytest.param(
        403, error(403, "Your input was flagged"), "endpoint.moderation", id="E32 moderation"
    ),
    pytest.param(403, error(403, "no"), "endpoint.forbidden", id="E32 unknown"),
    pytest.param(413, b"<html>413</html>", "endpoint.too_large", id="E34 413"),
    pytest.param(422, b'{"detail":[{"msg":"bad"}]}', "endpoint.unprocessable", id="E34 422"),
    pytest.param(451, error(), "endpoint.refused", id="another 4xx"),
    pytest.param(
        429,
        error("rate_limit_exceeded", "TPM: Limit 30,000, Requested 30,601"),
        "endpoint.too_large",
        id="429 that never fits",
    ),
    pytest.param(
        404,
        b'{"object":"error","message":"The model `x` does not exist."}',
        "endpoint.model_not_found",
        id="E33 vLLM",
    ),
    pytest.param(
        404,
        b'{"detail":"Model not found in the list"}',
        "endpoint.model_not_found",
        id="E33 FastAPI",
    ),
    pytest.param(
        403, error(403, "Request blocked by our firewall"), "endpoint.forbidden", id="a firewall"
    ),
]


@pytest.mark.parametrize(("status", "content", "code"), REFUSALS)
def test_what_will_never_pass_is_refused_and_costs_nothing(
    status: int, content: bytes, code: str
) -> None:
    outcome = outcome_of(content, status)

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.charge.billing) == (code, N)


STOPS = [
    pytest.param(401, error(401), PauseReason.KEY_REJECTED, "endpoint.key_rejected", id="E30"),
    pytest.param(401, b"", PauseReason.KEY_REJECTED, "endpoint.key_rejected", id="E30 no body"),
    pytest.param(
        429,
        error("1113", "您的账户已欠费，请充值后重试。"),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.insufficient_balance",
        id="429 of an empty account",
    ),
    pytest.param(
        403, b"<html>no</html>", PauseReason.MISCONFIGURED, "endpoint.blocked", id="403 page"
    ),
    pytest.param(
        404,
        b'{"error":{"message":"Invalid URL (POST /v1/x)"}}',
        PauseReason.MISCONFIGURED,
        "endpoint.wrong_address",
        id="404 of a path",
    ),
    pytest.param(
        402,
        error(402),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.insufficient_balance",
        id="E31",
    ),
    pytest.param(
        429,
        error(429, "Monthly spend of 2000 ₽ reached"),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.insufficient_balance",
        id="429 about money",
    ),
    pytest.param(
        503,
        error(503, "No provider can serve this: top up your balance"),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.insufficient_balance",
        id="503 about money",
    ),
    pytest.param(
        200,
        wrapped("Недостаточно средств на балансе"),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.insufficient_balance",
        id="E20 about money",
    ),
    pytest.param(
        403,
        error(403, "Key limit exceeded (monthly limit)"),
        PauseReason.INSUFFICIENT_BALANCE,
        "endpoint.key_limit",
        id="E32 cap",
    ),
    pytest.param(
        403,
        error(403, "Your role does not allow this"),
        PauseReason.KEY_REJECTED,
        "endpoint.key_rejected",
        id="E32 role",
    ),
    pytest.param(
        200, b"<!doctype html>", PauseReason.MISCONFIGURED, "endpoint.wrong_address", id="E19 HTML"
    ),
    pytest.param(
        404, b"<html>", PauseReason.MISCONFIGURED, "endpoint.wrong_address", id="404 page"
    ),
    pytest.param(
        404,
        b'{"detail":"Not Found"}',
        PauseReason.MISCONFIGURED,
        "endpoint.wrong_address",
        id="404 of a framework",
    ),
    pytest.param(
        405, b"", PauseReason.MISCONFIGURED, "endpoint.wrong_address", id="405 without a body"
    ),
] + [
    pytest.param(status, b"", PauseReason.MISCONFIGURED, "endpoint.redirect", id=f"E29 {status}")
    for status in (301, 302, 303, 307, 308)
]


@pytest.mark.parametrize(("status", "content", "reason", "code"), STOPS)
def test_what_concerns_the_whole_job_stops_it(
    status: int, content: bytes, reason: PauseReason, code: str
) -> None:
    outcome = outcome_of(content, status, location="https://elsewhere.example/?secret=1")

    assert isinstance(outcome, Stop)
    assert (outcome.reason, outcome.code) == (reason, code)
    assert "secret" not in outcome.message


def test_e20_a_cost_beside_an_error_is_booked() -> None:
    content = json.dumps({"error": {"code": 400, "message": "no"}, "usage": {"cost": 0.25}})

    assert outcome_of(content.encode()).charge.cost == Decimal("0.25")


def test_e20_tokens_beside_an_error_are_told_though_their_cost_is_not() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    content = json.dumps({"error": {"code": 500, "message": "no"}, "usage": usage})

    charge = outcome_of(content.encode()).charge

    assert (charge.billing, charge.cost, charge.usage) == (U, None, Usage(7, 3))


def test_e34_the_servers_text_is_kept_up_to_two_kilobytes() -> None:
    outcome = refusal_of(error(400, "Слишком длинно. " * 1000), 400)

    assert outcome.message.startswith("Слишком длинно.")
    assert LONGEST_MESSAGE - 4 < len(outcome.message.encode()) <= LONGEST_MESSAGE


def test_a_fault_of_a_field_is_told_with_its_place() -> None:
    content = b'{"detail":[{"loc":["body","messages",0],"msg":"Field required","type":"missing"}]}'

    assert refusal_of(content, 422).message == "body.messages.0: Field required"


def test_a_page_is_told_by_its_heading() -> None:
    outcome = outcome_of(b"<html><head><title>502\n <b>Bad</b> Gateway</title></head></html>", 404)

    assert isinstance(outcome, Stop)
    assert outcome.message == "HTTP 404 with a page that is not the API's: 502 Bad Gateway"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b"<title>Busy</title>", ": Busy"),
        (b"<p>Busy</p>", ""),
        (b"Busy", ""),
    ],
)
def test_a_page_needs_neither_a_head_nor_a_heading(page: bytes, told: str) -> None:
    outcome = outcome_of(page, 404, content_type="text/html")

    assert isinstance(outcome, Stop)
    assert outcome.message == f"HTTP 404 with a page that is not the API's{told}"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ('"input_tokens":480,"output_tokens":20', Usage(480, 20)),
        ('"prompt_tokens":480.0,"completion_tokens":20.00', Usage(480, 20)),
    ],
)
@pytest.mark.parametrize(
    "cost", ["0.25", '"0.25"', '{"total":0.25}', '{"total_cost":"0.25","input_cost":0.2}']
)
def test_tokens_and_costs_are_read_in_all_their_forms(usage: str, tokens: Usage, cost: str) -> None:
    charge = outcome_of(body(usage=f'{{{usage},"cost":{cost}}}')).charge

    assert (charge.billing, charge.cost, charge.usage) == (K, Decimal("0.25"), tokens)


def test_a_cost_in_a_header_counts_where_the_body_has_none() -> None:
    def cost(content: bytes) -> Decimal | None:
        return outcome_of(content, x_litellm_response_cost="0.25").charge.cost

    assert cost(body(usage="null")) == Decimal("0.25")
    assert cost(body()) == COST


def test_a_text_that_merely_quotes_keeps_its_words() -> None:
    outcome = refusal_of(error(400, 'No endpoints found for "a/b"'), 400)

    assert outcome.message == 'No endpoints found for "a/b"'


def test_e35_the_servers_wish_to_be_asked_again_does_not_make_a_400_passing() -> None:
    assert isinstance(outcome_of(error(400), 400, x_should_retry="true"), Refused)


def test_e41_a_message_can_be_stored_as_utf_8() -> None:
    outcome = refusal_of(b'{"error":{"code":400,"message":"a\\ud800b"}}')

    assert outcome.message == "a?b"


def test_a_load_balancer_is_not_money() -> None:
    assert isinstance(outcome_of(error(429, "the load balancer is busy"), 429), Retry)


# ── The server's word on when ────────────────────────────────────────────────────────────────────

DATE = "Tue, 24 Nov 2026 10:00:00 GMT"
WAITS = [
    pytest.param({"retry_after": "7"}, 7, id="E1 seconds"),
    pytest.param({"retry_after": "1.5"}, 1.5, id="E1 fraction"),
    pytest.param({"retry_after_ms": "2500", "retry_after": "9"}, 2.5, id="E1 milliseconds first"),
    pytest.param(
        {"retry_after": "Tue, 24 Nov 2026 10:00:07 GMT", "date": DATE}, 7, id="E2 by its own date"
    ),
    pytest.param({}, None, id="E3"),
    pytest.param({"retry_after": "3600"}, 3600, id="E4 an hour"),
    pytest.param({"retry_after": "1e9"}, 86_400, id="E4 1e9"),
    pytest.param({"retry_after": "1000000000"}, 86_400, id="E4 30 years"),
    pytest.param({"retry_after": "0"}, 0, id="at once"),
    pytest.param({"retry_after": f"{NOW + 11:.0f}"}, 11, id="a moment"),
    pytest.param(
        {"retry_after": "1795514411", "date": DATE}, 11, id="a moment by the endpoint's clock"
    ),
    pytest.param(
        {"x_ratelimit_reset_requests": "1m3s", "x_ratelimit_remaining_requests": "0"},
        63,
        id="until a limit is whole again",
    ),
    pytest.param(
        {"x_ratelimit_reset_requests": "1m3s", "x_ratelimit_remaining_requests": "5"},
        None,
        id="a limit that is not used up",
    ),
    *(
        pytest.param({"retry_after": value, "date": DATE}, None, id=f"E4 {value}")
        for value in ("-5", "nan", "inf", "1_0", "soon", "", "Tue, 24 Nov 2026 09:00:00 GMT")
    ),
    pytest.param({"retry_after": "Tue, 99 Nov 2026 10:00:07 GMT"}, None, id="E4 no such day"),
]


@pytest.mark.parametrize(("headers", "after"), WAITS)
@pytest.mark.parametrize("status", [429, 503, 529])
def test_the_server_says_when_to_come_back(
    status: int, headers: dict[str, str], after: float | None
) -> None:
    assert retry_of(b"", status, **headers).after == after


def test_e2_without_a_date_of_its_own_the_response_is_measured_by_our_clock() -> None:
    after = retry_of(b"", 429, retry_after="Wed, 25 Nov 2026 09:46:47 GMT").after

    assert after == 1_795_600_007 - NOW


@pytest.mark.parametrize(
    ("content", "after"),
    [
        (error(429, retry_after=7), 7),
        (error(429, metadata={"headers": {"Retry-After": "8"}}), 8),
        (error(429, retry_after_ms=1500), 1.5),
        (error(429, retry_after=True), None),
        (error(429, retry_after=-7), None),
        (error(429, "Please try again in 9.5s."), 9.5),
        (error(429, "Rate limit: retry after 20 seconds"), 20),
        (error(429, "try again in 300ms"), 0.3),
        (error(429, "retry later, request 12345678"), None),
        (wrapped(error(429, retry_after=6).decode(), 2), 6),
        (error(429, "Please retry in 2m59.5s."), 179.5),
        (error(429, "try again in 1h2m"), 3720),
        (error(429, "retry after 86400 seconds"), 86_400),
        (error(429, "please wait 20 seconds"), 20),
        (error(429, "wait for 3 minutes, then go on"), 180),
        (error(429, details=[{"@type": "RetryInfo", "retryDelay": "38s"}]), 38),
        (error(429, metadata={"headers": {"X-RateLimit-Reset": f"{NOW + 9:.0f}"}}), 9),
        (error(429, metadata={"headers": {"X-RateLimit-Reset": f"{(NOW + 9) * 1000:.0f}"}}), 9),
        (error(429, metadata={"headers": {"X-RateLimit-Reset": "17"}}), 17),
    ],
)
def test_the_word_may_stand_inside_the_wrapped_error(content: bytes, after: float | None) -> None:
    assert retry_of(content).after == after


def test_a_moment_in_a_body_is_measured_by_the_endpoints_clock_not_ours() -> None:
    """Of a worker a day behind, each such refusal took a day."""
    content = error(429, metadata={"headers": {"X-RateLimit-Reset": "1795514409000"}})

    assert retry_of(content, 429, date=DATE).after == 9
    assert retry_of(content, date=DATE).after == 9


def test_a_header_says_more_of_when_than_a_body() -> None:
    assert retry_of(error(429, retry_after=7), 429, retry_after="9").after == 9
    assert retry_of(error(429, retry_after=7), 429, retry_after="soon").after == 7


# ── Broken calls ─────────────────────────────────────────────────────────────────────────────────

BREAKS = [
    pytest.param("unreachable", RetryKind.UNREACHABLE, "endpoint.unreachable", N, id="E14"),
    pytest.param("exhausted", RetryKind.UNREACHABLE, "endpoint.local_limit", N, id="P17"),
    pytest.param("cut", RetryKind.UNCERTAIN, "endpoint.cut", U, id="E15 E16 E17 E36 E42"),
    pytest.param("timeout", RetryKind.UNCERTAIN, "endpoint.timeout", U, id="E10 E11 E12"),
    pytest.param("unexpected", RetryKind.UNCERTAIN, "endpoint.unexpected", U, id="unknown"),
]


def broken(kind: str, status: int | None = None, **headers: str) -> Outcome:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Broken(BrokenKind(kind), "why", 1.0, status, names)
    return classify(answer, asked_model=MODEL, now=NOW)


@pytest.mark.parametrize(("name", "kind", "code", "billing"), BREAKS)
def test_a_broken_call_is_repeated_by_what_was_sent(
    name: str, kind: RetryKind, code: str, billing: Billing
) -> None:
    outcome = broken(name)

    assert isinstance(outcome, Retry)
    assert (outcome.kind, outcome.code, outcome.charge.billing) == (kind, code, billing)
    assert outcome.message == "why"


def test_e39_a_huge_answer_is_not_asked_for_again() -> None:
    outcome = broken("too_large", 200)

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.charge.billing) == ("endpoint.answer_too_large", U)


def test_e43_a_wrong_certificate_stops_the_job() -> None:
    outcome = broken("certificate")

    assert isinstance(outcome, Stop)
    assert (outcome.reason, outcome.charge.billing) == (PauseReason.MISCONFIGURED, N)


def test_a_status_that_came_before_the_break_says_more_than_the_break() -> None:
    outcome = broken("cut", 429, retry_after="7")

    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.after, outcome.charge.billing) == ("endpoint.rate_limited", 7, N)
    assert isinstance(broken("timeout", 302), Stop)
    assert broken("cut", 200) == broken("cut")


def test_every_way_to_break_has_a_meaning() -> None:
    assert set(classifier.BROKEN) == set(BrokenKind)


# ── Whatever comes ───────────────────────────────────────────────────────────────────────────────

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NAMES = st.sampled_from(
    [
        *("error", "code", "message", "choices", "usage", "cost", "finish_reason", "metadata"),
        *("model", "output", "data", "content", "tool_calls", "function", "function_call"),
        *("service_tier", "status", "images", "image_url", "text", "prompt_tokens_details"),
        "incomplete_details",
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text(), inner),
    max_leaves=30,
)
CHOICES = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"message": st.dictionaries(NAMES, JSON), "text": SCALARS})
        ),
        "usage": st.dictionaries(NAMES, JSON),
    }
)
OUTPUT = st.lists(st.fixed_dictionaries({"type": st.just("message"), "content": JSON}) | JSON)
JSON |= CHOICES | st.fixed_dictionaries({"output": OUTPUT}) | st.fixed_dictionaries({"data": JSON})
BODIES = st.binary() | JSON.map(lambda value: json.dumps(value).encode())
KIND_URLS = st.sampled_from(list(KINDS))
DEEP = b'{"choices":[{"text":"x"}],"usage":{"cost":0.5,"x":%b%b}}' % (b"[" * 990, b"]" * 990)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "content-type", "location"]),
    st.text(),
)


@settings(max_examples=500)
@given(st.integers(200, 299) | st.integers(0, 999), BODIES, HEADERS, st.text(), KIND_URLS)
@example(200, b'{"output":[{"type":"message","content":5}]}', {}, "m", RESPONSES.url)
@example(200, b'{"choices":[{"message":{"tool_calls":5}}]}', {}, "m", RESPONSES.url)
@example(200, DEEP, {}, "m", RESPONSES.url)
def test_whatever_comes_has_a_meaning_that_can_be_stored(
    status: int, content: bytes, headers: dict[str, str], asked: str, kind: str
) -> None:
    reply = Reply(status, headers, content, 0.0)
    outcome = classify(reply, asked_model=asked, now=NOW, kind=kind)

    assert isinstance(outcome, Answered | Refused | Retry | Stop)
    assert isinstance(outcome.charge.provider.encode(), bytes)
    if not isinstance(outcome, Answered):
        assert len(outcome.message.encode()) <= LONGEST_MESSAGE
        assert outcome.code in (classifier.__doc__ or "")
    if outcome.charge.billing is Billing.KNOWN:
        assert outcome.charge.cost is not None
        assert outcome.charge.cost >= 0


@pytest.mark.parametrize(
    ("usage", "tariff", "cost"),
    [
        ('"cost":2,"cost_rub":0.5', Tariff(), "0.5"),
        ('"cost":2,"cost_rub":0.5', Tariff(("cost_rub",)), "0.5"),
        ('"cost":0.25', Tariff(("cost",), Decimal("90.5")), "22.625"),
        ('"cost":2', Tariff(("cost_rub",)), None),
        ('"cost":2', Tariff(()), None),
        ('"cost":1e-30', Tariff(("cost",), Decimal("90.5")), None),
    ],
    ids=["roubles first", "aitunnel", "dollars", "none there", "none told", "too many digits"],
)
def test_the_cost_stands_where_the_gateway_puts_it(
    usage: str, tariff: Tariff, cost: str | None
) -> None:
    reply = Reply(200, {}, body(usage=f'{{"prompt_tokens":4,{usage}}}'), 0.1)

    charge = classify(reply, asked_model=MODEL, now=NOW, tariff=tariff).charge

    assert charge.cost == (None if cost is None else Decimal(cost))
    assert charge.billing is (U if cost is None else K)


@given(st.sampled_from(list(BrokenKind)), st.none() | st.integers(0, 999), HEADERS)
def test_whatever_breaks_has_a_meaning(
    kind: BrokenKind, status: int | None, headers: dict[str, str]
) -> None:
    answer = Broken(kind, "why", 0.0, status, headers)

    assert classify(answer, asked_model=MODEL, now=NOW).charge.cost is None


def said(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


BUSY_17 = {"error_code": 18, "error_msg": "Open api qps request limit reached"}
FILTERED = {"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
RU = "Превышено количество запросов в минуту"
DETAIL_ID = "You don't have access to the model with the specified model ID."


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (403, {"error": {"message": RU}}, "endpoint.rate_limited"),
        (
            403,
            {"message": "Out of call volume quota. Quota will be replenished in 5 h"},
            "endpoint.rate_limited",
        ),
        (200, BUSY_17, "endpoint.rate_limited"),
        (
            200,
            {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            "endpoint.rate_limited",
        ),
        (200, {"errors": [{"message": "rate limit exceeded"}]}, "endpoint.rate_limited"),
        (
            200,
            {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
            "endpoint.overloaded",
        ),
        (498, {"error": {"message": "full", "code": "capacity_exceeded"}}, "endpoint.overloaded"),
        (424, {"__type": "ModelErrorException", "message": "The model failed"}, "endpoint.5xx"),
        (200, {"status": "error", "message": "Внутренняя ошибка"}, "endpoint.5xx"),
        (
            200,
            {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
            "endpoint.insufficient_balance",
        ),
        (
            400,
            {"error": {"message": "Budget!", "type": "budget_exceeded"}},
            "endpoint.insufficient_balance",
        ),
        (412, {"error": {"message": "Account is suspended"}}, "endpoint.insufficient_balance"),
        (403, {"error": {"message": "用户额度不足"}}, "endpoint.key_limit"),
        (200, {"error_code": 110, "error_msg": "Access token invalid"}, "endpoint.key_rejected"),
        (403, {"__type": "UnrecognizedClientException", "message": "x"}, "endpoint.key_rejected"),
        (
            403,
            {"__type": "AccessDeniedException", "message": DETAIL_ID},
            "endpoint.model_not_found",
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "x"}},
            "endpoint.model_not_found",
        ),
        (410, {"error": {"message": "This model is deprecated"}}, "endpoint.model_not_found"),
        (
            400,
            {"error": {"message": "The request was blocked.", **FILTERED}},
            "endpoint.moderation",
        ),
        (400, {"error": "litellm.ContentPolicyViolationError: no"}, "endpoint.moderation"),
        (400, {"error": "litellm.ContextWindowExceededError: no"}, "endpoint.context_length"),
    ],
)
def test_the_same_in_the_words_of_others(status: int, content: object, code: str) -> None:
    outcome = outcome_of(said(content), status)

    assert not isinstance(outcome, Answered)
    assert outcome.code == code


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (402, said({"fehler": {"text": "Guthaben ist aufgebraucht"}}), "Guthaben ist aufgebraucht"),
        (
            429,
            b"<Error><Code>SlowDown</Code><Message>Please reduce it.</Message></Error>",
            "Please reduce it.",
        ),
        (200, b"upstream connect error", "upstream connect error"),
    ],
)
def test_the_words_are_found_wherever_they_stand(status: int, content: bytes, words: str) -> None:
    outcome = outcome_of(content, status)

    assert not isinstance(outcome, Answered)
    assert words in outcome.message


def test_half_an_answer_is_not_quoted() -> None:
    assert "да" not in retry_of(body()[:-30]).message


def test_an_answer_of_another_api_is_not_bought_again() -> None:
    """It would come in the same form."""
    message = {"type": "message", "content": [{"text": "да"}], "usage": {"input_tokens": 9}}
    outcome = outcome_of(said(message))

    assert isinstance(outcome, Refused)
    assert outcome.charge.billing is Billing.UNKNOWN


# ── What a survey of broken lines found untested ─────────────────────────────────────────────────


def test_an_error_beside_a_whole_answer_is_a_remark_and_beside_half_of_one_it_counts() -> None:
    remark = '{"message":"slow","code":503}'
    half = '[{"finish_reason":null,"message":{"content":"x"}}]'

    assert isinstance(outcome_of(body(error=remark)), Answered)
    assert isinstance(outcome_of(body(half, error=remark)), Retry)


def test_an_answer_that_is_called_html_is_one_all_the_same() -> None:
    assert isinstance(outcome_of(body(), content_type="text/html"), Answered)


@pytest.mark.parametrize(("generation", "billed"), [("", N), ("gen-1", U)])
def test_a_page_in_place_of_an_answer_may_be_billed_where_a_generation_began(
    generation: str, billed: Billing
) -> None:
    page = b"<html><title>Welcome</title></html>"
    outcome = outcome_of(page, x_generation_id=generation)

    assert isinstance(outcome, Stop)
    assert outcome.charge.billing is billed


def test_who_wants_the_bound_by_its_other_name_is_told_the_option() -> None:
    text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."

    assert "--max-tokens-field max_completion_tokens" in refusal_of(error(400, text), 400).message


@pytest.mark.parametrize("alias", ["~author/best", "author/model-latest"])
def test_an_alias_may_be_answered_by_any_model(alias: str) -> None:
    outcome = outcome_of(body(), asked=alias)

    assert isinstance(outcome, Answered)
    assert outcome.flags == ()
