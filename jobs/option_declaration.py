"""How a field of a job's spec is set on the command line: declared at the field itself.

From this declaration come the flag, its variable of the environment, its place in the help, the
field's value, what `resume` may change and what it refuses, which options a check lists, which
`serve` takes for all batches, and the reference. Read it with `declared`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


class Section(StrEnum):
    """Where a long help lists an option; in this order, those of the job itself first."""

    JOB = "job"
    TABLES = "tables"
    MONEY = "money"
    ESTIMATE = "estimate"
    PACE = "pace"
    HOURS = "hours"
    NOTIFICATIONS = "notifications"


JOB, TABLES, MONEY, ESTIMATE, PACE, HOURS, NOTIFICATIONS = Section


@dataclass(frozen=True)
class Option:
    """An option that sets a field, put into the field's `Annotated`.

    `flags`: as they are typed, a short one first. `takes`: the value as the help shows it, which
    also tells how it is read; "" for a switch, which sets `value`. `default`, `shown_default`:
    where they are not the field's. `in_checks`: what a check finds, or the cost, depends on it.
    `of_one_job`: makes no sense for all batches of a server. `is_hidden`: for
    whoever knows it.
    """

    flags: str
    takes: str = ""
    _: KW_ONLY
    help: str
    section: Section = JOB
    value: Any = True
    default: Any = ...
    shown_default: str | None = None
    choices: tuple[str, ...] = ()
    in_checks: bool = False
    of_one_job: bool = False
    is_hidden: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return not (self.takes or self.choices)

    @property
    def flag(self) -> str:
        """The long one, `--budget-rub`."""
        return self.flags.split()[-1]

    @property
    def name(self) -> str:
        """What it is called among the options of a command, `budget_rub`."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class AtResume:
    """The field of a submitted job may be changed by `resume`, whose help says this."""

    help: str


class Declared(NamedTuple):
    """An option, and the field that it sets: `("limits", "rpm")` is `spec.limits.rpm`."""

    path: tuple[str, ...]
    field: FieldInfo
    option: Option

    @property
    def name(self) -> str:
        """What it is called among the options of a command."""
        return self.option.name

    @property
    def at_resume(self) -> AtResume | None:
        """None for what a submitted job keeps."""
        return next((each for each in self.field.metadata if isinstance(each, AtResume)), None)

    @property
    def default(self) -> Any:
        """What it is when it is not given; None where the field has nothing to show."""
        if self.option.default is not ...:
            return self.option.default
        if self.option.is_switch:
            return False
        found = self.field.default
        return found if isinstance(found, (str, int, float)) or hasattr(found, "quantize") else None

    @property
    def kind(self) -> Any:
        """The type of a value: `int`, `Decimal`, a `Literal`, …"""
        return _kind(self.field.annotation)

    @property
    def bounds(self) -> Bounds:
        """The least and the most that the field allows."""
        found: dict[str, Any] = {}
        for each in _constraints(self.field):
            for name in ("ge", "gt", "le"):
                limit = getattr(each, name, None)
                found |= {} if limit is None else {name: limit}
        return Bounds(found.get("ge", found.get("gt")), found.get("le"), is_open="gt" in found)

    def of(self, model: BaseModel) -> Any:
        """The field's value; None where what it is a field of is not there."""
        found: Any = model
        for name in self.path:
            found = getattr(found, name, None)
        return found


class Bounds(NamedTuple):
    """A range; None: without end on that side. `is_open`: `least` itself is too little."""

    least: Any
    most: Any
    is_open: bool


def declared(model: type[BaseModel], *path: str) -> Iterator[Declared]:
    """All options of a model and of those within it, in the order of the fields."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        for each in field.metadata:
            if isinstance(each, Option):
                yield Declared(here, field, each)
        inner = _kind(field.annotation)
        if hasattr(inner, "model_fields"):
            yield from declared(inner, *here)


def nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Values by their paths, as a model takes them."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        inner = found
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return found


def _kind(annotation: Any) -> Any:
    """A type without the constraints around it, and without the None beside it."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = get_args(annotation)[0]
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _constraints(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for each in get_args(field.annotation):
        for constraint in getattr(each, "__metadata__", ()):
            yield from getattr(constraint, "metadata", ())
