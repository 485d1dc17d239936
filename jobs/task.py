"""What is asked of the rows of a table, and what an answer must be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["csv", "xlsx", "parquet", "jsonl"]

Instructions = Literal["auto", "prompt", "response_format", "both"]


MOST_PACKED = 200
"""Rows in one call."""


class TableForm(BaseModel):
    """How a table is written: found when it was submitted, or given.

    `columns` are the names that a prompt knows, in order; `newline` and `bom` only say how the
    answered table is to be written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "csv"
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    bom: bool = False
    delimiter: str = ","
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    header: bool = True
    sheet: str | None = None


class Task(BaseModel):
    """A prompt for every row, and the check of every answer.

    `choices` or `answer_schema` (JSON Schema 2020-12, as text) say what an answer must be; neither:
    any text will do. An answer that is something else is
    asked for again `repairs` times, then `escalate` (a model) is asked. `pack` rows travel in one
    call; with `auto_pack` as many as a sample shows to agree with single calls by
    `min_agreement`. `gold` is a file of known answers, of which at least `min_accuracy` are to be
    right. `form` has what the user told of the table until it was looked at, and all after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    system: str | None = None
    choices: tuple[str, ...] = ()
    answer_schema: str | None = None
    instructions_in: Instructions = "auto"
    repairs: Annotated[int, Field(ge=0, le=10)] = 1
    escalate: str | None = None
    pack: Annotated[int, Field(ge=1, le=MOST_PACKED)] = 1
    auto_pack: bool = False
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.98
    gold: str | None = None
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    id_column: str | None = None
    to: Kind | None = None
    form: TableForm = TableForm()

    @property
    def checked(self) -> bool:
        """Whether an answer can be wrong."""
        return bool(self.choices or self.answer_schema)
