"""A log in which every record is one line: what comes from outside can neither forge another nor
steer the terminal of whoever reads it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime

FORMAT = "NIGHTSHIFT_LOG_FORMAT"
"""The variable that says how a log is written: text or json."""

_UNSAFE = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


class OneLine(logging.Formatter):
    """Control and bidirectional characters of a message are shown by their numbers."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line; a traceback follows in lines of its own."""
        return escaped(super().formatMessage(record))


def escaped(text: str) -> str:
    """The text on one line, without what a terminal would obey."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


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


def log_to_stderr(level: str, layout: str, form: str = "") -> None:
    """The log of this process, as text of a layout or, by `form` or NIGHTSHIFT_LOG_FORMAT, "json".

    What libraries have to say is left out, but when a fault is looked for (level DEBUG).
    """
    handler = logging.StreamHandler()
    is_json = (form or os.environ.get(FORMAT, "")) == "json"
    handler.setFormatter(JsonLine() if is_json else OneLine(layout))
    if level != "DEBUG":
        handler.addFilter(_is_ours)
    logging.basicConfig(level=level, handlers=[handler])
