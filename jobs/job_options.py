"""What a user asked for. Immutable but for limits, budget, priority and window."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from jobs.address import DEFAULT_BASE_URL, check_base_url
from jobs.chunk import Speed, Terms
from jobs.errors import InvalidValue
from jobs.gateways import GATEWAYS, ONE, RUB, UNKNOWN, USD, Gateway, Tariff, gateway_of
from jobs.message import N_
from jobs.notify import Notify
from jobs.option_declaration import HOURS, MONEY, PACE, AtResume, Option
from jobs.prices import MOST_RISE
from jobs.priority import MOST, NORMAL
from jobs.request_kinds import KINDS
from jobs.signing import Target
from jobs.table_task import Task
from jobs.window import parse_window

Count = Annotated[int, Field(gt=0)]
ModelName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x20\x7f-\x9f]+$")]
Seconds = Annotated[float, Field(gt=0)]

_NEW_LIMIT = AtResume(help=N_("New limit."))
_NEW_BUDGET = AtResume(help=N_("New budget."))


class Limits(BaseModel):
    """The most per minute, at once and in roubles per hour, over all workers.

    None: found out while running, and of roubles no limit. `refusals`: so many alike in a row pause
    the job; 0: none do. `stop_after_rows`, `stop_after_s`: so many requests must meet, over so
    long, what would stop the job, before it is believed of an endpoint that had answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: Annotated[
        Count | None,
        Option(
            "--rpm",
            "N",
            help=N_("Maximum requests per minute, all workers together."),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = None
    tpm: Annotated[
        Count | None,
        Option(
            "--tpm", "N", help=N_("Maximum tokens per minute, all workers together."), section=PACE
        ),
        _NEW_LIMIT,
    ] = None
    max_in_flight: Annotated[
        Count | None,
        Option(
            "--max-in-flight",
            "N",
            help=N_("Maximum concurrent calls, all workers together.  [default: adaptive]"),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = None
    rub_per_hour: Annotated[
        Annotated[Decimal, Field(gt=0)] | None,
        Option(
            "--rub-per-hour",
            "RUB",
            help=N_("Maximum spending per hour (approximate), all workers together."),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = None
    refusals: Annotated[
        int,
        Field(ge=0),
        Option(
            "--max-refusals",
            "N",
            help=N_("Pause after N consecutive identical errors; 0: never."),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = 10
    stop_after_s: Annotated[
        float,
        Field(ge=0, le=86_400),
        Option(
            "--stop-after",
            "SECONDS",
            help=N_(
                "After the first answer: pause once the key, the account or the model has been"
                " rejected for this long (ten times as long for a wrong address or nothing but"
                " rate limits)."
            ),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = 60.0
    stop_after_rows: Annotated[
        Count,
        Option(
            "--stop-after-rows",
            "N",
            help=N_(
                "…and by this many requests in a row; an error of a single request fails"
                " only that request."
            ),
            section=PACE,
        ),
        _NEW_LIMIT,
    ] = 5


class Budget(BaseModel):
    """Caps that are never exceeded; None: no cap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rub: Annotated[
        Annotated[Decimal, Field(ge=0)] | None,
        Option(
            "--budget-rub",
            "RUB",
            help=N_(
                "Never spend more than this. The maximum cost of each call is reserved"
                " before it is sent."
            ),
            section=MONEY,
            in_checks=True,
        ),
        _NEW_BUDGET,
    ] = None
    tokens: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Option("--budget-tokens", "N", help=N_("Never use more tokens than this."), section=MONEY),
        _NEW_BUDGET,
    ] = None
    requests: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Option(
            "--budget-requests",
            "N",
            help=N_("Run at most this many requests; resume runs the rest."),
            section=MONEY,
        ),
        _NEW_BUDGET,
    ] = None


class Origin(BaseModel):
    """The batch that a program asked for, of which a job came: the key's name, the file's id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    key: str
    file: str


class Spec(BaseModel):
    """A job's whole wish: where from, where to, how asked, how fast, how dear.

    What the user may set declares its `Option`. `revised`: models or bounds of stored requests were
    changed, so that their bodies are brought in line with them as they are sent. `input_digest`
    tells inputs that ask the same. `headers` are the names of those that the endpoint wants beside
    the key; values are never kept. `currency` is that of the endpoint's figures; None: its
    gateway's. `task`: what is asked of the rows of a table; None where the input holds requests.
    `origin`: where it came from, if through the Batch API.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output_dir: Annotated[
        str,
        Option(
            "-o --output-dir",
            "DIR",
            help=N_("Directory for the results.  [default: <input>.<job>/ next to the input]"),
            of_one_job=True,
        ),
    ]
    name: Annotated[
        str,
        Option(
            "--name",
            "TEXT",
            help=N_("Job name.  [default: the input's name]"),
            of_one_job=True,
        ),
    ]
    source: str
    model: Annotated[
        str | None,
        Option(
            "--model",
            "NAME",
            help=N_("Model for requests that do not specify one."),
            in_checks=True,
            of_one_job=True,
        ),
    ] = None
    model_map: Annotated[
        dict[str, ModelName],
        Option(
            "--model-map",
            "OLD=NEW",
            help=N_("Replace model OLD with NEW in requests; may be repeated."),
            in_checks=True,
        ),
        AtResume(help=N_("Replace model OLD with NEW in requests; may be repeated.")),
    ] = {}
    override_model: Annotated[
        ModelName | None,
        Option(
            "--override-model",
            "NAME",
            help=N_("Use this model for all requests, whatever they specify."),
            in_checks=True,
        ),
        AtResume(help=N_("Use this model for all requests, whatever they specify.")),
    ] = None
    max_tokens: Annotated[
        Count | None,
        Option(
            "--max-tokens",
            "N",
            help=N_("max_tokens for requests that do not set it."),
            in_checks=True,
        ),
        AtResume(
            help=N_(
                "max_tokens for requests that do not set it; with --retry truncated, for the"
                " retried requests."
            )
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        Option(
            "--endpoint",
            "URL",
            help=N_(
                "What all requests are for, if they do not say it: {urls}.",
                urls=", ".join(KINDS),
            ),
            choices=tuple(KINDS),
            in_checks=True,
            of_one_job=True,
        ),
    ] = None
    responses_by: Annotated[
        Literal["auto", "chat", "native"],
        Option(
            "--responses-by",
            "HOW",
            help=N_(
                "How /v1/responses are requested: native, chat (translated there and back), or"
                " auto: chat if the endpoint has no /responses."
            ),
            in_checks=True,
        ),
    ] = "auto"
    drop_last_assistant: Annotated[
        bool,
        Option(
            "--drop-last-assistant",
            help=N_("Drop a trailing assistant message and ask for a new answer."),
            in_checks=True,
            of_one_job=True,
        ),
    ] = False
    max_tokens_field: Annotated[
        Literal["max_tokens", "max_completion_tokens"] | None,
        Option(
            "--max-tokens-field",
            "NAME",
            help=N_(
                "Name of that field, if the endpoint accepts only one: max_tokens or"
                " max_completion_tokens."
            ),
            in_checks=True,
        ),
    ] = None
    service_tier: Annotated[
        Literal["flex", "default", "priority"] | None,
        Option(
            "--service-tier",
            "TIER",
            help=N_(
                "Service tier for requests that do not specify one: flex is cheaper and slower,"
                " priority faster and more expensive."
            ),
            in_checks=True,
        ),
    ] = None
    insecure_http: Annotated[
        bool,
        Option(
            "--insecure-http",
            help=N_(
                "Allow http:// to a private address; the key crosses that network unencrypted."
            ),
            in_checks=True,
        ),
    ] = False
    base_url: Annotated[
        str,
        Option("--base-url", "URL", help=N_("Base URL of the endpoint."), in_checks=True),
        AtResume(help=N_("New address of the same endpoint, with the same prices and currency.")),
    ] = DEFAULT_BASE_URL
    key: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?(\.[0-9a-f]{12})?$")] = ""
    headers: Annotated[
        tuple[str, ...],
        Option(
            "--header",
            "NAME=VALUE",
            help=N_(
                "HTTP header for the endpoint; may be repeated. Secrets as NAME=@FILE or"
                " NAME=env:VARIABLE; NAME= removes a header."
            ),
            in_checks=True,
        ),
    ] = ()
    revised: bool = False
    input_digest: str = ""
    skip_invalid: Annotated[
        bool,
        Option(
            "--skip-invalid",
            help=N_("Report invalid lines in errors.jsonl and run the others."),
            in_checks=True,
            of_one_job=True,
        ),
    ] = False
    budget: Budget = Budget()
    max_price_rise: Annotated[
        Decimal,
        Field(ge=0, le=1000, decimal_places=4),
        Option(
            "--max-price-rise",
            "PERCENT",
            help=N_(
                "Pause if prices rise by more than PERCENT since submission. Cost bounds"
                " allow for it."
            ),
            section=MONEY,
        ),
        AtResume(help=N_("Pause if prices rise by more than PERCENT from now.")),
    ] = MOST_RISE
    price_file: Annotated[
        str | None,
        Option(
            "--price-file",
            "FILE",
            help=N_(
                "Prices of models that the endpoint lists without one (format: docs/money.md)."
            ),
            section=MONEY,
            in_checks=True,
        ),
        AtResume(help=N_("New prices for an endpoint that lists none.")),
    ] = None
    usd_rate: Annotated[
        Annotated[Decimal, Field(gt=0, le=10**6, decimal_places=6)] | None,
        Option(
            "--usd-rate",
            "RUB",
            help=N_("USD/RUB rate, for endpoints and price files in dollars."),
            section=MONEY,
            in_checks=True,
        ),
        AtResume(help=N_("New USD/RUB rate.")),
    ] = None
    currency: Annotated[
        Literal["RUB", "USD", "unknown"] | None,
        Option(
            "--currency",
            help=N_(
                "Currency of prices and costs of an unknown endpoint; USD requires --usd-rate."
            ),
            choices=(RUB, USD),
            section=MONEY,
            in_checks=True,
        ),
    ] = None
    gateway: Annotated[
        str | None,
        Option(
            "--gateway",
            "NAME",
            help=N_(
                "How the endpoint reports costs and prices: {gateways}.  [default: by its host]",
                gateways=", ".join(GATEWAYS),
            ),
            choices=tuple(GATEWAYS),
            section=MONEY,
            in_checks=True,
        ),
    ] = None
    request_bound_rub: Annotated[
        Annotated[Decimal, Field(ge=0)] | None,
        Option(
            "--request-bound-rub",
            "RUB",
            help=N_(
                "Maximum cost of a request that has no upper bound otherwise (images, web search)."
            ),
            section=MONEY,
        ),
        AtResume(help=N_("New cost bound for requests whose cost has no upper bound.")),
    ] = None
    never_pay_twice: Annotated[
        bool,
        Option(
            "--never-pay-twice",
            help=N_("Do not retry a call that may have been billed; report it as failed."),
            section=MONEY,
        ),
    ] = False
    dedupe: Annotated[
        Literal["", "same", "all"],
        Option(
            "--dedupe",
            help=N_(
                "Send identical requests once and copy the answer to each line, except with"
                " temperature above 0."
            ),
            value="same",
            section=MONEY,
            in_checks=True,
        ),
        Option(
            "--dedupe-all", help=N_("Same, regardless of temperature."), value="all", section=MONEY
        ),
    ] = ""
    reuse: Annotated[
        Literal["", "same", "all"],
        Option(
            "--reuse",
            help=N_(
                "Take over answers that earlier jobs got to the same requests, except with"
                " temperature above 0."
            ),
            value="same",
            section=MONEY,
            in_checks=True,
        ),
        Option(
            "--reuse-all", help=N_("Same, regardless of temperature."), value="all", section=MONEY
        ),
    ] = ""
    check: Annotated[
        bool,
        Option(
            "--check",
            help=N_(
                "Hold each answer against the response_format (of /responses: text.format) of its"
                " request, and have what is invalid repaired (--repairs, --escalate)."
            ),
            in_checks=True,
        ),
    ] = False
    repairs: int = 1
    escalate: str | None = None
    """Of checked requests; those of a table are its task's."""
    limits: Limits = Limits()
    priority: Annotated[
        float,
        Field(gt=0, le=MOST),
        Option(
            "--priority",
            "high|normal|low|N",
            help=N_("Weight of the job against other jobs: 100, 10, 1 or N."),
            shown_default="normal",
            section=PACE,
        ),
        AtResume(help=N_("New priority.")),
    ] = NORMAL
    max_attempts: Annotated[
        Count,
        Option(
            "--max-attempts",
            "N",
            help=N_("Maximum attempts per request (rate limits and outages do not count)."),
            section=PACE,
        ),
    ] = 5
    idle_timeout_s: Seconds = 60.0
    total_timeout_s: Annotated[
        Seconds,
        Option("--timeout", "S", help=N_("Timeout of one call in seconds."), section=PACE),
    ] = 900.0
    window: Annotated[
        str | None,
        Option(
            "--window",
            "HH:MM-HH:MM[@ZONE]",
            help=N_("Send only during these hours, e.g. 23:00-07:00@Europe/Moscow."),
            section=HOURS,
        ),
        AtResume(help=N_('New hours; "" for any time.')),
    ] = None
    off_peak: Annotated[
        bool,
        Option(
            "--off-peak",
            help=N_("Send only during the endpoint's off-peak hours, as listed in its catalogue."),
            section=HOURS,
            in_checks=True,
        ),
    ] = False
    deadline: Annotated[
        datetime | None,
        Option(
            "--deadline",
            "HH:MM",
            help=N_(
                "Send nothing after this time; unsent requests are reported. Or a date:"
                " 2026-05-04T07:00."
            ),
            section=HOURS,
            of_one_job=True,
        ),
        AtResume(help=N_('New deadline; "" for none.')),
    ] = None
    report_samples: Annotated[
        bool,
        Option(
            "--no-report-samples",
            help=N_("Leave the three sample answers out of the report."),
            value=False,
        ),
    ] = True
    task: Task | None = None
    notify: Notify = Notify()
    chunk_size: Annotated[
        Count | None,
        Option(
            "--chunk-size", "N", help=N_("Requests per task.  [default: automatic]"), is_hidden=True
        ),
    ] = None
    beside: bool = False
    """Whether the answered table is to stand beside its input, too."""
    origin: Origin | None = None

    @field_validator("base_url")
    @classmethod
    def _one_safe_host(cls, value: str, info: ValidationInfo) -> str:
        return check_base_url(value, insecure=info.data.get("insecure_http", False))

    @field_validator("window")
    @classmethod
    def _readable_window(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_window(value))

    @field_validator("endpoint")
    @classmethod
    def _known_endpoint(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise InvalidValue(
                N_("{value!r} is not one of {urls}", value=value, urls=", ".join(KINDS))
            )
        return value

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
            responses_by=self.responses_by,
            tariff=Tariff(self.seller.fields if self.money != UNKNOWN else (), self.rate),
        )
