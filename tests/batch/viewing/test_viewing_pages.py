"""The pages of `show --open` in the language of whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batch import language
from batch.store import delivery_ledger
from batch.viewing import request_pages
from batch.viewing.request_pages import View
from jobs.message import N_
from tests.batch.making import delivery, feed, publish, result


@pytest.fixture
def russian() -> Iterator[None]:
    language.use("ru")
    yield
    language.use("en")


@pytest.mark.usefixtures("russian")
def test_a_failure_is_told_in_the_language_of_whoever_looks(tmp_path: Path) -> None:
    why = N_("{zone!r} is not a time zone such as Europe/Moscow", zone="Mars/North")
    store = publish(tmp_path, 4)
    chunk = feed(store)
    failed = result(0, chunk.chunk, code="endpoint.5xx", message=str(why), data=why.data)
    delivery_ledger.apply(store, [delivery([], [failed])])

    shown = (request_pages.listing(store, View()), request_pages.row(store, 0, View()) or "")

    store.close()
    for page in shown:
        assert "is not a time zone" not in page
        assert "Mars/North" in page
