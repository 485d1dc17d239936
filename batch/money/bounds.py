"""What a request can cost at most. Arithmetic only."""

from __future__ import annotations

from decimal import Decimal

from jobs.budget import Amount
from jobs.prices import MARGIN, ModelPrice, PriceList

NO_BOUND = Amount(None, None)
"""Of a request of which nobody can tell what a call of it costs at most."""


def request_bound(
    model: str,
    prompt_bound: int,
    output_bound: int | None,
    prices: PriceList | None,
    margin: Decimal = MARGIN,
    *,
    bounded: bool = True,
    answered_for: Decimal | None = None,
    pin: str = "",
) -> Amount:
    """The most that one call of a request can cost: ₽ (None: no price or no bound) and tokens.

    It holds as long as nobody asks more than `margin` times these prices. Where nothing proves one,
    as of what is not `bounded` (an image, a search), it is the ₽ that the user `answered_for`.
    With a `pin` only those providers serve it.
    """
    bound = NO_BOUND
    if bounded:
        price = prices.models.get(model) if prices else None
        if price is not None and pin:
            price = price.served_by(pin.split(","))
        bound = _proven(price, prompt_bound, output_bound, margin)
    return Amount(answered_for, bound.tokens) if bound.rub is None else bound


def _proven(
    price: ModelPrice | None, prompt_bound: int, output_bound: int | None, margin: Decimal
) -> Amount:
    output = output_bound
    if output is None and price is not None:
        output = price.max_completion_tokens
    if output is None:
        return NO_BOUND
    return Amount(
        price.bound(prompt_bound, output, margin) if price else None, prompt_bound + output
    )
