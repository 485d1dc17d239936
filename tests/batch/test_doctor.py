"""What `doctor` prints."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from batch import language
from batch.commands import doctor
from batch.commands.doctor import Finding


@pytest.mark.parametrize("words", ["en", "ru"])
def test_its_columns_are_even_whatever_the_language_calls_what_is_wrong(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Finding("redis", "HERE", ok=True), Finding("endpoint", "HERE", ok=False, cure="HERE")]
    monkeypatch.setattr(doctor, "_findings", lambda *_args, **_more: found)
    language.use(words)
    try:
        told = CliRunner().invoke(doctor.command, []).stdout.splitlines()
    finally:
        language.use("en")

    assert [line.index("HERE") for line in told] == [told[0].index("HERE")] * 3
