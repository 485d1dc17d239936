"""What keeps requests that are ready from being sent: by this a job is bound.

Workers measure how long they wait for each; the coordinator sums it up.
"""

from __future__ import annotations

from jobs.message import N_, NOTHING
from jobs.pause_reasons import Pausing, Ruled

_RAISE = "nightshift resume {job}"


class Bound(Ruled):
    """What is waited for. `rule` has what it is called, what would help, and the command for it."""

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
        Pausing(
            N_("the job's limit of requests per minute"),
            N_("raise it:"),
            _RAISE + " --rpm {enough}",
        ),
    )
    TPM = (
        "tpm",
        Pausing(
            N_("the job's limit of tokens per minute"), N_("raise it:"), _RAISE + " --tpm {enough}"
        ),
    )
    MAX_IN_FLIGHT = (
        "max_in_flight",
        Pausing(
            N_("the job's limit of concurrent calls"),
            N_("raise it:"),
            _RAISE + " --max-in-flight {enough}",
        ),
    )
    RUB_PER_HOUR = (
        "rub_per_hour",
        Pausing(
            N_("the job's limit of roubles per hour"),
            N_("raise it:"),
            _RAISE + " --rub-per-hour {enough}",
        ),
    )
    ENDPOINT_RPM = (
        "endpoint_rpm",
        Pausing(
            N_("the endpoint's limit of requests per minute"),
            N_("a higher limit of the account, or another key, would help"),
            "",
        ),
    )
    ENDPOINT_TPM = (
        "endpoint_tpm",
        Pausing(
            N_("the endpoint's limit of tokens per minute"),
            N_("a higher limit of the account, or shorter prompts and answers, would help"),
            "",
        ),
    )
    CONCURRENCY = (
        "concurrency",
        Pausing(
            N_("the number of concurrent calls that the endpoint accepts"),
            N_("a higher limit of the account, or another key, would help"),
            "",
        ),
    )
    CONNECTIONS = (
        "connections",
        Pausing(
            N_("the number of connections of a worker"), N_("start another:"), "nightshift worker"
        ),
    )
    RETRY_AFTER = ("retry_after", Pausing(N_("a pause that the endpoint asked for"), NOTHING, ""))
    OUTAGE = ("outage", Pausing(N_("an endpoint that does not respond"), NOTHING, ""))
    BACKOFF = ("backoff", Pausing(N_("the pause before failed calls are made again"), NOTHING, ""))
    REDIS = ("redis", Pausing(N_("the worker's connection to Redis"), NOTHING, ""))
