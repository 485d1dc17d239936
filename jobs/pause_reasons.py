"""Why a job is paused, what that means, how it ends and what helps: one table for all who ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Self

from jobs.message import N_, NOTHING, Message


class Ends(Enum):
    """How a pause ends."""

    BY_ITSELF = "by itself"
    """At an hour: the job is scheduled."""
    WITH_THE_JOB = "with the job"
    """When the calls in flight have ended."""
    BY_SOMEBODY = "by somebody"


_RESUME = N_("resume with:")


@dataclass(frozen=True)
class Pausing:
    """What a pause means, for all who show, tell or end it.

    `meaning` is a clause; `cure` leads to `command`, which goes on with the job as `{job}`;
    `options` are those that it must have, unless the pause says which, with a figure; `cures` has
    others for codes of what the job met. `bars` is the objection to a resume that changes nothing:
    the job would be paused again at once.
    """

    meaning: Message
    cure: Message = _RESUME
    command: str = "nightshift resume {job}{options}"
    options: str = ""
    cures: Mapping[str, Pausing] = field(default_factory=dict)
    ends: Ends = Ends.BY_SOMEBODY
    bars: str = ""
    quotes: bool = False
    """Whether the pause's text is the endpoint's, which may quote a prompt: it stays at home."""
    is_wanted: bool = False
    """Whether the user asked for it: nobody is told of it, and nobody must act."""

    @property
    def needs_action(self) -> bool:
        """Whether the job waits for somebody who may not know it."""
        return self.ends is Ends.BY_SOMEBODY and not self.is_wanted


_UNRULED = Pausing(NOTHING)
_MOVED = Pausing(NOTHING, cure=N_("set the endpoint's right address:"), options=" --base-url URL")
_OF_SETTINGS = {
    "endpoint.model_not_found": Pausing(
        NOTHING, cure=N_("choose a model that the endpoint lists:"), options=" --model-map OLD=NEW"
    ),
    "endpoint.wrong_address": _MOVED,
    "endpoint.redirect": _MOVED,
    "endpoint.certificate": Pausing(
        NOTHING,
        cure=N_("trust its certificate (SSL_CERT_FILE=CA.pem) or set another address, then:"),
    ),
    "endpoint.blocked": Pausing(
        NOTHING, cure=N_("have the endpoint's firewall let this host through, then:")
    ),
}
"""What helps, by the code of what is wrong with the address or the model, not with a request."""


class Ruled(StrEnum):
    """Names of which each has its rule: what it means, and what helps."""

    def __new__(cls, value: str, rule: Pausing = _UNRULED) -> Self:
        """The member of this value; each has its rule."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.rule = rule
        return member

    rule: Pausing


class PauseReason(Ruled):
    """Why a job is paused, and what that means: no request fails because of these.

    Of a job that waits for an endpoint that is down, `endpoint_down` is told while it is in
    progress: it goes on by itself. A reason is added here and nowhere else.
    """

    BUDGET_EXHAUSTED = (
        "budget_exhausted",
        Pausing(
            N_("the budget is used up"),
            cure=N_("continue with a higher budget:"),
            options=" --budget-rub RUB",
            bars="needs_budget",
        ),
    )
    CAP_REACHED = (
        "cap_reached",
        Pausing(
            N_("a daily or monthly cap is reached"),
            cure=N_("to continue now, raise the cap:"),
            command="nightshift {options}",
            options="budget --budget-rub-per-day RUB",
            ends=Ends.BY_ITSELF,
            bars="waits_for_cap",
        ),
    )
    CAP_TOO_SMALL = (
        "cap_too_small",
        Pausing(
            N_("no request fits the daily or monthly cap"),
            cure=N_("raise the cap and continue:"),
            command="nightshift {options} && nightshift resume {job}",
            options="budget --budget-rub-per-day RUB",
            bars="needs_cap",
        ),
    )
    INSUFFICIENT_BALANCE = (
        "insufficient_balance",
        Pausing(
            N_("the account balance is used up"), cure=N_("top up the account, then:"), quotes=True
        ),
    )
    KEY_REJECTED = (
        "key_rejected",
        Pausing(
            N_("the key was rejected"),
            cure=N_("set a valid key (ROUTERAI_API_KEY), then:"),
            quotes=True,
        ),
    )
    ENDPOINT_DOWN = (
        "endpoint_down",
        Pausing(
            N_("the endpoint is unreachable"),
            cure=N_("once the endpoint answers again:"),
            quotes=True,
        ),
    )
    WINDOW_CLOSED = (
        "window_closed",
        Pausing(
            N_("waiting for its hours"),
            cure=N_("to send at any time:"),
            options=' --window ""',
            ends=Ends.BY_ITSELF,
            bars="needs_hours",
        ),
    )
    PRICE_RISE = (
        "price_rise",
        Pausing(
            N_("prices have risen"),
            cure=N_(
                "accept the current prices (--max-price-rise PERCENT also allows further"
                " rises) and continue:"
            ),
            bars="needs_prices",
        ),
    )
    SAMPLED = ("sampled", Pausing(N_("the sample is complete"), cure=N_("run the whole job:")))
    DEADLINE = (
        "deadline",
        Pausing(
            N_("the deadline has passed"),
            cure=N_("run the rest with:"),
            options=' --deadline ""',
            ends=Ends.WITH_THE_JOB,
            bars="needs_deadline",
        ),
    )
    RATE_LIMITED = (
        "rate_limited",
        Pausing(
            N_("the rate limit allows no calls"),
            cure=N_("raise the rate limit at the endpoint or wait, then:"),
            quotes=True,
        ),
    )
    SAME_ERROR = (
        "same_error",
        Pausing(
            N_("too many consecutive requests failed with the same error"),
            cure=N_("fix the problem above, or continue without this pause:"),
            options=" --max-refusals 0",
            quotes=True,
        ),
    )
    MISCONFIGURED = (
        "misconfigured",
        Pausing(
            N_("wrong address, certificate or model"),
            cure=N_("fix the problem above, then:"),
            cures=_OF_SETTINGS,
            quotes=True,
        ),
    )
    LOW_ACCURACY = (
        "low_accuracy",
        Pausing(
            N_("too few known answers are right"),
            cure=N_("improve the prompt and run it anew, or send the rest anyway:"),
        ),
    )
    RESTORED = (
        "restored",
        Pausing(
            N_("its data directory was restored from a backup or a copy"),
            cure=N_(
                "what was answered since is not in it, is bought again, and counts towards no cap:"
                " lower the budget (--budget-rub) by what is missing, then:"
            ),
        ),
    )
    USER = ("user", Pausing(N_("by the user"), is_wanted=True))


def pausing(reason: str) -> Pausing:
    """The rule of a stored or told reason; of one that is unknown here, that it needs somebody."""
    try:
        return PauseReason(reason).rule
    except ValueError:
        return Pausing(Message(reason))


def reason_for(told: PauseReason, code: str) -> PauseReason:
    """Why a job is paused of which a worker told this: it has one reason for what no request can
    get past, be it the settings or that all of them fail alike.
    """
    alike = told is PauseReason.MISCONFIGURED and code not in _OF_SETTINGS
    return PauseReason.SAME_ERROR if alike else told
