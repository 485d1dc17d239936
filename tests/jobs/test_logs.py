"""A record of the log is one line, whatever it quotes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from jobs.logs import FORMAT, OneLine


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


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_holds_our_lines_alone_each_of_them_one(form: str) -> None:
    program = (
        "import logging; from jobs.logs import FORMAT, log_to_stderr;"
        "log_to_stderr('INFO', '%(levelname)s %(name)s: %(message)s');"
        "logging.getLogger('kombu').critical('foreign');"
        "logging.getLogger('nightshift.worker').info('one\\ntwo')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, FORMAT: form},
        capture_output=True,
        text=True,
        check=True,
    )

    (line,) = process.stderr.splitlines()
    if form == "json":
        told = json.loads(line)
        assert (told["level"], told["logger"]) == ("info", "nightshift.worker")
        assert told["text"] == "one\ntwo"
    else:
        assert line == "INFO nightshift.worker: one\\ntwo"
