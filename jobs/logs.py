"""A log in which every record is one line: what comes from outside can neither forge another nor
steer the terminal of whoever reads it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime

from jobs.message import Message, data_of

FORMAT = "NIGHTSHIFT_LOG_FORMAT"
"""The variable that says how a log is written: text or json."""

RELAYED = "NIGHTSHIFT_RELAYED"
"""Set where a command shows what a process of it logs."""

_MARK = "\N{INFORMATION SEPARATOR TWO}"
"""Stands in no line: control characters are escaped."""

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+: ")
"""What stands before the words of a log; a person at a terminal needs none of it."""

UNSAFE = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What steers a terminal or the order of what is read there, and what is no character."""


class OneLine(logging.Formatter):
    """Control and bidirectional characters of a message are shown by their numbers."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line; a traceback follows in lines of its own."""
        return escaped(super().formatMessage(record))


class Relayed(OneLine):
    """The same for a command that shows the log of this process: with what a message was made of,
    so that it is shown in the language of whoever reads.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line, and behind a mark the data of its message."""
        return as_relayed(record.msg, super().formatMessage(record))


def as_relayed(message: object, line: str = "") -> str:
    """The line of a message as `relayed` reads it."""
    return f"{line or message}{_MARK}{data_of(message) if isinstance(message, str) else ''}"


def relayed(line: str) -> Message:
    """A line of such a log, without the moment and the place before it."""
    text, _, data = line.partition(_MARK)
    return Message.read(_STAMP.sub("", text), data)


def escaped(text: str) -> str:
    """The text on one line, without what a terminal would obey."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escaped_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(escaped, text.split("\n")))


class JsonLine(logging.Formatter):
    """Each record as a line of JSON; what comes from outside stands in strings."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is a field of it."""
        told: dict[str, str] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] == "nightshift"


def log_to_stderr(level: str, layout: str, form: str = "", *, libraries: bool = False) -> None:
    """The log of this process, as text of a layout or, by `form` or NIGHTSHIFT_LOG_FORMAT, "json".

    What libraries have to say is left out, but for `libraries` and when a fault is looked for
    (level DEBUG).
    """
    handler = logging.StreamHandler()
    is_json = (form or os.environ.get(FORMAT, "")) == "json"
    plain = Relayed(layout) if RELAYED in os.environ else OneLine(layout)
    handler.setFormatter(JsonLine() if is_json else plain)
    if level != "DEBUG" and not libraries:
        handler.addFilter(_is_ours)
    logging.basicConfig(level=level, handlers=[handler])
