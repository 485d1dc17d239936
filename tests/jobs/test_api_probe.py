"""What is said to an empty request tells whether an API is there."""

from __future__ import annotations

import pytest

from jobs.api_probe import others, speaks


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"choices":[]}'),
        (400, b'{"error":{"message":"messages: field required"}}'),
        (401, b'{"error":"no key"}'),
        (422, b'{"detail":[{"loc":["body","messages"]}]}'),
        (404, b'{"object":"error","message":"The model `` does not exist.","code":404}'),
        (500, b'{"error":{"message":"\'NoneType\'"}}'),
    ],
)
def test_an_api_says_what_an_empty_request_lacks(status: int, body: bytes) -> None:
    assert speaks(status, body)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"detail":"Not Found"}'),
        (404, b'{"error":{"message":"Invalid URL (POST /chat/completions)"}}'),
        (404, b"404 page not found"),
        (405, b'{"detail":"Method Not Allowed"}'),
        (200, b"<!doctype html><html></html>"),
        (302, b"{}"),
        (400, b""),
        (400, b"[" * 5000),
    ],
)
def test_a_page_and_a_framework_are_no_api(status: int, body: bytes) -> None:
    assert not speaks(status, body)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://h", ["https://h/v1", "https://h/api/v1"]),
        ("https://h/v1", ["https://h/v1/v1", "https://h/v1/api/v1", "https://h/api/v1"]),
        ("https://h/openai?a=1", ["https://h/openai/v1?a=1", "https://h/openai/api/v1?a=1"]),
        ("https://h/v1/x", ["https://h/v1/x/v1", "https://h/v1/x/api/v1", "https://h/v1"]),
    ],
)
def test_what_may_be_meant_is_at_the_same_host(url: str, found: list[str]) -> None:
    assert others(url)[: len(found)] == found
    assert url not in others(url)
