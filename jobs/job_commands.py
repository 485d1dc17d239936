"""What somebody asks of a job: values that a terminal, a page or a program makes alike.

`jobs.lifecycle.decide` says what comes of them; `batch.job_control` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from jobs.errors import UsageError, told_by
from jobs.job_options import Spec
from jobs.message import N_, Message


class Pause(msgspec.Struct, frozen=True):
    """Nothing new is sent, until somebody resumes the job. `text`: a sentence for whoever looks."""

    text: Message = N_("paused by the user")


class Cancel(msgspec.Struct, frozen=True):
    """Nothing new is sent; the answers are written, the rest is not asked."""


class Resume(msgspec.Struct, frozen=True):
    """The job goes on, and what waits is tried at once. `mended`: what it was paused for was seen
    to, or is agreed to; without, a job that would be paused again at once is not resumed.
    """

    mended: bool = False


class Retry(msgspec.Struct, frozen=True):
    """Requests that ended are asked again: failures with one of these codes, and with `max_tokens`
    answers that were cut off at a lower limit.
    """

    codes: tuple[str, ...] = ()
    max_tokens: int | None = None


class Change(msgspec.Struct, frozen=True):
    """Other limits, another budget, other hours: fields of `jobs.job_options.Spec` and their new
    values, those of its `limits` and its `budget` apart.
    """

    limits: Mapping[str, Any] = {}
    budget: Mapping[str, Any] = {}
    fields: Mapping[str, Any] = {}

    def applied(self, spec: Spec) -> Spec:
        """The spec with the new values. `UsageError` for one that a job cannot have."""
        try:
            return Spec.model_validate(
                {
                    **spec.model_dump(),
                    **self.fields,
                    "limits": {**spec.limits.model_dump(), **self.limits},
                    "budget": {**spec.budget.model_dump(), **self.budget},
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = Message("{where}: {why}", where=where, why=told_by(first))
            raise UsageError(told) from error


Command = Pause | Cancel | Resume | Retry | Change

NAMED: Mapping[str, Command] = {"pause": Pause(), "resume": Resume(), "cancel": Cancel()}
"""Those that need nothing beside, as a page sends them."""
