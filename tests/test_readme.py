"""README.ru.md is README.md in Russian: the same parts, commands, files and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH, RUSSIAN = "README.md", "README.ru.md"


def headings(text: str) -> list[int]:
    """The depth of each."""
    return [len(mark) for mark in re.findall(r"^(#+) ", _without_code(text), re.MULTILINE)]


def commands(text: str) -> list[str]:
    """Each line of each block of code, without its comment."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]


def links(text: str) -> list[str]:
    """Where each leads, but from one README to the other."""
    return [to for to in re.findall(r"\]\(([^)]+)\)", text) if to not in (ENGLISH, RUSSIAN)]


def names(text: str) -> set[str]:
    """Options, files and variables that are named."""
    return set(re.findall(r"`([^`\n]+)`", _without_code(text)))


def rows(text: str) -> list[str]:
    """The first cell of each row of a table."""
    return re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("parts", [headings, commands, links, names, rows])
def test_both_have_the_same(parts: object) -> None:
    assert callable(parts)
    english, russian = ((ROOT / name).read_text(encoding="utf-8") for name in (ENGLISH, RUSSIAN))

    assert parts(russian) == parts(english)
    assert parts(english)


def test_every_link_of_both_leads_somewhere() -> None:
    for name in (ENGLISH, RUSSIAN):
        for to in links((ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / to).exists(), to
