"""What a user asked for. Immutable but for limits, budget, priority and window."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from jobs.address import check_base_url
from jobs.chunk import Speed, Terms
from jobs.gateways import ONE, RUB, UNKNOWN, USD, Gateway, Tariff, gateway_of
from jobs.notify import Notify
from jobs.prices import MOST_RISE
from jobs.priority import MOST, NORMAL
from jobs.seal import Target
from jobs.task import Task
from jobs.window import parse_window

Count = Annotated[int, Field(gt=0)]
ModelName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x20\x7f-\x9f]+$")]
Seconds = Annotated[float, Field(gt=0)]


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


class Origin(BaseModel):
    """The batch that a program asked for, of which a job came: the key's name, the file's id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    key: str
    file: str


class Spec(BaseModel):
    """A job's whole wish: where from, where to, how asked, how fast, how dear.

    `revised`: models or bounds of stored requests were changed, so that their bodies are brought in
    line with them as they are sent. `input_digest` tells inputs that ask the same.
    `headers` are the names of those that the endpoint wants beside the key; values are never kept.
    `currency` is that of the endpoint's figures; None: its gateway's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    output_dir: str
    insecure_http: bool = False
    base_url: str
    key: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?(\.[0-9a-f]{12})?$")] = ""
    headers: tuple[str, ...] = ()
    model: str | None = None
    max_tokens: Count | None = None
    model_map: dict[str, ModelName] = {}
    override_model: ModelName | None = None
    revised: bool = False
    drop_last_assistant: bool = False
    input_digest: str = ""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    service_tier: Literal["flex", "default", "priority"] | None = None
    skip_invalid: bool = False
    limits: Limits = Limits()
    budget: Budget = Budget()
    priority: Annotated[float, Field(gt=0, le=MOST)] = NORMAL
    window: str | None = None
    off_peak: bool = False
    deadline: datetime | None = None
    dedupe: Literal["", "same", "all"] = ""
    reuse: Literal["", "same", "all"] = ""
    max_attempts: Count = 5
    never_pay_twice: bool = False
    gateway: str | None = None
    currency: Literal["RUB", "USD", "unknown"] | None = None
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
    origin: Origin | None = None
    """Where it came from, if through the Batch API."""

    @field_validator("base_url")
    @classmethod
    def _one_safe_host(cls, value: str, info: ValidationInfo) -> str:
        return check_base_url(value, insecure=info.data.get("insecure_http", False))

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
    def lane(self) -> str:
        """The service tier whose prices count, "" for the usual one."""
        return "" if self.service_tier in (None, "default") else self.service_tier

    @property
    def money(self) -> str:
        """The currency of the endpoint's prices and costs: RUB, USD, or unknown."""
        # Jobs of unknown hosts had none before it was asked for: theirs were taken for roubles.
        seller = self.seller.currency
        return self.currency or (RUB if seller == UNKNOWN else seller)

    @property
    def rate(self) -> Decimal:
        """Roubles for one unit of the endpoint's money."""
        return self.usd_rate or ONE if self.money == USD else ONE

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
            tariff=Tariff(self.seller.fields if self.money != UNKNOWN else (), self.rate),
        )
