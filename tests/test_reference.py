"""docs/reference.md names whatever there is: codes, flags, states, reasons, fields, options."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import click
import msgspec

from batch.main import COMMANDS
from jobs.errors import NightshiftError
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from scripts import reference, schemas
from tests.conftest import ROOT

_CODE = re.compile(r'"((?:endpoint|input|system|worker|home|redis)\.[a-z0-9_]+)"')
_NO_CODES = {"redis.log", "redis.sock", "input.blocks", "home.id"}
_FLAG = re.compile(r"^_FLAGS = \{(.*?)^\}", re.MULTILINE | re.DOTALL)


def sources() -> Iterator[str]:
    for folder in ("batch", "jobs", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            yield path.read_text(encoding="utf-8")


def names() -> Iterator[str]:
    """All that a person or a program may meet."""
    for text in sources():
        yield from set(_CODE.findall(text)) - _NO_CODES
        for flags in _FLAG.findall(text):
            yield from filter(None, re.findall(r': "(\w*)"', flags))
    yield from (each.value for kind in (JobState, PauseReason) for each in kind)
    yield from (str(code) for code in {0, 3, 5, 130, *_exit_codes(NightshiftError)})
    for kind in schemas.DOCUMENTS.values():
        yield from (field.encode_name for field in msgspec.structs.fields(kind))


def _exit_codes(kind: type[NightshiftError]) -> Iterator[int]:
    yield kind.exit_code
    for narrower in kind.__subclasses__():
        yield from _exit_codes(narrower)


def test_all_that_there_is_is_named() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")

    missing = sorted({name for name in names() if f"`{name}`" not in page})

    assert missing == [], "name them in docs/reference.md, MEANINGS or scripts/schemas.py"


def test_what_the_code_knows_is_up_to_date() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")

    assert page == reference.renewed(page), "run: python -m scripts.reference"


def test_no_help_shows_the_marks_of_its_paragraphs() -> None:
    for name in COMMANDS:
        command = importlib.import_module(f"batch.commands.{name}").command
        assert not {"\b", "\\b"} & set(command.get_help(click.Context(command)).split()), name
