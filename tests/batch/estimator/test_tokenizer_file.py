"""Exact counts by a file of the user's; the package for it is no part of the install."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from batch.estimator.character_counts import Shape
from batch.estimator.prompt_tokens import Figures
from batch.estimator.tokenizer_file import counted_by
from jobs.errors import UsageError

BODY = b'{"messages":[{"role":"user","content":"one two three"}]}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    return path


def test_without_the_package_the_way_out_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(UsageError, match="which is not installed") as refusal:
        counted_by(file)

    assert str(refusal.value.hint) == f"install it with: {sys.executable} -m pip install tokenizers"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        counted_by(tmp_path / "none.json")


def test_the_count_of_the_tokenizer_takes_the_place_of_the_rates(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", _words())

    shape = counted_by(file)(BODY)

    assert shape.counted == 3
    assert Figures().tokens(shape) == 447 + 4 + 3
    assert Figures().tokens(Shape(1, latin=11)) != 447 + 4 + 3


def _words() -> types.ModuleType:
    """A package that takes each word for a token, and has the real one's form."""

    class Tokenizer:
        @staticmethod
        def from_file(path: str) -> Tokenizer:
            assert path.endswith("tokenizer.json")
            return Tokenizer()

        def encode(self, text: str, *, add_special_tokens: bool) -> Any:
            assert not add_special_tokens
            return types.SimpleNamespace(ids=text.split())

    module = types.ModuleType("tokenizers")
    module.Tokenizer = Tokenizer  # type: ignore[attr-defined]
    return module
