"""The pages that people read: their links lead somewhere, their commands are ones that exist."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batch.main import COMMANDS, cli
from tests.conftest import ROOT

PAGES = sorted(
    path
    for folder in ("", "docs", "docs/decisions", "examples", "benchmarks", ".github")
    for path in (ROOT / folder).glob("*.md")
)
OURS = ("jobs", "batch", "workers")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(
    r"^ *(?:[A-Z_]+=\S+ )*(?:docker compose (?:exec|run --rm) \w+ )?(nightshift .+)$"
)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)?(?:#([^)\s]+))?\)")
_PATH = re.compile(
    r"`((?:scripts|tests|docs|batch|jobs|workers|benchmarks|examples)/[\w./*-]+)[ `]"
)


def blocks(page: Path) -> str:
    return "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8")))


def shown() -> list[str]:
    """Each command of `nightshift` that a page has readers type, without its comment."""
    lines = [line for page in PAGES for line in blocks(page).splitlines()]
    typed = [match[1] for line in lines if (match := _SHOWN.match(line))]
    parts = [part.strip() for line in typed for part in line.split("&&")]
    return sorted({re.sub(r"\s+# .*", "", part) for part in parts})


def anchors(page: Path) -> set[str]:
    """Of its headings, as a forge makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [(target or page.name, anchor) for target, anchor in _LINK.findall(text)]
    named = set() if page.name == "CHANGELOG.md" else set(_PATH.findall(text))

    lost = [to for to, _ in links if not (page.parent / to).exists()]
    lost += [
        f"{to}#{anchor}"
        for to, anchor in links
        if anchor and to.endswith(".md") and anchor not in anchors(page.parent / to)
    ]
    lost += [name for name in named if not [*ROOT.glob(name.rstrip("."))]]

    assert lost == []


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert [name for name in pages if f"]({name})" not in index] == []


def test_the_map_of_contributors_shows_every_room() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path.parent for path in ROOT.glob("*/*/__init__.py")]
    ours = [f"{room.parent.name}/{room.name}" for room in rooms if room.parent.name in OURS]

    assert [room for room in ours if f"`{room}`" not in told] == []
    assert len(ours) > 12


@pytest.fixture
def own_environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Options are told to what is started by the environment; here it is a test's own."""
    before = dict(os.environ)
    monkeypatch.setenv("KEY", "value")
    monkeypatch.setenv("ORG", "value")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("own_environ")
@pytest.mark.parametrize("line", shown(), ids=str)
def test_every_command_that_is_shown_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files of these names."""
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(line)
    for name in words:
        if name.endswith((".jsonl", ".csv")) and not name.startswith("/"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text("{}\n")
    words = [word.replace("@/etc/keys/azure", "env:KEY") for word in words]
    words = [re.sub("env:.*", "env:ORG", word) for word in words]
    command = cli.get_command(click.Context(cli), words[0])

    assert program == "nightshift"
    assert words[0] in COMMANDS
    assert command is not None
    assert command.make_context(words[0], words[1:]).params
