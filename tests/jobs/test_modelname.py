from __future__ import annotations

import pytest

from jobs.modelname import nearest, take_apart

LISTED = (
    *("openai/gpt-4o", "openai/gpt-4o-mini", "anthropic/claude-3.5-sonnet", "minimax/minimax-m1"),
    *("deepseek/deepseek-v4-flash", "qwen/qwen3.5-35b"),
)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("gpt-4o-mini", "openai/gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"),
        ("openai/GPT-4o", "openai/gpt-4o"),
        ("claude-3-5-sonnet-20241022", "anthropic/claude-3.5-sonnet"),
        ("minimax-m1", "minimax/minimax-m1"),
        ("deepsek-v4-flash", "deepseek/deepseek-v4-flash"),
        ("azure/qwen3-5-35b", "qwen/qwen3.5-35b"),
        ("gpt-4o-mini@provider=x", "openai/gpt-4o-mini"),
    ],
)
def test_the_nearest_name_is_what_was_meant(name: str, first: str) -> None:
    assert nearest(name, LISTED)[0] == first


def test_nothing_is_near_to_nonsense() -> None:
    assert nearest("zzzzzz", LISTED) == []


@pytest.mark.parametrize(
    ("name", "listed", "providers"),
    [
        ("a/b", ("a/b",), ()),
        ("a/b:free", ("a/b:free", "a/b"), ()),
        ("a/b@provider=x&allow_fallbacks=false", ("a/b",), ("x",)),
        ("a/b@provider=x", ("a/b",), ()),
        ("~a/b-latest", ("~a/b-latest",), ()),
    ],
)
def test_a_name_is_taken_apart(
    name: str, listed: tuple[str, ...], providers: tuple[str, ...]
) -> None:
    asked = take_apart(name)

    assert asked.providers == providers
    assert set(listed) <= set(asked.listed)
