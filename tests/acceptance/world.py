"""An endpoint that behaves as others were met: each of its models is one behaviour.

    {"model": "one-401", "messages": […]}   → what `BEHAVIOURS["one-401"]` says to its n-th call

Real sockets, kept alive; it counts the calls of each model and row, and prices every model alike.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.loopback import Quiet, serving

COST = "0.0012"
USAGE = f'{{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16,"cost":{COST}}}'
PAGE = "<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


@dataclass
class Said:
    """A reply; a status of 0 drops the connection without a byte."""

    body: str | bytes = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"


@dataclass(frozen=True)
class Asked:
    """A call: the n-th for its model, and of its row; rows count from 0 within a model."""

    model: str
    row: int
    nth: int
    of_row: int


def answer(asked: Asked, usage: str = USAGE, message: str = "", **extra: str) -> Said:
    """A chat completion; the values are JSON."""
    message = message or f'{{"role":"assistant","content":"ответ {asked.row}"}}'
    finish = extra.pop("finish", '"stop"')
    fields = {
        "id": f'"gen-{asked.model}-{asked.row}-{asked.of_row}"',
        "object": '"chat.completion"',
        "model": f'"{asked.model}"',
        "choices": f'[{{"index":0,"finish_reason":{finish},"message":{message}}}]',
        "usage": usage,
        **extra,
    }
    return Said("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}")


def error(code_: int, message: str, /, **more: object) -> Said:
    """An error in OpenAI's form."""
    return Said(json.dumps({"error": {"message": message, **more}}), code_)


def page(status: int, title: str) -> Said:
    """A page that is nobody's API."""
    return Said(PAGE.format(title=title), status, kind="text/html")


Behaviour = Callable[[Asked], Said]


def at(said: Said, *calls: int) -> Behaviour:
    """This to the calls of these numbers, from 1; else an answer."""
    return lambda asked: said if asked.nth in calls else answer(asked)


def row(said: Said, number: int = 1) -> Behaviour:
    """This to one row, whenever it comes; else an answer."""
    return lambda asked: said if asked.row == number else answer(asked)


def always(said: Said) -> Behaviour:
    """This to every call."""
    return lambda _: said


def form(usage: str = USAGE, message: str = "", **extra: str) -> Behaviour:
    """An answer with these parts."""
    return lambda asked: answer(asked, usage, message, **extra)


PLAN = (
    "You exceeded your current quota, please check your plan and billing details. "
    "Please retry in 1s."
)
FREE = (
    "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. You can increase"
    " it by adding a payment method to your account at https://example.com/account/billing."
)
DETAIL = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
RAW = json.dumps({"error": {"message": "Rate limit reached, try again in 1s", "code": 429}})
POOR = error(402, "Upstream error from Some: insufficient balance (1008)", code=402)
TOO_LARGE = "Request too large on tokens per min (TPM): Limit 30000, Requested 30601."


def _until(_asked: Asked) -> Said:
    then = f"{(time.time() + 1) * 1000:.0f}"
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": then}
    return error(429, "free-models-per-min", code=429, metadata={"headers": headers})


def _delta(asked: Asked) -> Said:
    said = answer(asked)
    return Said(str(said.body).replace('"message":', '"delta":'))


def _data(asked: Asked) -> Said:
    return Said('{"code":0,"data":' + str(answer(asked).body) + "}")


def _stream(asked: Asked) -> Said:
    pieces = [
        {"role": "assistant", "content": ""},
        {"content": "ответ "},
        {"content": str(asked.row)},
    ]
    lines = [{"id": "gen-s", "model": asked.model, "choices": [{"delta": one}]} for one in pieces]
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    events = [json.dumps(line) for line in (*lines, last)]
    events.append('{"choices":[],"usage":' + USAGE + "}")
    text = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))
    return Said(": wait\n\n" + text, kind="text/event-stream")


def _changed(how: Callable[[str], str]) -> Behaviour:
    """An answer in which the bytes are others."""
    return lambda asked: Said(how(str(answer(asked).body)))


def _gzip_in_name(asked: Asked) -> Said:
    return Said(answer(asked).body, headers={"Content-Encoding": "gzip"})


def _brotli_in_name(asked: Asked) -> Said:
    return Said(answer(asked).body, headers={"Content-Encoding": "br"})


def _raw_deflate(asked: Asked) -> Said:
    packed = zlib.compress(str(answer(asked).body).encode(), wbits=-zlib.MAX_WBITS)
    return Said(packed, headers={"Content-Encoding": "deflate"})


def _latin(asked: Asked) -> Said:
    said = answer(asked, message='{"role":"assistant","content":"réponse"}')
    return Said(str(said.body).encode("latin-1"), kind="application/json; charset=iso-8859-1")


def _header_cost(asked: Asked) -> Said:
    said = answer(asked, '{"prompt_tokens":11,"completion_tokens":5}')
    return Said(said.body, headers={"x-litellm-response-cost": COST})


PASSING: dict[str, Behaviour] = {
    "plan-and-billing": at(error(429, PLAN, code="rate_limit_exceeded"), 1, 2),
    "resource-exhausted": at(
        error(429, PLAN, status="RESOURCE_EXHAUSTED", code=429, details=[DETAIL]), 1, 2
    ),
    "free-tier": at(error(429, FREE), 1, 2),
    "one-poor-provider": at(POOR, 2, 5),
    "one-poor-provider-500": at(error(500, "Upstream error: insufficient balance (1008)"), 2, 5),
    "one-401": at(error(401, "User not found."), 3),
    "nginx-404": at(page(404, "404 Not Found"), 2, 3, 4),
    "redirect-once": at(Said(status=302, headers={"Location": "/login"}), 3),
    "maintenance": at(page(200, "Maintenance"), 2, 3),
    "in-the-raw": at(
        error(429, "Provider returned error", metadata={"raw": RAW, "provider_name": "X"}), 1, 2
    ),
    "twice-wrapped": at(Said(json.dumps({"error": json.dumps({"error": RAW})}), 503), 2),
    "throttling-400": at(
        Said(
            '{"__type":"ThrottlingException","message":"Too many tokens, please wait before trying'
            ' again."}',
            400,
        ),
        2,
    ),
    "limit-as-500": at(error(500, "rate limit exceeded, try again in 1 seconds"), 2),
    "no-models-once": at(error(400, "No models provided"), 2),
    "cloudflare-520": at(page(520, "Web server is returning an unknown error"), 2),
    "cloudflare-530": at(page(530, "Origin DNS error"), 2),
    "cloudflare-1015": at(page(429, "Error 1015: You are being rate limited"), 2),
    "retry-after-ms": at(Said("{}", 429, {"retry-after-ms": "300"}), 2),
    "epoch-in-metadata": lambda asked: _until(asked) if asked.nth == 2 else answer(asked),
    "dropped-once": at(Said(status=0), 2),
    # ── the same in the words, codes and nestings of others
    "mistral-flat": at(
        Said('{"object":"error","message":"Requests rate limit exceeded","code":"1300"}', 429), 1, 2
    ),
    "groq-tokens": at(
        Said(
            '{"error":{"message":"TPM: Limit 12000, Used 11900","type":"tokens"}}',
            429,
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0.4s"},
        ),
        2,
    ),
    "quota-as-403": at(Said('{"message":"Quota will be replenished in 00:00:01."}', 403), 2),
    "limit-in-russian": at(
        Said('{"detail":"Превышено количество запросов. Повторите через 1 с"}', 403), 2
    ),
    "overloaded-within-200": at(
        Said('{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'), 2
    ),
    "limit-in-base-resp": at(
        Said('{"choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}'), 2
    ),
    "limit-in-errors": at(Said('{"errors":[{"message":"qps request limit reached"}]}'), 2),
    "flex-is-full": at(error(498, "Flex tier capacity exceeded", code="capacity_exceeded"), 2),
    "failed-dependency": at(error(424, "The model behind returned an error"), 2),
    "xml-slow-down": at(
        Said("<Error><Message>Please slow down</Message></Error>", 503, kind="application/xml"), 2
    ),
    "date-in-the-past": at(
        Said("busy", 503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "text/plain"), 2
    ),
    "too-early": at(Said("Too Early", 425, kind="text/plain"), 2),
    "conflict": at(error(409, "Conflict"), 2),
    "cancelled-499": at(error(499, "The operation was cancelled."), 2),
    "timeout-408": at(Said("", 408), 2),
    "empty-204": at(Said("", 204), 2),
    "envoy-within-200": at(Said("upstream connect error", kind="text/plain"), 2),
    "captcha": at(page(503, "Just a moment..."), 2),
    "forbidden-page": at(page(403, "403 Forbidden"), 2, 3),
    "not-acceptable": at(page(406, "Not Acceptable!"), 2),
}
"""All rows are answered, each paid for once."""

FORMS: dict[str, Behaviour] = {
    "reasoning-alone": form(message='{"content":"","reasoning_content":"думаю"}'),
    "max-tokens": form(message='{"content":null}', finish='"MAX_TOKENS"'),
    "prohibited": form(message="null", finish='"PROHIBITED_CONTENT"'),
    "safety": form(message="{}", finish='"SAFETY"'),
    "delta": _delta,
    "under-data": _data,
    "stream": _stream,
    "refused": form(message='{"content":null,"refusal":"не могу"}'),
    "tools": form(message='{"content":null,"tool_calls":[{"id":"1"}]}', finish='"tool_calls"'),
    "parts": form(message='{"content":[{"type":"text","text":"ответ"}]}'),
    "capitals": form(finish='"STOP"'),
    "dated": form(model='"dated-2026-04-14"'),
    "plain-gzip": _gzip_in_name,
    "plain-br": _brotli_in_name,
    "raw-deflate": _raw_deflate,
    "latin-1": _latin,
    "cost-as-text": form(f'{{"prompt_tokens":11,"completion_tokens":5,"cost":"{COST}"}}'),
    "cost-as-object": form(
        f'{{"prompt_tokens":11,"completion_tokens":5,"cost":{{"total_cost":{COST}}}}}'
    ),
    "floats": form(f'{{"prompt_tokens":11.0,"completion_tokens":5.0,"cost":{COST}}}'),
    "input-tokens": form(f'{{"input_tokens":11,"output_tokens":5,"cost":{COST}}}'),
    "litellm-header": _header_cost,
    "any-envelope": _changed(lambda body: '{"success":true,"result":' + body + "}"),
    "list-of-one": _changed(lambda body: f"[{body}]"),
    "text-in-json": _changed(lambda body: '{"statusCode":200,"body":' + json.dumps(body) + "}"),
    "byte-order-mark": _changed(lambda body: "\ufeff" + body),
    "something-behind": _changed(lambda body: body + "\r\n0\r\n"),
    "nan-in-usage": _changed(lambda body: body.replace('"total_tokens":16', '"total_tokens":NaN')),
    "negative-usage": _changed(lambda body: body.replace(":11,", ":-11,")),
    "choices-as-object": _changed(lambda body: body.replace(":[{", ":{").replace("}]", "}")),
    "message-as-text": form(message='"ответ"'),
    "text-of-a-choice": form(message='null,"text":"ответ"'),
    "content-as-object": form(message='{"content":{"type":"text","text":"ответ"}}'),
    "end-turn": form(finish='"end_turn"'),
    "as-plain-text": lambda asked: Said(answer(asked).body, kind="text/plain"),
    "as-a-page": lambda asked: Said(answer(asked).body, kind="text/html"),
    "as-206": lambda asked: Said(answer(asked).body, 206),
}
"""All rows are answered at the first call, for `COST` each."""

FAILING: dict[str, tuple[Behaviour, str, str]] = {
    "too-large": (row(error(429, TOO_LARGE)), "endpoint.too_large", "Requested 30601"),
    "firewall": (row(page(403, "Request blocked")), "endpoint.forbidden", "Request blocked"),
    "moderation": (
        row(error(403, "Your input was flagged")),
        "endpoint.moderation",
        "Your input was flagged",
    ),
    "fastapi-422": (
        row(Said('{"detail":[{"loc":["body","top_p"],"msg":"must be below 1"}]}', 422)),
        "endpoint.unprocessable",
        "body.top_p: must be below 1",
    ),
    "azure-inner": (
        row(
            error(
                400, "The request was blocked.", innererror={"code": "ResponsibleAIPolicyViolation"}
            )
        ),
        "endpoint.moderation",
        "The request was blocked.",
    ),
    "legal-reasons": (
        row(error(451, "Unavailable for legal reasons")),
        "endpoint.refused",
        "Unavailable for legal reasons",
    ),
    "nginx-413": (
        row(page(413, "413 Request Entity Too Large")),
        "endpoint.too_large",
        "413 Request Entity Too Large",
    ),
    "nginx-431": (
        row(page(431, "Request Header Or Cookie Too Large")),
        "endpoint.refused",
        "Request Header Or Cookie Too Large",
    ),
    "unknown-fields": (
        row(Said('{"fehler":{"text":"Das geht leider nicht"}}', 400)),
        "endpoint.bad_request",
        "Das geht leider nicht",
    ),
    "another-api": (
        row(Said('{"type":"message","content":[{"text":"ответ"}],"usage":{"input_tokens":9}}')),
        "endpoint.bad_body",
        "the response is not a chat completion",
    ),
    "no-models-ever": (row(error(400, "No models provided")), "endpoint.lost_body", "No models"),
}
"""One row of each fails, with this code and these words."""

STOPPING: dict[str, Behaviour] = {
    "well": answer,
    "limit-0": always(error(429, "Quota exceeded, limit: 0. Please retry in 1s", code=429)),
    "vllm-404": always(
        Said('{"object":"error","message":"The model `vllm-404` does not exist."}', 404)
    ),
    "balance-1113": always(error(429, "您的账户已欠费，请充值后重试。", code="1113")),
}
"""But for the first, the rows of each wait for the user."""


class World:
    """The server, on a port of loopback. `calls` counts (model, row); `says` overrides them all."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self.behaviours = behaviours
        self.calls: Counter[tuple[str, int]] = Counter()
        self.says: Behaviour | None = None
        self.times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.base_url = ""
        self._serving = serving(self._handler())

    def __enter__(self) -> Self:
        self.base_url = f"http://127.0.0.1:{self._serving.__enter__()}/api/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    def reply(self, body: dict[str, Any]) -> Said:
        """To one chat completion."""
        model, number = body["model"], int(body["messages"][0]["content"].split()[-1])
        with self._lock:
            self.times[model] += 1
            self.calls[model, number] += 1
            asked = Asked(model, number, self.times[model], self.calls[model, number])
        return (self.says or self.behaviours[model])(asked)

    def catalogue(self) -> Said:
        """Every model at a price."""
        prices = {"prompt": 0.00001, "completion": 0.00002}
        listed = [{"id": name, "pricing": prices} for name in self.behaviours]
        return Said(json.dumps({"data": listed}))

    def _handler(world) -> type[Quiet]:  # noqa: N805
        class Handler(Quiet):
            def answer(self) -> None:
                if self.command == "POST":
                    self.send(world.reply(json.loads(self.body)))
                elif self.path.endswith("/models"):
                    self.send(world.catalogue())
                else:
                    self.send(Said('{"error":"Not Found"}', 404))

            def send(self, said: Said) -> None:
                if said.status == 0:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    return
                body = said.body if isinstance(said.body, bytes) else said.body.encode()
                with suppress(OSError):
                    self.reply(said.status, body, {"Content-Type": said.kind, **said.headers})

        return Handler


def lines(models: dict[str, Any] | list[str], rows: int) -> str:
    """An input of so many rows for each model."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"{model}/{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [{"role": "user", "content": f"row {number}"}],
                    "max_tokens": 20,
                },
            }
        )
        + "\n"
        for number in range(rows)
        for model in models
    )
