"""The options of a job as commands take them, made from what `jobs.job_options` declares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from batch.cli.parameter_types import (
    Figure,
    Header,
    Packing,
    Percent,
    PriorityShare,
    Roubles,
    Seconds,
    Whole,
    model_map,
    more_than_nothing,
    take_headers,
)
from batch.cli.shared_options import all_of, option, plain_option
from jobs.job_options import Spec
from jobs.option_declaration import NOTIFICATIONS, Declared, declared

F = TypeVar("F", bound=Callable[..., Any])

JOB_OPTIONS = tuple(declared(Spec))
CHANGEABLE = tuple(each for each in JOB_OPTIONS if each.at_resume)
FIXED = tuple(each for each in JOB_OPTIONS if not each.at_resume and each.path != ("headers",))
"""What a submitted job keeps. Headers are none of it: who opens a job again gives them again."""

_HEADER = [each for each in JOB_OPTIONS if each.path == ("headers",)]
_PATH: dict[str, Any] = {"type": click.Path(path_type=Path)}
_TAKEN: dict[str, dict[str, Any]] = {
    "RUB": {"type": Roubles()},
    "PERCENT": {"type": Percent()},
    "high|normal|low|N": {"type": PriorityShare()},
    "N|auto": {"type": Packing()},
    "FILE": _PATH,
    "DIR": _PATH,
    "OLD=NEW": {"multiple": True, "callback": model_map},
    "NAME=VALUE": {"type": Header(), "multiple": True, "callback": take_headers},
}
"""How a value is read that its metavar tells."""

_TIMES = ("S", "SECONDS")


def _reading(each: Declared) -> dict[str, Any]:
    """How click reads its value."""
    takes, bounds = each.option.takes, each.bounds
    if each.option.is_switch:
        return {"is_flag": True}
    if takes in _TAKEN:
        more = {"callback": more_than_nothing} if takes == "RUB" and bounds.is_open else {}
        return _TAKEN[takes] | more
    if choices := each.option.choices or _named(each.kind):
        return {"type": click.Choice(choices, case_sensitive=False)}
    if each.kind is int:
        return {"type": Whole(bounds.least + bounds.is_open, bounds.most)}
    if each.kind is float and takes in _TIMES:
        return {"type": Seconds(bounds.least, bounds.most, min_open=bounds.is_open)}
    return {"type": Figure(bounds.least, bounds.most)} if each.kind is float else {}


def _named(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _shown(each: Declared) -> dict[str, Any]:
    """How its help shows it."""
    metavar = {"metavar": each.option.takes} if each.option.takes else {}
    return {**metavar, "hidden": each.option.is_hidden, "section": each.option.section}


def _added(each: Declared) -> Callable[[F], F]:
    given, default = each.option, each.default
    shown = given.shown_default or default not in (None, False)
    more = {"default": default, "show_default": shown, "help": given.help}
    return option(*given.flags.split(), **_reading(each), **_shown(each), **more)


def _at_resume(each: Declared) -> Callable[[F], F]:
    """The option at `resume`, where the environment does not set it: a job keeps what it has."""
    told = each.at_resume.help if each.at_resume else each.option.help
    shown = _shown(each) | {"hidden": each.at_resume is None, "help": told}
    return plain_option(*each.option.flags.split(), **_reading(each), **shown)


def _all(options: Iterable[Declared]) -> Callable[[F], F]:
    return all_of(*map(_added, options))


spec_options = _all(JOB_OPTIONS)
"""All options that make a job's spec."""

batch_options = _all(each for each in JOB_OPTIONS if not each.option.of_one_job)
"""Those that may be the same for all batches of a server."""

endpoint_options = _all(
    each for each in JOB_OPTIONS if each.path[0] in ("headers", "insecure_http")
)
"""How the endpoint is called, beside its address."""

notify_options = _all(each for each in JOB_OPTIONS if each.option.section == NOTIFICATIONS)
"""Who hears of a job."""

resume_options = all_of(*map(_at_resume, (*CHANGEABLE, *FIXED)), *map(_added, _HEADER))
"""What may be changed of a submitted job and, hidden, what is refused by name."""

UNSET = {each.name: each.default for each in JOB_OPTIONS}
"""The options of a command that gives none of them."""


def values(options: dict[str, Any], of: Iterable[Declared]) -> dict[tuple[str, ...], Any]:
    """What the options given set, by the paths of the fields; of several for a field, the last."""
    found = {}
    for each in of:
        given = options[each.name]
        if is_given(given):
            found[each.path] = each.option.value if given is True else absolute(given)
    return found


def is_given(value: Any) -> bool:
    """Whether an option has a value; 0 is one."""
    return value is not None and value is not False and value not in ((), {})


def absolute(value: Any) -> Any:
    """A path as text, from the root; anything else as it is."""
    return text(str(value.absolute())) if isinstance(value, Path) else value


def text(name: str) -> str:
    """A name as text; bytes in it that are none are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def flag_of(path: tuple[Any, ...]) -> str:
    """The option that sets a field, where one does; "" else."""
    return next((each.option.flag for each in JOB_OPTIONS if each.path == path), "")


def checking(command: click.Command) -> click.Command:
    """A command that takes all options of a job but sends nothing: the help lists those that matter
    to a check.
    """
    needless = {each.name for each in JOB_OPTIONS if not each.option.in_checks}
    for one in command.params:
        if isinstance(one, click.Option):
            one.hidden = one.hidden or one.name in needless
    return command
