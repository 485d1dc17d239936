"""What an endpoint said may be shown anywhere: one line, no key, nothing of a prompt."""

from __future__ import annotations

import json

import pytest

from jobs.message import Message
from workers.calling.shown_text import LONGEST, own_words

PROMPT = "Опиши подробно, почему небо синее, а трава зелёная.\nВторая строка."
BODY = json.dumps({"model": "minimax/minimax-m1", "messages": [{"content": PROMPT}]}).encode()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("slow down", "HTTP 429: slow down"),
        ("HTTP 429 from upstream", "HTTP 429 from upstream"),
        ("two\nlines\tand \x1b[31mred\x1b[0m", "HTTP 429: two lines and [31mred [0m"),
        ("left\u202eright\u2028next", "HTTP 429: left right next"),
        ("Incorrect key: sk-abcdef123456 (see docs)", "HTTP 429: Incorrect key: … (see docs)"),
        ("Bearer abc.def is not valid", "HTTP 429: … is not valid"),
        ("no model minimax/minimax-m1 here", "HTTP 429: no model minimax/minimax-m1 here"),
        ("user org-a1b2c3d4e5f6a1b2c3d4e5f6a1 is over", "HTTP 429: user org-… is over"),
    ],
)
def test_words_are_a_line_without_controls_and_keys(said: str, shown: str) -> None:
    assert own_words(said, BODY, 429) == shown


@pytest.mark.parametrize(
    "quoted", [PROMPT, PROMPT.replace("\n", " "), PROMPT[7:40], json.loads(json.dumps(PROMPT))]
)
def test_a_prompt_that_is_quoted_is_cut_out(quoted: str) -> None:
    shown = own_words(f"flagged: «{quoted}»", BODY, 403)

    assert shown.startswith("HTTP 403: flagged: «…")
    assert "небо" not in shown


def test_a_line_has_an_end() -> None:
    assert len(own_words("а б " * 1000)) == LONGEST
    assert own_words("") == ""
    assert own_words("x", b"no JSON", 500) == "HTTP 500: x"


def test_a_sentence_within_a_sentence_is_made_harmless_too() -> None:
    quoted = Message("HTTP {status}: {words}", status=404, words=f"sk-abcdef123 {'x' * 2000}")
    told = own_words(Message("there may be no /{path}: {why}", path="embeddings", why=quoted))

    assert "sk-" not in told
    assert len(told) < 2 * LONGEST
