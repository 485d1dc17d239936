"""What is asked of the rows of a table, and what an answer must be."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.message import N_
from jobs.option_declaration import TABLES, Option

Kind = Literal["csv", "xlsx", "parquet", "jsonl"]

Instructions = Literal["auto", "prompt", "response_format", "both"]


_table = partial(Option, section=TABLES, in_checks=True, of_one_job=True)

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
    encoding: Annotated[
        str,
        _table(
            "--encoding",
            "NAME",
            help=N_("Encoding of a CSV file, e.g. cp1251.  [default: detected]"),
            default=None,
        ),
    ] = "utf-8"
    bom: bool = False
    delimiter: Annotated[
        str,
        _table(
            "--delimiter",
            "CHAR",
            help=N_(
                "Delimiter of a CSV file: a character, or tab, comma, semicolon, pipe. "
                " [default: detected]"
            ),
            default=None,
        ),
    ] = ","
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    header: Annotated[
        bool,
        _table(
            "--no-header", help=N_("The first row is data; columns are column_1, …"), value=False
        ),
    ] = True
    sheet: Annotated[
        str | None,
        _table("--sheet", "NAME", help=N_("Sheet of an XLSX file.  [default: the first]")),
    ] = None


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

    prompt: Annotated[
        str,
        _table(
            "--prompt",
            "TEXT",
            help=N_(
                "INPUT is a table (CSV, XLSX, Parquet or JSON Lines records): prompt template"
                " for each row; {{ column }} inserts a cell."
            ),
        ),
        _table("--prompt-file", "FILE", help=N_("Same, read from a file.")),
    ]
    system: Annotated[
        str | None,
        _table("--system", "TEXT", help=N_("System message template.")),
        _table("--system-file", "FILE", help=N_("Same, read from a file.")),
    ] = None
    choices: Annotated[
        tuple[str, ...],
        _table("--choices", "A,B,…", help=N_("Allowed answers; any other answer is rejected.")),
    ] = ()
    answer_schema: Annotated[
        str | None,
        _table(
            "--schema",
            "FILE",
            help=N_("Require JSON answers that match this JSON Schema (2020-12)."),
        ),
    ] = None
    instructions_in: Annotated[
        Instructions,
        _table(
            "--instructions-in",
            "HOW",
            help=N_(
                "Where the model is told what an answer must be: prompt, response_format, both,"
                " auto."
            ),
        ),
    ] = "auto"
    repairs: Annotated[
        int,
        Field(ge=0, le=10),
        _table(
            "--repairs",
            "N",
            help=N_("How many times to show the model an invalid answer and ask again."),
        ),
    ] = 1
    escalate: Annotated[
        str | None, _table("--escalate", "MODEL", help=N_("Model to ask after that."))
    ] = None
    pack: Annotated[
        int,
        Field(ge=1, le=MOST_PACKED),
        _table(
            "--pack",
            "N|auto",
            help=N_(
                "Rows per call; the shared part of the prompt is paid for once. auto: as many as a"
                " sample shows to agree with single calls."
            ),
        ),
    ] = 1
    auto_pack: bool = False
    min_agreement: Annotated[
        float,
        Field(ge=0, le=1),
        _table(
            "--min-agreement",
            "SHARE",
            help=N_("How many answers of a pack must equal those of single calls for --pack auto."),
        ),
    ] = 0.98
    gold: Annotated[
        str | None,
        _table(
            "--gold",
            "FILE",
            help=N_(
                "Table of known answers: a key column and the answers. These rows are asked first,"
                " and the accuracy is shown."
            ),
        ),
    ] = None
    min_accuracy: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        _table(
            "--min-accuracy", "SHARE", help=N_("Pause if fewer of the known answers are right.")
        ),
    ] = None
    temperature: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        _table("--temperature", "T", help=N_("Temperature for every row.")),
    ] = None
    id_column: Annotated[
        str | None,
        _table("--id-column", "NAME", help=N_("Column with a unique id for each row.")),
    ] = None
    form: TableForm = TableForm()
    longest_answer: int | None = None
    context: int | None = None
    """Tokens of an answer, and of a call in all, that the model can bear; None: nobody tells."""
    to: Annotated[
        Kind | None,
        _table(
            "--to",
            "KIND",
            help=N_("The answered table: csv, xlsx, parquet or jsonl.  [default: like INPUT]"),
        ),
    ] = None

    @property
    def checked(self) -> bool:
        """Whether an answer can be wrong."""
        return bool(self.choices or self.answer_schema)
