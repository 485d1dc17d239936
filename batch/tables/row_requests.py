"""Rows become requests, alone or several together, and what the answers are to look like."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from batch.tables import pack
from batch.tables.pack import MOST, Item
from batch.tables.reask import LIMITS
from batch.tables.table_reader import Row, Table
from jobs.errors import InvalidValue, UsageError
from jobs.message import N_
from jobs.prices import ModelPrice
from jobs.request import HIDDEN_TOKENS, Fault, Request
from jobs.table_task import Task

_encode = msgspec.json.Encoder().encode

Message = dict[str, Any]

_PACKED_TOKENS = 16
"""Tokens of an answer in a pack beyond the answer itself: its marks, brackets, names in JSON."""

LARGEST = 128 * 2**10
"""Bytes of what rows have of their own in one call."""


class _Said(msgspec.Struct):
    content: str


class _Body(msgspec.Struct):
    messages: list[_Said]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True)
class Asked:
    """A row that can be asked, alone."""

    number: int
    custom_id: str
    body: bytes
    messages: int


class Asker:
    """Writes the requests of a task."""

    def __init__(
        self,
        task: Task,
        model: str | None,
        max_tokens: int | None,
        *,
        tier: str | None = None,
        limit: str | None = None,
    ) -> None:
        """`tier` is the service tier to ask for, `limit` what the bound of an answer is called."""
        if model is None:
            raise UsageError(N_("no model is set"), hint=N_("set one: --model minimax/minimax-m1"))
        # Jinja2 is a fifth of the time in which `run` starts; jobs without a table need none.
        from batch.tables.prompt import compile_prompt

        self._task, self._model, self._max_tokens = task, model, max_tokens
        self._tier, self._limit = tier, limit or LIMITS[0]
        columns = task.form.columns
        self._head, _, self._tail = parts_of(task.prompt)
        self._prompt = compile_prompt(task.prompt, columns, "--prompt")
        self._system = compile_prompt(task.system, columns, "--system") if task.system else None
        _check_columns(task, columns)

    @cached_property
    def _format(self) -> Message | None:
        is_used = self._task.instructions_in in ("response_format", "both")
        return response_format(self._task) if is_used else None

    @cached_property
    def _instructions(self) -> str:
        """What is said behind a prompt, so that the answer can be checked."""
        is_told = self._task.instructions_in in ("prompt", "both") or self._format is None
        return instructions(self._task) if is_told else ""

    def row(self, row: Row) -> Asked | Fault:
        """A row as it would be asked alone, or the fault of one that can't be used."""
        if row.fault:
            return Fault(row.number, *row.fault)
        cells = dict(zip(self._task.form.columns, row.cells, strict=True))
        custom_id = self._id(row.number, cells)
        try:
            messages = self._messages(self._filled(cells) + self._instructions, cells)
        except ValueError as error:
            told = N_("row {number}: {why}", number=row.number, why=error)
            return Fault(row.number, "input.prompt", told, custom_id=custom_id)
        body = self._body(messages, self._format, self._max_tokens)
        return Asked(row.number, custom_id, _encode(body), len(messages))

    def _filled(self, cells: dict[str, Any]) -> str:
        prompt = self._prompt(cells)
        if not prompt.strip():
            raise InvalidValue(N_("the prompt is empty"))
        return prompt

    def own_text(self, body: bytes) -> str | None:
        """What of a row's prompt is its own; None where it can't be cut out: it travels alone."""
        asked = _decode(body)
        content, tail = asked.messages[-1].content, self._tail + self._instructions
        if not (content.startswith(self._head) and content.endswith(tail)):
            return None
        limit = asked.max_tokens or asked.max_completion_tokens
        if limit not in (None, self._max_tokens):
            return None  # its limit was raised
        return content[len(self._head) : len(content) - len(tail)]

    @property
    def most_rows(self) -> int:
        """Rows that the answered table holds besides its header."""
        from batch.tables.xlsx import MOST_ROWS

        kind = self._task.to or self._task.form.kind
        return MOST_ROWS - 1 if kind == "xlsx" else sys.maxsize

    @cached_property
    def most_together(self) -> int:
        """Rows in a call whose answer the model can give."""
        longest, each = self._task.longest_answer, self._max_tokens
        return MOST if longest is None or each is None else longest // (each + _PACKED_TOKENS)

    @cached_property
    def most_bytes(self) -> int:
        """Of what rows in a call have of their own: a token has a byte at least."""
        context, answers = self._task.context, self._task.longest_answer or 0
        if context is None:
            return LARGEST
        shared = len(f"{self._head}{self._tail}{self._task.system or ''}".encode())
        return min(LARGEST, context - answers - shared - HIDDEN_TOKENS)

    def together(self, items: Sequence[Item]) -> Message:
        """The request of several rows."""
        prompt = pack.message(
            self._head,
            items,
            self._tail,
            _shape(self._task),
            russian=is_russian(self._task),
            lines=self._format is None,
        )
        most = self._max_tokens
        longest = None if most is None else len(items) * (most + _PACKED_TOKENS)
        form = None if self._format is None else packed_format(self._format)
        return self._body(self._messages(prompt, {}), form, longest)

    def _messages(self, prompt: str, cells: dict[str, Any]) -> list[Message]:
        messages = [{"role": "user", "content": prompt}]
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": self._system(cells)})
        return messages

    def _body(
        self, messages: list[Message], form: Message | None, max_tokens: int | None
    ) -> Message:
        body: Message = {"model": self._model, "messages": messages}
        if max_tokens is not None:
            body[self._limit] = max_tokens
        if self._tier is not None:
            body["service_tier"] = self._tier
        if self._task.temperature is not None:
            body["temperature"] = self._task.temperature
        if form is not None:
            body["response_format"] = form
        return body

    def _id(self, number: int, cells: dict[str, Any]) -> str:
        cell = cells[self._task.id_column] if self._task.id_column else None
        return f"row-{number}" if cell in (None, "") else str(cell)[:512]


def parts_of(text: str) -> tuple[str, str, str]:
    """What stands before the first cell, what depends on the row, and what stands behind."""
    starts = [place for mark in ("{{", "{%", "{#") if (place := text.find(mark)) >= 0]
    if not starts:
        return text, "", ""
    start = min(starts)
    stop = max(text.rfind(mark) for mark in ("}}", "%}", "#}")) + 2
    return text[:start], text[start:stop], text[stop:]


def _check_columns(task: Task, columns: tuple[str, ...]) -> None:
    if task.id_column is not None and task.id_column not in columns:
        raise UsageError(
            N_("--id-column: the table has no column {id_column!r}", id_column=task.id_column),
            hint=N_("its columns: {columns}", columns=", ".join(columns)),
        )
    packs = task.pack > 1 or task.auto_pack
    if packs and not task.checked:
        raise UsageError(
            N_("--pack requires answers that are checked"), hint=N_("add --choices or --schema")
        )
    if packs and task.system and parts_of(task.system)[1]:
        raise UsageError(
            N_("--pack: rows in one call share one system message, so it cannot use columns"),
            hint=N_("move the columns into --prompt"),
        )


# ---- one by one, or in packs ----------------------------------------------------------------


def requests_of(
    asker: Asker, model: str, max_tokens: int | None, table: Table
) -> Iterator[Request | Fault]:
    """A request for every row, or the fault of one that can't be used."""
    fits = asker.most_rows
    for place, row in enumerate(table.rows(), start=1):
        if place > fits:
            raise _too_long(fits)
        asked = asker.row(row)
        if isinstance(asked, Fault):
            yield asked
        else:
            yield Request(
                asked.number, asked.custom_id, model, asked.body, asked.messages, max_tokens
            )


def _too_long(most: int) -> UsageError:
    """A sheet would lose the rest, after it was paid for."""
    return UsageError(
        N_("the table has more than the {most:,} rows that a sheet of XLSX holds", most=most),
        hint=N_("choose another format for the answers: --to csv"),
    )


# ---- what an answer is to look like ---------------------------------------------------------


def fitted(task: Task, model: ModelPrice | None) -> Task:
    """The task with what is known of the model. A schema stands in `response_format` where that is
    heeded; choices, and answers in packs, are told in fewer tokens in the prompt.
    """
    limits = {} if model is None else _limits(model)
    if task.instructions_in != "auto":
        return task.model_copy(update=limits)
    packs = task.pack > 1 or task.auto_pack
    heeds = model is not None and model.takes_schemas and task.answer_schema is not None
    where = "response_format" if heeds and not packs and task.escalate is None else "prompt"
    return task.model_copy(update={"instructions_in": where, **limits})


def _limits(model: ModelPrice) -> dict[str, int | None]:
    return {"longest_answer": model.surely_answers, "context": model.context_length}


def response_format(task: Task) -> Message | None:
    """OpenAI's `response_format` for a task's answers."""
    if not task.checked:
        return None
    return _format_of(_schema(task))


def packed_format(single: Message) -> Message:
    """The same for several rows in one answer."""
    item = _object(
        id={"type": "string"}, code={"type": "string"}, answer=single["json_schema"]["schema"]
    )
    return _format_of(_object(answers={"type": "array", "items": item}))


def _schema(task: Task) -> Message:
    if task.answer_schema is not None:
        schema: Message = json.loads(task.answer_schema)
        return schema
    return _object(answer={"type": "string", "enum": list(task.choices)})


def _object(**properties: Message) -> Message:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _format_of(schema: Message) -> Message:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def instructions(task: Task) -> str:
    """What is said behind a prompt, in its language."""
    russian = is_russian(task)
    if task.choices:
        asks = (
            "Ответь ровно одним вариантом из списка, без пояснений"
            if russian
            else "Answer with exactly one of these and nothing else"
        )
        return f"\n\n{asks}: {', '.join(task.choices)}"
    if task.answer_schema is not None:
        asks = (
            "Ответь только объектом JSON по этой схеме, без пояснений"
            if russian
            else "Answer only with JSON that matches this JSON Schema, without explanations"
        )
        return f"\n\n{asks}:\n{task.answer_schema}"
    return ""


def _shape(task: Task) -> str:
    """What stands for an answer in the example of a pack."""
    if task.choices:
        return ", ".join(task.choices)
    russian = is_russian(task)
    like = "JSON в одну строку по схеме" if russian else "JSON in one line that matches the schema"
    return f"{like} {task.answer_schema}"


def is_russian(task: Task) -> bool:
    """Whether a prompt speaks Russian: what is added to it does, too."""
    text = f"{task.prompt} {task.system or ''}".lower()
    return 2 * sum("а" <= each <= "я" for each in text) > sum(each.isalpha() for each in text)
