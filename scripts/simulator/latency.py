"""How long the model works before it answers: named distributions, in seconds.

    none                        at once
    constant:2.5                always 2.5 s
    uniform:1:4                 anything between
    lognormal:20:0.8:500        median 20 s, sigma 0.8, never above 500 s (the cap may be left out)

Calls of 18 to 503 seconds were seen on the real endpoint; the last line plays them.
"""

import math
from collections.abc import Callable
from random import Random

Latency = Callable[[Random], float]


def parse_latency(text: str) -> Latency:
    """The distribution named by `text`; `ValueError` says what is wrong with it."""
    name, *figures = text.split(":")
    make, least, most = _KINDS.get(name, (None, 0, 0))
    if make is None:
        raise ValueError(f"latency {text!r}: the name must be one of {', '.join(_KINDS)}")
    if not least <= len(figures) <= most:
        raise ValueError(f"latency {text!r}: {name} takes {least} to {most} figures")
    return make(*map(_seconds, figures))


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"latency: {text!r} is not a number of seconds")
    return value


def _none() -> Latency:
    return lambda _: 0.0


def _constant(seconds: float) -> Latency:
    return lambda _: seconds


def _uniform(low: float, high: float) -> Latency:
    return lambda dice: dice.uniform(low, high)


def _lognormal(median: float, sigma: float, cap: float = math.inf) -> Latency:
    return lambda dice: min(cap, median * math.exp(dice.gauss(0, sigma)))


_KINDS: dict[str, tuple[Callable[..., Latency], int, int]] = {
    "none": (_none, 0, 0),
    "constant": (_constant, 1, 1),
    "uniform": (_uniform, 2, 2),
    "lognormal": (_lognormal, 2, 3),
}
