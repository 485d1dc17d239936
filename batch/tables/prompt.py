"""A template and a row become a message: Jinja2 in its sandbox, strict and bounded.

There is no folder behind it, no clock and no dice: the same row always makes the same message, and
a template can neither read a file nor run for ever.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batch.tables.table_reader import as_text
from jobs.errors import InvalidValue, UsageError
from jobs.message import N_, Message

LONGEST = 4 * 2**20
"""Characters of a message that a template may make."""

_DEEPEST_LOOP = 2
_IN_BRACES = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_NO_NAME = re.compile(r"\W")
_NOT_HERE = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Call)

Render = Callable[[Mapping[str, Any]], str]
"""A row by its columns' names → the message. `ValueError` tells why there is none."""


def compile_prompt(text: str, columns: tuple[str, ...], option: str) -> Render:
    """The template, checked against the columns. `UsageError` names `option` and what is wrong."""
    environment = _environment()
    try:
        tree = environment.parse(text)
        _check(tree, option)
        _check_names(tree, columns, option)
        template = environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise UsageError(
            N_(
                "{option}, line {line}: {why}",
                option=option,
                line=error.lineno,
                why=error.message or "",
            ),
            hint=_spaced_name(text, columns) or N_("{{ column }} inserts a cell"),
        ) from None

    def render(row: Mapping[str, Any]) -> str:
        names = {_NO_NAME.sub("_", name): value for name, value in row.items()}
        try:
            return _bounded(template.generate({**names, **row, "row": row}))
        except UndefinedError as error:
            raise ValueError(str(error.message)) from None
        except (TemplateError, SecurityError, ArithmeticError, TypeError, ValueError) as error:
            raise InvalidValue(N_("cannot render the prompt: {why}", why=error)) from None

    return render


def _spaced_name(text: str, columns: tuple[str, ...]) -> Message | None:
    """How to write a column whose name is no word, where it stands in braces as if it were one."""
    for inner in _IN_BRACES.findall(text):
        name = inner.split("|")[0].strip()
        if name in columns and not name.isidentifier():
            return N_("write {{ row[{name!r}] }}: its name is not one word", name=name)
    return None


class _Environment(ImmutableSandboxedEnvironment):
    """Without the two operators that make much of little."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if (
            operator == "*"
            and not isinstance(left, str | list)
            and not isinstance(right, str | list)
        ):
            return super().call_binop(context, operator, left, right)
        raise SecurityError(f"{operator} is not supported here")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, finalize=_shown
    )
    environment.globals.clear()
    del environment.filters["random"]
    return environment


def _shown(value: Any) -> Any:
    """An empty cell is an empty text, as a person reads it; what has an inside is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else as_text(value)


def _bounded(pieces: Any) -> str:
    made, size = list[str](), 0
    for piece in pieces:
        size += len(piece)
        if size > LONGEST:
            raise InvalidValue(N_("it would be longer than {most:,} characters", most=LONGEST))
        made.append(piece)
    return "".join(made)


def _check(tree: nodes.Template, option: str) -> None:
    for node in tree.find_all(_NOT_HERE):
        if isinstance(node, nodes.Call):
            if isinstance(node.node, nodes.Getattr):
                continue  # a method of a cell, such as .strip()
            raise UsageError(
                N_(
                    "{option}, line {line}: function calls are not allowed",
                    option=option,
                    line=node.lineno,
                )
            )
        raise UsageError(
            N_(
                "{option}, line {line}: a prompt cannot load other templates",
                option=option,
                line=node.lineno,
            )
        )
    if _loops(tree) > _DEEPEST_LOOP:
        raise UsageError(N_("{option}: loops may be nested at most two deep", option=option))


def _loops(node: nodes.Node) -> int:
    inner = max(map(_loops, node.iter_child_nodes()), default=0)
    return inner + isinstance(node, nodes.For)


def _check_names(tree: nodes.Template, columns: tuple[str, ...], option: str) -> None:
    from jinja2.meta import find_undeclared_variables

    known = {*columns, "row", *(_NO_NAME.sub("_", name) for name in columns)}
    for name in sorted(find_undeclared_variables(tree) - known):
        near = difflib.get_close_matches(name, sorted(known), 1, 0.5)
        listed = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        raise UsageError(
            N_("{option}: the table has no column {name!r}", option=option, name=name),
            hint=N_("did you mean {{ {near} }}?", near=near[0])
            if near
            else N_("its columns: {listed}", listed=listed),
        )
