"""A record of the log is one line, whatever it quotes."""

from __future__ import annotations

import logging

import pytest

from jobs.logs import OneLine


def line(text: str) -> str:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "told: %s", (text,), None)
    return OneLine("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nINFO forged", "a\\nINFO forged"),
        ("\x1b[2J\x07\r", "\\x1b[2J\\x07\\r"),
        ("\u202egnp\u2028", "\\u202egnp\\u2028"),
        ("\udc80", "\\udc80"),
        ("обычный\tтекст — ₽", "обычный\tтекст — ₽"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_by_its_number(text: str, shown: str) -> None:
    assert line(text) == f"INFO told: {shown}"
