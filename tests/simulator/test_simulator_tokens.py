"""How texts count: unlike in each script, unlike in each row, never above their bytes."""

from __future__ import annotations

import random

import pytest

from scripts.simulator.tokens import prompt_tokens, tokens_in

RUSSIAN = "Ночная смена разбирает очередь писем, пока город спит; утром остаются только ответы. "
ENGLISH = "The night shift goes through the queue of letters while the city sleeps soundly. "
CODE = "for i in range(10):\n    total += values[i] * 0x1F  # sum\n"
CHINESE = "夜班处理信件队列,城市正在沉睡。"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [(ENGLISH, 3.5, 5.5), (RUSSIAN, 2.2, 3.6), (CODE, 2.0, 3.8), (CHINESE, 1.0, 1.6)],
    ids=["english", "russian", "code", "chinese"],
)
def test_each_script_has_its_own_characters_per_token(text: str, least: float, most: float) -> None:
    assert least < len(text * 20) / tokens_in(text * 20) < most


def test_texts_of_one_length_count_differently() -> None:
    counts = {tokens_in(f"{RUSSIAN * 20}{number:03}") for number in range(100)}

    assert len(counts) > 20
    assert max(counts) / min(counts) < 1.2


def test_no_text_has_more_tokens_than_bytes() -> None:
    dice = random.Random(1)
    for _ in range(300):
        text = "".join(dice.choices("aя夜🙂!\n 1_", k=dice.randrange(1, 60)))
        assert tokens_in(text) <= len(text.encode())


def test_tools_count_and_parts_of_a_message_count_as_their_text() -> None:
    whole = [{"role": "user", "content": ENGLISH}]
    parts = [{"role": "user", "content": [{"type": "text", "text": ENGLISH}]}]

    assert prompt_tokens(whole, {}) == prompt_tokens(parts, {})
    assert prompt_tokens(whole, {"tools": [{"type": "function"}]}) > prompt_tokens(whole, {})
