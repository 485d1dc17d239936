"""The kinds of faults, their settings, and what the program tells people of them."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from .refusals import FORMS, MEANINGS

Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `settings` have their defaults, whose types the given ones must have.

    `family`: a *refusal* takes the place of the answer, *answer* changes what it says, *wire* how
    it travels. `bill`: whether such a call is billed when the rule does not say.
    """

    family: str
    about: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    bill: bool = field(default=False, kw_only=True)


_REFUSAL: dict[str, Setting] = {
    "meaning": None,
    "text": None,
    "retry_after": None,
    "after": 0.0,
}

KINDS: dict[str, Kind] = {
    "status": Kind(
        "refusal",
        "an error status; retry_after is sent as it is, date:7 is an HTTP date in 7 s;\n"
        "should_retry sets x-should-retry; skew sets the server's clock wrong by seconds",
        {"code": 500, "should_retry": None, "skew": 0.0, **_REFUSAL},
    ),
    "wrapped": Kind(
        "refusal",
        "an error of `code` under another status; cost: with usage, and billed;\n"
        f"form: {', '.join(FORMS)}",
        {"code": 502, "status": 503, "form": "object", "cost": False, **_REFUSAL},
    ),
    "redirect": Kind(
        "refusal", "3xx to `location`", {"code": 307, "location": "http://127.0.0.1:9/"}
    ),
    "html": Kind("refusal", "a web page", {"status": 200}),
    "empty": Kind("refusal", "a body of no bytes", {"status": 200}),
    "null": Kind("refusal", "the body null", {"status": 200}),
    "list": Kind("refusal", "a JSON list", {"status": 200}),
    "string": Kind("refusal", "a JSON string", {"status": 200}),
    "no_content": Kind("refusal", "204 without a body", {"status": 204}),
    "sse": Kind("refusal", "server-sent events instead of JSON", {"status": 200}),
    "deep": Kind(
        "refusal", "JSON nested `depth` deep", {"status": 200, "depth": 100_000}, bill=True
    ),
    "finish": Kind(
        "answer",
        "another finish_reason: length, content_filter, error, missing, null or\nany word",
        {"reason": "length"},
        bill=True,
    ),
    "no_choices": Kind("answer", "choices: []", bill=True),
    "no_content_text": Kind("answer", "a message with empty content", bill=True),
    "content": Kind(
        "answer",
        "hostile text: surrogate, nul, separators (U+2028 U+2029 U+0085), ansi,\nhtml, formula",
        {"text": "ansi"},
        bill=True,
    ),
    "usage": Kind(
        "answer",
        "usage: missing, null, no_cost, null_cost, zero_prompt, negative,\nfraction, text",
        {"form": "missing"},
        bill=True,
    ),
    "cost": Kind("answer", "usage.cost is `value`, as it stands", {"value": "NaN"}, bill=True),
    "price": Kind("answer", "the call costs `factor` times its price", {"factor": 3.0}, bill=True),
    "other_model": Kind(
        "answer", "another `name` stands under model", {"name": "example/stand-in"}, bill=True
    ),
    "same_id": Kind(
        "answer", "repeats of a body keep the first one's id and are billed once", bill=True
    ),
    "never": Kind(
        "wire", "no byte at all for `seconds` (0: until the client goes)", {"seconds": 0.0}
    ),
    "silence": Kind(
        "wire",
        "headers, then nothing for `seconds` (0: until the client goes)",
        {"seconds": 0.0},
        bill=True,
    ),
    "whitespace": Kind(
        "wire",
        "a space `every` so often for `seconds` (0: until the client goes)",
        {"every": 1.0, "seconds": 0.0},
        bill=True,
    ),
    "slow": Kind("wire", "the body dribbles over `seconds`", {"seconds": 2.0}, bill=True),
    "reset": Kind("wire", "RST before any byte, `after` seconds", {"after": 0.0}),
    "reset_body": Kind("wire", "RST after a `part` of the body", {"part": 0.5}, bill=True),
    "cut": Kind("wire", "a chunked body that ends early (FIN)", {"part": 0.5}, bill=True),
    "truncated": Kind("wire", "whole for HTTP, but a `part` of the JSON", {"part": 0.5}, bill=True),
    "length": Kind("wire", "Content-Length is `off` from the truth", {"off": 10}, bill=True),
    "huge": Kind("wire", "the content has `bytes` bytes", {"bytes": 500_000_000}, bill=True),
    "bomb": Kind(
        "wire",
        "`bytes` of spaces, compressed: gzip, deflate or zstd",
        {"bytes": 1_000_000_000, "encoding": "gzip"},
        bill=True,
    ),
    "desync": Kind("wire", "two responses to one request", bill=True),
    "big_headers": Kind("wire", "`bytes` of headers", {"bytes": 200_000}, bill=True),
    "http09": Kind("wire", "a body without status line and headers", bill=True),
    "early_hints": Kind("wire", "103 before the answer", bill=True),
}

WHEN: dict[str, tuple[Setting, str]] = {
    "on": ("chat", "the path: chat, models, endpoints, generation, credits, key"),
    "share": (1.0, "of the calls, chosen by seed, body and attempt"),
    "row": (None, "the request body contains this text"),
    "model": (None, "the request is for this model"),
    "attempt": (None, "only the n-th call with the same body"),
    "call": (None, "only the n-th call on this path"),
    "every": (None, "each n-th call on this path"),
    "from_call": (None, "from the n-th call on this path"),
    "until_call": (None, "until and with the n-th call on this path"),
    "from": (None, "seconds since the rules were set"),
    "until": (None, "seconds since the rules were set"),
    "times": (None, "at most so often in all"),
    "times_per_request": (None, "at most so often for one body"),
    "bill": (None, "whether the call is billed (each kind has its default)"),
}
# What `mix` stands for: all that passes by itself, nothing so large or long as to stall a test.
_MIX = """
    429 429:retry_after=1 429:retry_after=date:1 429:retry_after=garbage 429:meaning=upstream
    500 502 503:retry_after=1 504 408 409 524 529 402:meaning=in_flight,retry_after=1
    wrapped:code=429,form=nested,retry_after=1 wrapped:code=502,form=string
    error200:code=502,form=json error200:code=429,form=object,retry_after=1
    error200:code=502,form=text error200:code=502,cost=true
    html empty null list string no_content sse deep no_choices no_content_text other_model
    finish:reason=length finish:reason=content_filter finish:reason=error finish:reason=odd
    finish:reason=missing content:text=surrogate content:text=nul content:text=separators
    content:text=ansi usage:form=missing usage:form=null usage:form=no_cost usage:form=zero_prompt
    cost:value=NaN cost:value=1e999 cost:value=-1 cost:value=true
    silence:seconds=2 whitespace:seconds=2,every=0.2 slow:seconds=1
    reset reset:bill=true,after=1.5 reset_body cut truncated length:off=10 length:off=-10
    desync big_headers http09 early_hints
"""
MIX = _MIX.split()


def describe_kinds() -> str:
    """Every kind and setting with its default, for people."""
    lines = ["Kinds (a number alone is a status of that code, error200 is wrapped:status=200):", ""]
    for name, kind in KINDS.items():
        about = kind.about.replace("\n", "\n" + " " * 18)
        lines.append(f"  {name:<16}{about} [{kind.family}{', billed' if kind.bill else ''}]")
        told = ", ".join(f"{key}={_shown(value)}" for key, value in kind.settings.items())
        lines += [f"  {'':<16}{told}"] if told else []
    lines += [f"  {'mix':<16}a `share` (0.1) of calls gets one of:"]
    lines += textwrap.wrap(" ".join(MIX), 90, initial_indent=" " * 18, subsequent_indent=" " * 18)
    lines += ["", "Settings of every kind:", ""]
    lines += [f"  {name:<20}{about}" for name, (_, about) in WHEN.items()]
    lines += ["", "Meanings of a status:", ""]
    lines += [f"  {code}  {', '.join(meanings)}" for code, meanings in MEANINGS.items()]
    return "\n".join(lines)


def _shown(value: Setting) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
