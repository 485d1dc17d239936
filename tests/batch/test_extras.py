"""A package that is not there: the command that is told installs it where Nightshift runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from batch import extras
from batch.extras import install_command
from batch.tables import parquet
from jobs.errors import UsageError
from jobs.table_task import TableForm


def test_the_package_is_installed_by_its_own_name_into_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(UsageError, match="requires the package pyarrow") as refusal:
        parquet.find_form(tmp_path / "a.parquet", TableForm(kind="parquet"), "a.parquet")

    command = str(refusal.value.hint).removeprefix("install it with: ").partition(", or")[0]
    assert shlex.split(command) == [sys.executable, "-m", "pip", "install", "pyarrow"]


def test_without_pip_uv_installs_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)

    words = shlex.split(install_command("pyarrow"))

    assert words == ["uv", "pip", "install", "--python", sys.executable, "pyarrow"]
