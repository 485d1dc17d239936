"""A log in which every record is one line: what comes from outside can neither forge another nor
steer the terminal of whoever reads it.
"""

from __future__ import annotations

import logging
import re

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


def log_to_stderr(level: str, layout: str) -> None:
    """The log of this process."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(layout))
    logging.basicConfig(level=level, handlers=[handler])
