"""Budget, caps and hours held against the estimate, before anything is sent.

What cannot send a single request is an error. What will likely not be enough is told, each time
with the figure that would do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from batch.estimator.estimate import Estimate, Size, estimate
from batch.estimator.followup_bounds import climbs_of
from batch.money.caps import Caps
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.message import N_, Message
from jobs.prices import PriceList, margin
from jobs.window import parse_window

Sizes = Callable[[], Iterable[Size]]

_SHORTEST_ANSWER = 16
"""Tokens; a bound of fewer is no help."""

_FEW_AT_ONCE = 8


def outlook(
    spec: Spec,
    found: Estimate,
    sizes: Sizes,
    prices: PriceList | None,
    caps: Caps,
    now: datetime,
    balance: Decimal | None = None,
) -> list[str]:
    """What is likely not enough, a sentence each. `UsageError` where not one request can be sent.

    `now` is an aware moment, `balance` ₽ on the account, None where nobody tells; `sizes` are those
    of all requests, each time they are asked for.
    """
    if not found.requests:
        return []
    bounds = Bounds(spec, found, sizes, prices)
    _check_rub(spec, found, bounds)
    _check_tokens(spec, found, bounds)
    _check_caps(found, caps)
    return [
        *_money(spec, found, bounds),
        *_account(spec, found, balance),
        *_caps(found, caps),
        *_time(spec, found, now),
    ]


class Bounds:
    """What all requests can cost at most, with another bound of their answers."""

    def __init__(self, spec: Spec, found: Estimate, sizes: Sizes, prices: PriceList | None) -> None:
        self._spec, self._found, self._sizes, self._prices = spec, found, sizes, prices

    def with_answers(self, most: int) -> Estimate:
        """All requests, had those without a bound one of so many tokens."""
        longer = len(f'"max_tokens":{most},')
        bounded = (
            size
            if size.output_bound is not None
            else size._replace(output_bound=most, prompt_bound=size.prompt_bound + longer)
            for size in self._sizes()
        )
        spec = self._spec
        rise, beyond = margin(spec.max_price_rise), climbs_of(spec).beyond
        return estimate(bounded, self._prices, rise, spec.request_bound_rub, beyond)

    def answer_that_fits(self, fits: Callable[[Estimate], bool]) -> int | None:
        """The longest answers, in a round number of tokens, with which all requests fit."""
        if not self._found.open_ended or not fits(self.with_answers(_SHORTEST_ANSWER)):
            return None
        low, high = _SHORTEST_ANSWER, 2**20
        while high - low > max(low // 16, 1):
            middle = (low + high) // 2
            low, high = (middle, high) if fits(self.with_answers(middle)) else (low, middle)
        return _round(low)


def _round(tokens: int) -> int:
    """Two digits, rounded down."""
    step = int("1" + "0" * max(len(str(tokens)) - 2, 0))
    return tokens // step * step


def up(rub: Decimal) -> str:
    """Roubles for an option: two digits, rounded up."""
    step = Decimal(1).scaleb(max(rub.adjusted() - 1, -2))
    return f"{(rub / step).to_integral_value(ROUND_CEILING) * step:f}"


# ── What cannot begin ────────────────────────────────────────────────────────────────────────────


def _check_rub(spec: Spec, found: Estimate, bounds: Bounds) -> None:
    budget, least = spec.budget.rub, found.least
    # A budget of nothing is a wish to hold a job, not a mistake.
    if not budget or least is None or least <= budget:
        return
    if found.open_ended == found.requests:
        told = N_(
            "budget {budget}: none of {requests:,} requests fits, since max_tokens is not"
            " set (up to {least} each)",
            budget=budget,
            requests=found.requests,
            least=least,
        )
    else:
        told = N_(
            "budget {budget}: none of {requests:,} requests fits; each may cost {least} or more",
            budget=budget,
            requests=found.requests,
            least=least,
        )
    raise UsageError(told, hint=rouble_ways(found, bounds, budget))


def rouble_ways(found: Estimate, bounds: Bounds, budget: Decimal) -> Message:
    """What makes all requests fit the budget, a line each."""
    most = bounds.answer_that_fits(lambda each: each.highest is not None and each.highest <= budget)
    if most is not None:
        highest = bounds.with_answers(most).highest or Decimal(0)
        hint = N_("--max-tokens {most} limits the total to {highest}", most=most, highest=highest)
    elif found.open_ended == found.requests and found.highest is not None:
        hint = N_(
            "set --max-tokens, for example 1000; or --budget-rub {for_all} for all of them",
            for_all=up(found.highest),
        )
    elif found.highest is not None and found.least is not None:
        hint = N_(
            "--budget-rub {for_all} is enough for all of them, --budget-rub {for_one} for"
            " the first",
            for_all=up(found.highest),
            for_one=up(found.least),
        )
    else:
        hint = N_("set --max-tokens")
    return hint


def _check_tokens(spec: Spec, found: Estimate, bounds: Bounds) -> None:
    budget, least = spec.budget.tokens, found.least_tokens
    if not budget or least is None or least <= budget:
        return
    most = bounds.answer_that_fits(lambda each: each.tokens is not None and each.tokens <= budget)
    if most is not None:
        hint = N_("--max-tokens {most} makes all of them fit", most=most)
    else:
        hint = N_("--budget-tokens {least} is enough for the first", least=least)
    raise UsageError(
        N_(
            "budget {budget:,} tokens: none of {requests:,} requests fits; each may take"
            " {least:,} or more",
            budget=budget,
            requests=found.requests,
            least=least,
        ),
        hint=hint,
    )


def _check_caps(found: Estimate, caps: Caps) -> None:
    for cap, option in ((caps.rub_per_day, "day"), (caps.rub_per_month, "month")):
        if cap and found.least is not None and found.least > cap:
            raise UsageError(
                N_(
                    "the cap of {cap} a {option} for all jobs: none of {requests:,} requests fits;"
                    " each may cost {least} or more",
                    cap=cap,
                    option=option,
                    requests=found.requests,
                    least=found.least,
                ),
                hint=N_(
                    "nightshift budget --budget-rub-per-{option} {for_one}, or limit the answers:"
                    " --max-tokens N",
                    option=option,
                    for_one=up(found.least),
                ),
            )


# ── What is likely not enough ────────────────────────────────────────────────────────────────────


def _money(spec: Spec, found: Estimate, bounds: Bounds) -> Iterator[Message]:
    budget, likely = spec.budget.rub, found.guess.likely
    if budget and likely is not None and likely > budget:
        part = int(found.requests * budget / likely)
        text = N_(
            "the budget of {budget} is below the estimated cost of {likely}: about {part:,}"
            " of {requests:,} requests will be answered; --budget-rub {up} should be enough"
            " for all",
            budget=budget,
            likely=likely,
            part=part,
            requests=found.requests,
            up=up(found.guess.high or likely),
        )
        yield text
    elif budget and found.least and found.open_ended and budget < found.least * _FEW_AT_ONCE:
        text = N_(
            "the budget of {budget} allows few concurrent calls, since max_tokens is not set"
            " (up to {least} each); {way}",
            budget=budget,
            least=found.least,
            way=rouble_ways(found, bounds, budget),
        )
        yield text
    asked = spec.budget.requests
    if asked is not None and asked < found.requests:
        text = N_(
            "the budget of {asked:,} requests leaves {rest:,} for resume",
            asked=asked,
            rest=found.requests - asked,
        )
        yield text


def _account(spec: Spec, found: Estimate, balance: Decimal | None) -> Iterator[Message]:
    """A budget holds the cost down, so an account that bears the budget bears the job."""
    likely = found.guess.likely
    if balance is None or likely is None:
        return
    expected = likely if not spec.budget.rub else min(likely, spec.budget.rub)
    if balance < expected:
        text = N_(
            "the account holds {balance}, less than the {expected} that this will likely"
            " cost: top it up, or the job pauses when the money is used up",
            balance=max(balance, Decimal(0)),
            expected=expected,
        )
        yield text


def _caps(found: Estimate, caps: Caps) -> Iterator[Message]:
    likely, cap = found.guess.likely, caps.rub_per_day
    if cap and likely is not None and likely > cap:
        text = N_(
            "with the daily cap of {cap} for all jobs it takes about {days} days, since the"
            " estimated cost is {likely}",
            cap=cap,
            days=math.ceil(likely / cap),
            likely=likely,
        )
        yield text


def _time(spec: Spec, found: Estimate, now: datetime) -> Iterator[Message]:
    if spec.deadline is None:
        return
    deadline, start = spec.deadline.astimezone(UTC), now
    window = None if spec.window is None else parse_window(spec.window)
    if window is not None and not window.contains(now):
        start = window.next_opening(now)
    if start.astimezone(UTC) >= deadline:
        raise UsageError(
            N_(
                "none of {requests:,} requests can be sent: the window opens at {start} and the"
                " deadline is {deadline}",
                requests=found.requests,
                start=start,
                deadline=spec.deadline,
            ),
            hint=N_("choose another --deadline or --window"),
        )
    work = timedelta(hours=found.guess.hours)
    ends = start + work if window is None else window.after(now, work)
    if ends.astimezone(UTC) > deadline:
        local = ends.astimezone(spec.deadline.tzinfo)
        text = N_(
            "it will likely miss the deadline and finish at about {local}; unsent requests"
            " are reported, and resume runs them",
            local=local,
        )
        yield text
