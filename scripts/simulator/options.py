"""What a simulator is started with."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from .answer_text import Style
from .faults import Rule
from .latency import Latency, parse_latency
from .limits import Limits


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the command line can set; the command's help explains each.

    Times are seconds, money is roubles, shares are 0 to 1.
    """

    book: Path
    prefix: str = "/api/v1"
    without: tuple[str, ...] = ()
    seed: int = 0
    keys: tuple[str, ...] = ()
    balance: Decimal | None = None
    style: Style = field(default_factory=Style)
    latency: Latency = field(default_factory=lambda: parse_latency("none"))
    keepalive: float = 5.0
    hidden_tokens: int = 447
    cached_share: float = 0.25
    cache_prefixes: bool = False
    null_cost_share: float = 0.5
    null_error_share: float = 0.2
    other_provider_share: float = 0.0
    limits: Limits = field(default_factory=Limits)
    rules: tuple[Rule, ...] = ()
    bill_aborted: bool = True
    lookup_lag: float = 0.0
    max_body: int = 16 * 2**20
    idle_close: float = 75.0
