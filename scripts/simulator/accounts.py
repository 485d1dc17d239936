"""Whose key it is, what it may spend, and what is left.

As on the real endpoint both limits are soft: a call is let in while anything is left and charged
when it is over, so the balance may end below zero and a key above its limit.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from .exact_json import EXACT
from .refusals import RefusedError, refusal

# What an account without a stated balance shows under /credits before anything was spent.
PLENTY = Decimal(1_000_000)


def key_hash(key: str) -> str:
    """sha256 (hex) of a key; the key itself is kept nowhere."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(slots=True)
class Account:
    """The balance, the keys that are known, and what each has spent; keys by their hash.

    `balance` None: never empty. `allowed` None: any key is good. `limits`: roubles per key.
    """

    balance: Decimal | None = None
    allowed: set[str] | None = None
    limits: dict[str, Decimal] = field(default_factory=dict)
    spent: dict[str, Decimal] = field(default_factory=dict)
    total: Decimal = Decimal(0)

    def allow(self, keys: Iterable[str] | None) -> None:
        """Accept these keys and no others from now on; None: any."""
        self.allowed = None if keys is None else {key_hash(key) for key in keys}

    def limit(self, limits: Mapping[str, Decimal]) -> None:
        """Set the most that each of these keys may spend, in roubles."""
        self.limits |= {key_hash(key): limit for key, limit in limits.items()}

    def check_key(self, key: str | None) -> None:
        """`RefusedError` with 401 unless the key is there and good."""
        if not key:
            raise RefusedError(refusal(401, text="No API key in the Authorization header"))
        if self.allowed is not None and key not in self.allowed:
            raise RefusedError(refusal(401))

    def check_money(self, key: str) -> None:
        """`RefusedError`: 402 when the balance is gone, 429 when the key's limit is reached."""
        if self.balance is not None and self.balance <= 0:
            raise RefusedError(refusal(402, "balance"))
        if key in self.limits and self.used(key) >= self.limits[key]:
            raise RefusedError(refusal(429, "spend_limit", text=self._limit_text(key)))

    def charge(self, key: str, cost: Decimal) -> None:
        """Book a call's cost."""
        with localcontext(EXACT):
            self.total += cost
            self.spent[key] = self.used(key) + cost
            if self.balance is not None:
                self.balance -= cost

    def used(self, key: str) -> Decimal:
        """What this key has spent, in roubles."""
        return self.spent.get(key, Decimal(0))

    def credits(self) -> dict[str, object]:
        """`GET /credits`; a float, as the endpoint's own figure is."""
        with localcontext(EXACT):
            left = PLENTY - self.total if self.balance is None else self.balance
        return {"credits": float(left)}

    def key_info(self, key: str) -> dict[str, object]:
        """`GET /key`."""
        limit, used = self.limits.get(key), self.used(key)
        return {
            "label": "sk-…",
            "limit": limit,
            "limit_remaining": None if limit is None else limit - used,
            "limit_reset": None if limit is None else "monthly",
            "usage": used,
            "usage_monthly": used,
            "is_free_tier": False,
        }

    def _limit_text(self, key: str) -> str:
        spent, limit = self.used(key), self.limits[key]
        return f"Monthly spend limit of the key reached: {spent:.2f} of {limit:.2f} ₽"
