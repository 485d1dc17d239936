"""Everything that can go wrong, as one tree.

NightshiftError
├── UsageError            the command or its settings make no sense          exit 2
│   ├── InvalidInput      the input file has faults; nothing was sent        exit 2
│   ├── NoSuchJob         no job, or more than one, fits what was named      exit 2
│   └── AlreadyRunning    another process holds the lock of this home        exit 2
├── ServiceUnavailable    Redis or the endpoint cannot be reached            exit 4
├── StorageUnavailable    the home or the output folder cannot be used       exit 4
└── BadMessage            what came from Redis is not what we put there      (dropped and counted)

Each carries one sentence for the user and, in `hint`, the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.message import NOTHING, Message, message_of


class NightshiftError(Exception):
    """The root. `exit_code` is what the command ends with when it meets this error."""

    exit_code = 1

    def __init__(self, message: Message, *, hint: Message = NOTHING) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(NightshiftError):
    """The command line, a setting or a file of settings is wrong."""

    exit_code = 2


class InvalidInput(UsageError):
    """The input file has at least one fault; the job was refused and nothing was sent."""


class NoSuchJob(UsageError):
    """What was given as JOB names no job of this home, or several."""


class AlreadyRunning(UsageError):
    """Another coordinator works on this home."""


class ServiceUnavailable(NightshiftError):
    """A service that the command needs does not answer."""

    exit_code = 4


class StorageUnavailable(NightshiftError):
    """A folder that must be written cannot be."""

    exit_code = 4


class InvalidValue(ValueError):
    """A value that makes no sense, whoever gave it; who asked for it tells where it stands."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


def told_by(fault: Mapping[str, Any]) -> Message:
    """What is wrong by one of pydantic's faults, as our own check said it if it was one."""
    cause = fault.get("ctx", {}).get("error")
    return message_of(cause) if isinstance(cause, Exception) else Message(str(fault["msg"]))


class BadMessage(NightshiftError):
    """A message, payload or delivery that is not of our making."""


class NewerMessage(BadMessage):
    """It is, but of a newer version."""
