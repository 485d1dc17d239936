"""What keeps requests that are ready from being sent: by this a job is bound.

Workers measure how long they wait for each; the coordinator sums it up.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from jobs.states import Pausing

_UNRULED = Pausing("")
_RAISE = "nightshift resume {job}"


class Bound(StrEnum):
    """What is waited for. `rule` has what it is called, what would help, and the command for it."""

    def __new__(cls, value: str, rule: Pausing = _UNRULED) -> Self:
        """The member of this value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.rule = rule
        return member

    rule: Pausing

    @property
    def is_wanted(self) -> bool:
        """Whether nothing may end for long though all is well: a limit or an outage is kept to."""
        return self not in {
            Bound.CONCURRENCY,
            Bound.MAX_IN_FLIGHT,
            Bound.CONNECTIONS,
            Bound.REDIS,
        }

    RPM = (
        "rpm",
        Pausing("the job's limit of requests per minute", "raise it:", _RAISE + " --rpm N"),
    )
    TPM = (
        "tpm",
        Pausing("the job's limit of tokens per minute", "raise it:", _RAISE + " --tpm N"),
    )
    MAX_IN_FLIGHT = (
        "max_in_flight",
        Pausing("the job's limit of concurrent calls", "raise it:", _RAISE + " --max-in-flight N"),
    )
    RUB_PER_HOUR = (
        "rub_per_hour",
        Pausing("the job's limit of roubles per hour", "raise it:", _RAISE + " --rub-per-hour RUB"),
    )
    ENDPOINT_RPM = (
        "endpoint_rpm",
        Pausing(
            "the endpoint's limit of requests per minute",
            "a higher limit of the account, or another key, would help",
            "",
        ),
    )
    ENDPOINT_TPM = (
        "endpoint_tpm",
        Pausing(
            "the endpoint's limit of tokens per minute",
            "a higher limit of the account, or shorter prompts and answers, would help",
            "",
        ),
    )
    CONCURRENCY = (
        "concurrency",
        Pausing(
            "the number of concurrent calls that the endpoint accepts",
            "a higher limit of the account, or another key, would help",
            "",
        ),
    )
    CONNECTIONS = (
        "connections",
        Pausing("the number of connections of a worker", "start another:", "nightshift worker"),
    )
    RETRY_AFTER = ("retry_after", Pausing("a pause that the endpoint asked for", "", ""))
    OUTAGE = ("outage", Pausing("an endpoint that does not respond", "", ""))
    BACKOFF = ("backoff", Pausing("the pause before failed calls are made again", "", ""))
    REDIS = ("redis", Pausing("the worker's connection to Redis", "", ""))
