"""What people read, in the language they read."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from batch import language
from batch.endpoint_queries import HINT
from batch.language import _, decimal, exact, money, ngettext, number
from batch.reading.foreign_lines import EACH_ROW
from batch.reading.line_rules import draft
from batch.reading.reader import Defaults
from batch.reading.source import blocks
from jobs.errors import InvalidInput, InvalidValue
from jobs.message import N_, Message
from jobs.request import Fault
from jobs.window import parse_window
from scripts import wording

_CYRILLIC = re.compile("[а-яё]")


@pytest.fixture
def russian() -> Iterator[None]:
    language.use("ru")
    yield
    language.use("en")


@pytest.mark.parametrize("code", wording.LANGUAGES)
def test_every_message_is_translated_and_the_compiled_file_is_that_of_the_text(code: str) -> None:
    now, kept = wording.updated(code), wording.read(code)

    assert wording.missing(now) == [], "write them into nightshift.po, then run scripts/languages"
    assert {message.id for message in now} == {message.id for message in kept}
    assert wording.po_path(code).with_suffix(".mo").read_bytes() == wording.compiled(kept)


@pytest.mark.parametrize("code", wording.LANGUAGES)
def test_a_translation_leaves_the_same_blanks(code: str) -> None:
    for message in wording.read(code):
        known = _blanks(*(message.id if isinstance(message.id, tuple) else (str(message.id),)))
        for text in message.string if isinstance(message.string, tuple) else (str(message.string),):
            blanks = _blanks(text) if message.id else known
            assert blanks <= known, text
            # A numbered blank may hold a word that Russian does without; a plural may do so too.
            assert blanks == known or "{0}" in known or message.pluralizable, text


def _blanks(*texts: str) -> set[str]:
    return {blank for text in texts for blank in re.findall(r"\{[^}]+\}|%[sd]|%\(\w+\)s", text)}


@pytest.mark.usefixtures("russian")
def test_counts_take_the_russian_form_that_goes_with_them() -> None:
    forms = [ngettext("{count} line", "{count} lines", count) for count in (1, 2, 5, 11, 21, 104)]

    assert forms == [
        *("{count} строка", "{count} строки", "{count} строк"),
        *("{count} строк", "{count} строка", "{count} строки"),
    ]


@pytest.mark.usefixtures("russian")
def test_money_and_numbers_are_written_as_the_reader_does() -> None:
    assert money(Decimal("1312.4")) == "1\N{NO-BREAK SPACE}312,40 ₽"
    assert money(Decimal("0.00123")) == "0,00123 ₽"
    assert number(1234567) == "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567"
    assert decimal(0.25, 1) == "0,2"
    assert exact(Decimal("7.0301717168")) == "7,0301717168"

    language.use("en")
    assert money(Decimal("1312.4")) == "1,312.40 ₽"
    assert number(1234567) == "1,234,567"
    assert _("paused") == "paused"


@pytest.mark.usefixtures("russian")
def test_a_moment_in_a_stored_sentence_is_written_as_the_reader_does() -> None:
    opening = datetime(2026, 11, 29, 2, tzinfo=ZoneInfo("Europe/Moscow"))
    stored = N_("resumes at {opening}", opening=opening)

    told = Message.read(str(stored), stored.data)

    assert told == "resumes at 2026-11-29 02:00 MSK"
    assert _(told) == "продолжится 28.11.2026 23:00 UTC"
    with language.in_zone(ZoneInfo("Europe/Moscow")):
        assert _(told) == "продолжится 29.11.2026 02:00 MSK"


@pytest.mark.usefixtures("russian")
def test_a_message_of_another_place_is_told_in_russian() -> None:
    text = N_(
        "a call cost {cost:exact} ₽, more than the maximum of {bound:exact} ₽",
        cost=Decimal("3.10"),
        bound=Decimal("2.5"),
    )
    with pytest.raises(ValueError, match="invalid hour") as wrong:
        parse_window("25:00-26:00")
    nested = N_("--window: {why}", why=wrong.value)

    assert _(text) == "вызов стоил 3,1 ₽, больше максимума 2,5 ₽"
    assert _(nested) == "--window: в '25:00-26:00' неверный час или минута"
    assert _(Message("paused by the user")) == "приостановлено пользователем"
    assert _("no sentence of ours, {0} or not") == "no sentence of ours, {0} or not"


@pytest.mark.usefixtures("russian")
@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b'{"messages": []}',
        b'{"messages": [{"role": "user", "content": "a"}], "n": 2, "model": "m"}',
        b'{"messages": [{"role": "user", "content": "a"}]}',
        b'{"a": 1, "a": 2}',
        b'{"a" 1}',
        b"\xff",
        b'{"custom_id": "a", "api_key": "x", "body": {}}',
        b'{"messages": [{"role": "user", "content": "a"}], "model": "m", "max_tokens": 0}',
    ],
)
def test_faults_of_a_line_are_told_in_russian(line: bytes) -> None:
    fault = draft(line, 1, Defaults())

    assert isinstance(fault, Fault)
    assert _CYRILLIC.search(_(fault.message)), fault.message


@pytest.mark.usefixtures("russian")
def test_a_file_that_cannot_be_read_is_told_in_russian(tmp_path: Path) -> None:
    torn = tmp_path / "a.jsonl.gz"
    torn.write_bytes(gzip.compress(b"{}" * 999)[:-9])
    (loop := tmp_path / "loop").symlink_to("loop")

    for path in (tmp_path / "none", tmp_path, loop, torn):
        with pytest.raises(InvalidInput) as refusal:
            list(blocks(path))
        assert _CYRILLIC.search(_(refusal.value.message).replace(str(path), "")), path
        assert _CYRILLIC.search(_(refusal.value.hint)), path


@pytest.mark.usefixtures("russian")
def test_a_hint_that_several_sentences_share_is_told_in_russian() -> None:
    for hint in (EACH_ROW, HINT):
        assert _CYRILLIC.search(_(hint)), hint


@pytest.mark.usefixtures("russian")
def test_a_wrong_window_is_told_in_russian() -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_window("night")

    assert _CYRILLIC.search(_(caught.value.message))


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "NIGHTSHIFT_LANG": "en"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ru"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_MESSAGES": "C.UTF-8"}, "en"),
        ({"LANG": "run_amok"}, "en"),
        ({}, "en"),
    ],
)
def test_the_environment_chooses_the_language(
    environ: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NIGHTSHIFT_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert language.code() == code


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    language.use("en")
