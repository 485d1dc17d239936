"""What is on sale: models, who serves them, and at which price.

The shapes are the endpoint's, the figures are invented: rouble prices are not public, and a test
that knows them by heart would test nothing. All prices are roubles per token (`request`: per call).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from decimal import Decimal

Prices = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Prices for the whole request once its prompt has *more* than `tokens` tokens."""

    tokens: int
    prices: Prices

    def listed(self) -> dict[str, object]:
        """The entry under ``variable_pricings``."""
        return {"type": "prompt-threshold", "threshold": self.tokens, **self.prices}


@dataclass(frozen=True, slots=True)
class Hours:
    """Prices from `start` until just before `end`, UTC; may run over midnight."""

    start: time
    end: time
    prices: Prices

    def holds(self, now: time) -> bool:
        """Whether `now` is within these hours."""
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def listed(self) -> dict[str, object]:
        """The entry under ``variable_pricings``."""
        # The form of the two times is not documented; hours and minutes are our reading.
        return {
            "type": "time-of-day",
            "utc_start": self.start.strftime("%H:%M"),
            "utc_end": self.end.strftime("%H:%M"),
            **self.prices,
        }


@dataclass(frozen=True, slots=True)
class Provider:
    """One who serves a model. `variable` prices override `prices` key by key, later ones win."""

    name: str
    prices: Prices
    variable: tuple[Threshold | Hours, ...] = ()
    max_completion_tokens: int | None = None
    status: int = 0

    def listed(self, model: "Model") -> dict[str, object]:
        """The entry under ``/models/…/endpoints``."""
        return {
            "name": f"{self.name} | {model.id}",
            "provider_name": self.name,
            "tag": self.name.lower(),
            "context_length": model.context_length,
            "max_completion_tokens": self.max_completion_tokens,
            "status": self.status,
            "pricing": dict(self.prices),
            "variable_pricings": [each.listed() for each in self.variable],
        }

    def times(self, factor: Decimal) -> "Provider":
        """The same provider with every price multiplied."""
        variable = tuple(
            replace(each, prices=_times(each.prices, factor)) for each in self.variable
        )
        return replace(self, prices=_times(self.prices, factor), variable=variable)


@dataclass(frozen=True, slots=True)
class Model:
    """One model; the first provider is the default, whose prices `GET /models` shows."""

    id: str
    name: str
    created: int
    context_length: int | None
    providers: tuple[Provider, ...]
    reasons: bool = False
    lanes: Mapping[str, Decimal] = field(default_factory=dict)
    """What the default provider asks in other service tiers, in times of its prices."""

    def listed(self) -> dict[str, object]:
        """The model as `GET /models` tells it."""
        parameters = ["max_tokens", "temperature", "tools", "response_format"]
        return {
            **self._head(),
            "context_length": self.context_length,
            "pricing": dict(self.providers[0].prices),
            "top_provider": {
                "context_length": self.context_length,
                "max_completion_tokens": self.providers[0].max_completion_tokens,
                "is_moderated": False,
            },
            "supported_parameters": parameters + (["reasoning"] if self.reasons else []),
        }

    def listed_with_providers(self) -> dict[str, object]:
        """The model under ``/models/…/endpoints``."""
        lanes = [
            {**self.providers[0].times(factor).listed(self), "tag": f"{self._tag}/{lane}"}
            for lane, factor in self.lanes.items()
        ]
        usual = [each.listed(self) for each in self.providers]
        return {**self._head(), "endpoints": usual + lanes}

    @property
    def _tag(self) -> str:
        return self.providers[0].name.lower()

    def lane(self, wished: object, provider: str) -> str:
        """The service tier that a call is served in."""
        sold = wished in self.lanes and provider == self.providers[0].name
        return str(wished) if sold else "default"

    def _head(self) -> dict[str, object]:
        return {
            "id": self.id,
            "name": self.name,
            "created": self.created,
            "description": "",
            "architecture": {
                "modality": "text->text",
                "input_modalities": ["text"],
                "output_modalities": ["text"],
            },
        }


def _times(prices: Prices, factor: Decimal) -> dict[str, Decimal]:
    return {key: price * factor for key, price in prices.items()}


def _prices(prompt: str, completion: str, **others: str) -> dict[str, Decimal]:
    figures = {"prompt": prompt, "completion": completion, **others}
    return {key: Decimal(figure) for key, figure in figures.items()}


MODELS: tuple[Model, ...] = (
    Model(
        id="minimax/minimax-m1",
        name="MiniMax: MiniMax M1",
        created=1750200414,
        context_length=1_000_000,
        reasons=True,
        providers=(
            Provider(
                "Minimax",
                _prices("0.0000446513", "0.0002455823", input_cache_read="0.0000089303"),
                (
                    Threshold(
                        200_000,
                        _prices("0.0001451168", "0.0002455823", input_cache_read="0.0000290234"),
                    ),
                ),
                max_completion_tokens=40_000,
            ),
            # The endpoint's bill once came to 2.45 times its list price: another had served.
            Provider(
                "Novita",
                _prices("0.000109395685", "0.000601676635"),
                max_completion_tokens=128_000,
            ),
        ),
    ),
    Model(
        id="minimax/minimax-m2",
        name="MiniMax: MiniMax M2",
        created=1761252093,
        context_length=196_608,
        reasons=True,
        providers=(
            Provider(
                "Minimax", _prices("0.0000334885", "0.000133954", input_cache_read="0.0000033489")
            ),
        ),
    ),
    Model(
        id="deepseek/deepseek-chat",
        name="DeepSeek: by the hour",
        created=1735171200,
        context_length=131_072,
        providers=(
            Provider(
                "DeepSeek",
                _prices(
                    "0.0000301396",
                    "0.0001227911",
                    input_cache_read="0.0000078140",
                    input_cache_write="0.0000376745",
                ),
                (
                    Hours(time(16, 30), time(0, 30), _prices("0.0000150698", "0.00006139555")),
                    Threshold(64_000, {"completion": Decimal("0.0002455822")}),
                ),
                max_completion_tokens=16_384,
            ),
        ),
    ),
    Model(
        id="openai/gpt-flex",
        name="OpenAI: flexible",
        created=1754587413,
        context_length=400_000,
        reasons=True,
        lanes={"flex": Decimal("0.5"), "priority": Decimal(2)},
        providers=(
            Provider(
                "OpenAI", _prices("0.000139535", "0.00111628", input_cache_read="0.0000139535")
            ),
            Provider("Azure", _prices("0.000142", "0.00112")),
        ),
    ),
    # A prompt price of nothing does not mean free: this one asks per call and per answer.
    Model(
        id="example/per-call",
        name="Example: per call",
        created=1767225600,
        context_length=None,
        providers=(Provider("Example", _prices("0", "0.00002", request="0.0125")),),
    ),
)


@dataclass(slots=True)
class Catalogue:
    """The models on sale now; `scale` changes every price at once, as an exchange rate does."""

    models: tuple[Model, ...] = MODELS
    factor: Decimal = Decimal(1)
    _by_id: dict[str, Model] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.scale(self.factor)

    def scale(self, factor: Decimal) -> None:
        """Sell everything at `factor` times the list price from now on."""
        self.factor = factor
        for model in self.models:
            providers = tuple(each.times(factor) for each in model.providers)
            self._by_id[model.id] = replace(model, providers=providers)

    def find(self, model_id: str) -> Model | None:
        """The model on sale under this id, at today's prices."""
        return self._by_id.get(model_id)

    def listed(self) -> list[dict[str, object]]:
        """All models, as `GET /models` tells them."""
        return [model.listed() for model in self._by_id.values()]
