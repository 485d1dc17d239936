"""What a user asked for. Immutable but for limits, budget, priority and window."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobs.chunk import Speed, Terms
from jobs.gateways import ONE, RUB, Gateway, Tariff, gateway_of
from jobs.notify import Notify
from jobs.prices import MOST_RISE
from jobs.priority import MOST, NORMAL
from jobs.seal import Target
from jobs.task import Task
from jobs.window import parse_window

Count = Annotated[int, Field(gt=0)]
ModelName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x20\x7f-\x9f]+$")]
Seconds = Annotated[float, Field(gt=0)]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_PLAIN = re.compile(r"https?://[^\s\x00-\x20\x7f\\]+", re.IGNORECASE)
"""Without spaces, controls and backslashes, of which parsers make different hosts."""


class Limits(BaseModel):
    """The most per minute, at once and in roubles per hour, over all workers.

    None: found out while running, and of roubles no limit. `refusals`: so many alike in a row pause
    the job; 0: none do. `stop_after_rows`, `stop_after_s`: so many requests must meet, over so
    long, what would stop the job, before it is believed of an endpoint that had answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Count | None = None
    tpm: Count | None = None
    max_in_flight: Count | None = None
    rub_per_hour: Annotated[Decimal, Field(gt=0)] | None = None
    refusals: Annotated[int, Field(ge=0)] = 10
    stop_after_rows: Count = 5
    stop_after_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0


class Budget(BaseModel):
    """Caps that are never exceeded; None: no cap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rub: Annotated[Decimal, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    requests: Annotated[int, Field(ge=0)] | None = None


class Spec(BaseModel):
    """A job's whole wish: where from, where to, how asked, how fast, how dear.

    `revised`: models or bounds of stored requests were changed, so that their bodies are brought in
    line with them as they are sent. `input_digest` tells inputs that ask the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    output_dir: str
    base_url: str
    key: Annotated[str, Field(pattern="^([0-9a-f]{12})?$")] = ""
    model: str | None = None
    max_tokens: Count | None = None
    model_map: dict[str, ModelName] = {}
    override_model: ModelName | None = None
    revised: bool = False
    drop_last_assistant: bool = False
    input_digest: str = ""
    skip_invalid: bool = False
    limits: Limits = Limits()
    budget: Budget = Budget()
    priority: Annotated[float, Field(gt=0, le=MOST)] = NORMAL
    window: str | None = None
    off_peak: bool = False
    deadline: datetime | None = None
    dedupe: Literal["", "same", "all"] = ""
    max_attempts: Count = 5
    never_pay_twice: bool = False
    gateway: str | None = None
    usd_rate: Annotated[Decimal, Field(gt=0, le=10**6, decimal_places=6)] | None = None
    price_file: str | None = None
    request_bound_rub: Annotated[Decimal, Field(ge=0)] | None = None
    max_price_rise: Annotated[Decimal, Field(ge=0, le=1000, decimal_places=4)] = MOST_RISE
    idle_timeout_s: Seconds = 60.0
    total_timeout_s: Seconds = 900.0
    chunk_size: Count | None = None
    notify: Notify = Notify()
    task: Task | None = None
    """What is asked of the rows of a table; None where the input holds requests."""

    @field_validator("base_url")
    @classmethod
    def _one_safe_host(cls, value: str) -> str:
        return check_base_url(value)

    @field_validator("window")
    @classmethod
    def _readable_window(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_window(value))

    @field_validator("gateway")
    @classmethod
    def _known_gateway(cls, value: str | None) -> str | None:
        if value is not None:
            gateway_of("", value)
        return value

    @property
    def target(self) -> Target:
        """Whose calls it makes; `key` is empty until it is known which it is for."""
        return Target(self.base_url, self.key)

    @property
    def seller(self) -> Gateway:
        """How the endpoint tells costs and prices."""
        return gateway_of(self.base_url, self.gateway)

    @property
    def rate(self) -> Decimal:
        """Roubles for one unit of the endpoint's money."""
        return ONE if self.seller.currency == RUB else self.usd_rate or ONE

    def speed(self) -> Speed:
        """How fast it may go: what may change while it runs."""
        hourly = self.limits.rub_per_hour
        return Speed(
            rpm=self.limits.rpm,
            tpm=self.limits.tpm,
            max_in_flight=self.limits.max_in_flight,
            rub_per_hour=None if hourly is None else float(hourly),
            share=self.priority,
        )

    def terms(self) -> Terms:
        """What a worker must know of this."""
        return Terms(
            max_attempts=self.max_attempts,
            max_refusals=self.limits.refusals,
            stop_after_rows=self.limits.stop_after_rows,
            stop_after_s=self.limits.stop_after_s,
            idle_timeout_s=self.idle_timeout_s,
            total_timeout_s=self.total_timeout_s,
            never_pay_twice=self.never_pay_twice,
            **structs.asdict(self.speed()),
            tariff=Tariff(self.seller.fields, self.rate),
        )


def check_base_url(value: str) -> str:
    """The endpoint's address without a trailing slash.

    `ValueError` unless it is https, or http to this machine: a key must not cross a network in the
    clear.
    """
    if "@" in value or "?" in value or "#" in value:
        # Not shown: what stands before an @ may be a password.
        raise ValueError("an endpoint's address may hold only a host and a path")
    if not _is_address(value):
        raise ValueError(f"{value!r} is not an address such as https://routerai.ru/api/v1")
    parts = urlsplit(value)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(f"{value!r} would send the key unencrypted; use https")
    return value.rstrip("/")


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return _PLAIN.fullmatch(value) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Brackets that do not close, a port that is no number.
        return False
