"""Identities: what a job, a call and a worker are named by."""

from __future__ import annotations

import re

from jobs.errors import BadMessage
from jobs.message import N_

JOB_ID = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}")
"""`job_` and a ULID in lower case (Crockford's base 32), so that ids sort by time of birth."""

OUTBOX = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What an outbox, and so the key of its acknowledgements, may be called."""


def check_job_id(text: object) -> str:
    """The text if it is a job id, whole and nothing else; else `BadMessage`.

    Job ids become folder names and Redis keys, so everything that arrives from outside passes here.
    """
    if isinstance(text, str) and JOB_ID.fullmatch(text):
        return text
    raise BadMessage(N_("not a job id"))


def check_outbox(text: str) -> str:
    """The text if it can be the name of an outbox; else `BadMessage`."""
    if OUTBOX.fullmatch(text):
        return text
    raise BadMessage(N_("not an outbox name"))
