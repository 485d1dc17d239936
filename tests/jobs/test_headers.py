"""Headers for the endpoint: where values come from, and what may not be one."""

from __future__ import annotations

import pytest

from jobs import headers
from jobs.errors import UsageError
from jobs.secret import header_secrets


def never(path: str) -> str:
    raise AssertionError(path)


def test_values_come_from_the_words_a_file_or_a_variable() -> None:
    given = ["X-Title=a=b", "api-key=@/keys/azure", "X-Org= env:ORG ", "Authorization="]

    found = headers.resolve(given, {"ORG": "o-1\n"}, lambda path: f"in {path}")

    assert found == {
        "X-Title": "a=b",
        "api-key": "in /keys/azure",
        "X-Org": "o-1",
        "Authorization": "",
    }
    assert headers.names(given) == ("api-key", "authorization", "x-org", "x-title")


@pytest.mark.parametrize(
    "text", ["X-Title", "=x", "X Y=1", "Host=x", "content-length=1", "Accept-Encoding=br", "é=1"]
)
def test_what_is_no_header_or_frames_the_request_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="header"):
        headers.parse(text)


@pytest.mark.parametrize("text", ["X-A=one\r\nX-B: two", "X-A=\x00", "X-A=я", f"X-A={'x' * 9000}"])
def test_a_value_that_is_no_line_of_ascii_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match="X-A must be one line of ASCII") as refusal:
        headers.resolve([text], {}, never)

    assert text.partition("=")[2] not in refusal.value.message


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UsageError, match="from ORG, which is not set"):
        headers.resolve(["X-Org=env:ORG"], {"ORG": " "}, never)


@pytest.mark.parametrize(
    ("text", "is_secret"),
    [
        ("api-key=abc", True),
        ("x-portkey-api-key=abc", True),
        ("Authorization=Bearer abc", True),
        ("X-Whatever=sk-abc", True),
        ("X-Auth-Token=abc", True),
        ("api-key=@/f", False),
        ("api-key=env:K", False),
        ("Authorization=", False),
        ("x-portkey-provider=openai", False),
        ("X-Title=Night", False),
    ],
)
def test_a_secret_in_the_words_themselves_is_known(text: str, is_secret: bool) -> None:
    assert headers.is_open_secret(text) is is_secret


def test_the_secrets_among_several_headers_are_their_values_alone() -> None:
    given = "X-Title=Night\nX-Portkey=env:PORTKEY\napi-key=abc-123"

    found = header_secrets({headers.VARIABLE: given, "PORTKEY": "pk-77"})

    assert found == ("pk-77", "abc-123")


def test_as_many_headers_as_are_allowed_are_taken() -> None:
    given = [f"X-{number}=v" for number in range(headers.MOST)]

    assert len(headers.resolve(given, {}, str)) == headers.MOST
    with pytest.raises(UsageError, match="more than"):
        headers.resolve([*given, "X-One-More=v"], {}, str)
