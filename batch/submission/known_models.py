"""The models of an input, held against those that the endpoint lists."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from batch.store.staged_job import Draft
from jobs.errors import UsageError
from jobs.job_options import Spec
from jobs.message import N_, Message, joined
from jobs.modelname import nearest, take_apart
from jobs.prices import PriceList


class UnknownModels(UsageError):
    """The endpoint lists none of `models`; what it does list is in `listed`."""

    def __init__(
        self, message: Message, hint: Message, models: list[str], listed: Collection[str]
    ) -> None:
        super().__init__(message, hint=hint)
        self.models = models
        self.listed = listed


def with_known_models(spec: Spec, draft: Draft, prices: PriceList | None) -> Spec:
    """Refuses models that the endpoint does not list; an alias is what it means now, for good."""
    if prices is None:
        return spec
    check_listed(spec, draft.models(), prices)
    meant = {name: prices.aliases[name] for name in draft.models() if name in prices.aliases}
    if not meant:
        return spec
    draft.rename(meant)
    return spec.model_copy(update={"model_map": {**spec.model_map, **meant}, "revised": True})


def check_listed(spec: Spec, models: Iterable[str], prices: PriceList) -> None:
    """`UsageError` for models that the catalogue lacks, if it could be read; tells near names.

    A price by hand, and a name that is mapped to itself, say that the name is right all the same.
    """
    known = {*prices.models, *prices.listed}
    lacking = [
        name
        for name in dict.fromkeys(models)
        if not known.intersection(take_apart(name).listed) and spec.model_map.get(name) != name
    ]
    if not prices.listed or not lacking:
        return
    ways = [way for name in lacking[:_MOST_NAMED] for way in _near(name, prices.listed)]
    told = N_("other names: --model-map OLD=NEW for each, --override-model NAME for all")
    raise UnknownModels(
        N_(
            "{endpoint} tells no price for {models}: it lists no such model",
            endpoint=spec.base_url,
            models=_some(lacking),
        ),
        joined([*ways, told], "\n"),
        lacking,
        prices.listed,
    )


_MOST_NAMED = 5


def _near(name: str, listed: Collection[str]) -> list[str]:
    """The nearest names, and what to type for the first of them."""
    found = nearest(name, listed)
    if not found:
        return []
    told = N_("near {name} it lists {found}", name=name, found=", ".join(found))
    return [told, f"--model-map {shlex.quote(f'{name}={found[0]}')}"]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
