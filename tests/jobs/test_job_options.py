"""The spec: what is refused in it, that it stays as it is, and that it survives the disk."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.address import check_base_url, join
from jobs.job_options import Budget, Limits, Spec
from jobs.notify import Notify


def spec(**wish: Any) -> Spec:
    return Spec(
        **{
            "name": "reviews",
            "source": "reviews.jsonl",
            "output_dir": "/out",
            "base_url": "https://routerai.ru/api/v1",
            **wish,
        }
    )


@pytest.mark.parametrize(
    "url",
    [
        *("https://routerai.ru/api/v1", "https://api.example:8443/v1", "https://пример.рф/v1"),
        *("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1"),
        "https://routerai.ru/api/v1/",
    ],
)
def test_an_address_is_taken_without_its_trailing_slash(url: str) -> None:
    assert check_base_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        *("", "routerai.ru", "ftp://routerai.ru", "file:///etc/passwd", "https://", "//host/v1"),
        *("https://[::1", "https://host:port/v1", "https://host:99999/v1", "https://host:0/v1"),
        *("https://ho st/v1", "https://host/v1\n", "https://host\t/v1", "https://host\\@evil/v1"),
        *("https://host/v1?", "https://host/v1#top", "https://\x00host"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://routerai.ru/api/v1", "HTTP://routerai.ru", "http://10.0.0.1/v1"),
        *("http://localhost.example/v1", "http://127.0.0.1.example/v1", "http://0.0.0.0/v1"),
    ],
)
def test_a_key_is_not_sent_in_the_clear_to_another_machine_s4(url: str) -> None:
    with pytest.raises(ValueError, match="would send the key unencrypted"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.0.5:8000/v1", "http://192.168.1.2/v1", "http://[fd00::1]/v1"),
        *("http://vllm:8000/v1", "http://gpu.lan/v1", "http://100.64.3.2/v1"),
    ],
)
def test_a_private_address_may_be_called_in_the_clear_once_that_is_said(url: str) -> None:
    assert check_base_url(url, insecure=True) == url
    assert spec(base_url=url, insecure_http=True).base_url == url
    with pytest.raises(ValueError, match="or --insecure-http"):
        check_base_url(url)


@pytest.mark.parametrize("url", ["http://routerai.ru/v1", "http://8.8.8.8/v1", "http://0.0.0.0/v1"])
def test_a_public_address_is_never_called_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match=r"use https$"):
        check_base_url(url, insecure=True)


def test_an_address_may_have_a_query_and_paths_go_before_it() -> None:
    azure = "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21"

    assert check_base_url(azure.replace("?", "/?")) == azure
    assert join(azure, "chat/completions") == azure.replace("?", "/chat/completions?")
    assert join(azure, "generation?id=7").endswith("/generation?api-version=2024-10-21&id=7")
    assert join("https://host/v1", "models") == "https://host/v1/models"


@pytest.mark.parametrize("name", ["key", "api_key", "token", "sig", "client_secret", "code"])
def test_a_key_in_the_query_would_be_stored_and_is_refused_unshown(name: str) -> None:
    with pytest.raises(ValueError, match="--header") as refusal:
        check_base_url(f"https://host/v1?a=1&{name}=canary")

    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions/", "/responses"])
def test_an_address_that_carries_too_much_is_told_with_the_one_meant(path: str) -> None:
    with pytest.raises(ValueError, match="use https://host/v1\\?a=1"):
        check_base_url(f"https://host/v1{path}?a=1")


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/v1", "https://:secret@host/v1", "http://localhost:secret@host"]
)
def test_a_password_within_an_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="only a host, a path and a query") as refusal:
        check_base_url(url)

    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "wish",
    [
        {"base_url": "http://far.example/v1"},
        {"window": "25:00-07:00"},
        {"max_tokens": 0},
        {"max_attempts": 0},
        {"total_timeout_s": 0},
        {"chunk_size": -1},
        {"limits": {"rpm": 0}},
        {"budget": {"rub": "-1"}},
        {"budget": {"rub": "NaN"}},
        {"budget": {"rub": "Infinity"}},
        {"budget": {"tokens": -1}},
        {"budget": {"roubles": 5}},
        {"colour": "red"},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**wish)


@pytest.mark.parametrize("field", ["base_url", "model", "budget", "window", "colour"])
def test_a_spec_cannot_be_changed(field: str) -> None:
    one = spec()

    with pytest.raises(ValidationError):
        setattr(one, field, None)


def test_the_parts_of_a_spec_cannot_be_changed_either() -> None:
    one = spec(budget=Budget(rub=Decimal(5)), limits=Limits(rpm=5))

    with pytest.raises(ValidationError):
        one.budget.rub = Decimal(500)
    with pytest.raises(ValidationError):
        one.limits.rpm = 500


@given(
    st.decimals(0, Decimal("1e15"), places=12),
    st.one_of(st.none(), st.integers(1, 10**9)),
    st.text(max_size=30),
)
def test_a_spec_survives_the_disk_to_the_last_digit(
    rub: Decimal, rpm: int | None, name: str
) -> None:
    one = spec(name=name, budget=Budget(rub=rub), limits=Limits(rpm=rpm), window="23:00-07:00")

    again = Spec.model_validate_json(one.model_dump_json())

    assert again == one
    assert again.budget.rub == rub


def test_a_worker_is_told_limits_timeouts_and_whether_to_pay_twice() -> None:
    terms = spec(
        limits=Limits(rpm=7, tpm=8, max_in_flight=9),
        never_pay_twice=True,
        total_timeout_s=12,
        max_attempts=3,
    ).terms()

    assert (terms.rpm, terms.tpm, terms.max_in_flight) == (7, 8, 9)
    assert (terms.never_pay_twice, terms.total_timeout_s, terms.max_attempts) == (True, 12, 3)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org:0/hook",
        "https://[::1/hook",
        "https://me:pw@example.org/hook",
        "http://example.org/hook",
        "https:///hook",
        "ftp://example.org/hook",
    ],
)
def test_a_webhook_that_is_none_or_would_tell_its_secrets_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="webhook"):
        Notify(url=url)
