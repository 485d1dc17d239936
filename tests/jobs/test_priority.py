"""Priorities are shares."""

from __future__ import annotations

import pytest

from jobs.priority import NORMAL, parse_share, queue_place


def test_words_and_numbers_are_shares() -> None:
    assert [parse_share(text) for text in ("high", "Normal", " low ", "25", "0.5")] == [
        100.0,
        NORMAL,
        1.0,
        25.0,
        0.5,
    ]


@pytest.mark.parametrize("text", ["", "urgent", "0", "-1", "nan", "inf", "1001", "1,5"])
def test_what_is_no_share_is_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(ValueError, match="high, normal, low or a number up to 1000"):
        parse_share(text)


def test_a_larger_share_is_served_first_where_chunks_wait() -> None:
    assert queue_place(100.0) < queue_place(NORMAL) < queue_place(1.0)
