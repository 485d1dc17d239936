"""A key is taken out of what an endpoint says, however it is spelled, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from jobs.redaction import REDACTED, Redactor

KEY = "sk-or-v1-4f1Bc09/3e+7a2d85Q6b" + "0123456789abcdefFEDCBA9876543210"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in the head": lambda key: f"Authorization: Bearer {key}",
    "its start": lambda key: f"{key[:24]}***",
    "its end": lambda key: f"…{key[-13:]}",
    "its middle": lambda key: key[20:33],
    "twice": lambda key: f"{key} and {key}{key}",
    "upper": str.upper,
    "lower": str.lower,
    "reversed": lambda key: key[::-1],
    "hex": lambda key: key.encode().hex(),
    "HEX": lambda key: key.encode().hex().upper(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of the head": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "basic": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
    "base64 for addresses": lambda key: base64.urlsafe_b64encode(f"a{key}?>".encode()).decode(),
    "a part of base64": lambda key: base64.b64encode(key.encode()).decode()[8:40],
    "percents": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "an address": lambda key: quote(key, safe=""),
    "html": lambda key: "".join(f"&#{ord(sign)};" for sign in key),
    "html, hex": lambda key: "".join(f"&#x{ord(sign):x};" for sign in key),
    "json escapes": lambda key: "".join(f"\\u{ord(sign):04x}" for sign in key),
    "slashes": lambda key: key.replace("/", "\\/"),
}
LEAST = 12


def shown(text: str) -> bool:
    """Whether so much of the key can be read out of the text that it is a quotation."""
    views = {text, html.unescape(text)}
    return any(KEY[at : at + LEAST] in view for view in views for at in range(len(KEY) - LEAST + 1))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("nested", [0, 1, 2])
def test_however_an_error_spells_the_key_it_is_gone(spelling: str, nested: int) -> None:
    quoted = SPELLINGS[spelling](KEY)
    text = f"перед {quoted} after"
    escaped = spelling in {"json escapes", "slashes"}
    body = f'{{"error":{{"message":"{text}"}}}}' if escaped else json.dumps({"message": text})
    for _ in range(nested):
        body = json.dumps({"error": {"message": body}}, ensure_ascii=False)

    clean = Redactor(KEY).body(body.encode(), answered=False)

    assert REDACTED in clean
    assert quoted.encode() not in clean
    assert not shown(clean.decode())
    told = json.loads(clean)
    for _ in range(nested):
        told = json.loads(told["error"]["message"])
    told = told["error"] if escaped else told
    assert not shown(told["message"])
    assert "перед" in told["message"]
    assert "after" in told["message"]


@pytest.mark.parametrize("spelling", ["as it is", "in the head", "hex", "base64", "basic"])
def test_an_answer_that_quotes_the_key_keeps_all_but_that(spelling: str) -> None:
    content = f"начало {SPELLINGS[spelling](KEY)} конец\n"
    body = json.dumps({"choices": [{"message": {"content": content}}], "cost": 0.1})

    clean = Redactor(KEY).body(body.encode(), answered=True).decode()

    assert not shown(clean)
    assert '"cost": 0.1}' in clean
    found = json.loads(clean)["choices"][0]["message"]["content"]
    assert found.startswith("начало ")
    assert found.endswith(" конец\n")


@pytest.mark.parametrize(
    "key", ["EMPTY", "not-needed", "simulated", "sk-1", "placeholder", "notneededhere"]
)
def test_a_word_that_stands_in_for_a_key_is_left_alone(key: str) -> None:
    body = f"{key} is {key}".encode()

    assert Redactor(key).body(body, answered=False) == body


def test_what_only_looks_alike_stays_byte_for_byte() -> None:
    said = 'sk-or-v1- keys are "\\u0073ecret", 100%25, &#65; ' + KEY[20:31] + " 4f1Bc09"
    body = json.dumps({"error": said}).encode() + b"\xff\xfe \\u00e9"

    assert Redactor(KEY).body(body, answered=False) == body
    assert Redactor(KEY).headers({"x": said}) == {"x": said}


@pytest.mark.parametrize("key", ["eight-77", "twelve-signs", "sixteenlettersab"])
def test_a_key_is_secret_from_the_length_on_that_no_word_has(key: str) -> None:
    assert Redactor(key).text(key) == REDACTED.decode()


def test_headers_are_cleaned_too() -> None:
    clean = Redactor(KEY).headers({"location": f"https://example.com/?k={KEY}", "date": "now"})

    assert clean == {"location": f"https://example.com/?k={REDACTED.decode()}", "date": "now"}


def test_other_secrets_are_taken_out_as_the_key_is_with_what_is_within_them() -> None:
    login = base64.b64encode(b"night:pass-word-77").decode()
    redactor = Redactor(KEY, "tenant-5-secret", "Bearer tok-31415926", f"Basic {login}")
    said = f"{KEY}, tenant-5-secret, tok-31415926, {login}, pass-word-77, tenant, Bearer, night"
    told = json.dumps({"choices": [{"message": {"content": said}}]}).encode()

    for body, answered in ((told, True), (b'{"error":' + told + b"}", False)):
        clean = redactor.body(body, answered=answered).decode()
        for secret in (KEY, "tenant-5-secret", "tok-31415926", login, "pass-word-77"):
            assert secret not in clean
        assert clean.count(REDACTED.decode()) == 5
        assert "tenant, Bearer, night" in clean
