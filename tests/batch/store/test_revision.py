"""Another model or a bound for what was not answered yet: the row says it, the body follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch.reading.rewriting import in_line
from batch.store import delivery_ledger
from batch.store.revision import Revision
from jobs.request import Request
from tests.batch.making import MODEL, answered, feed, publish, request

BODY = b'{"model":"m","messages":[{"role":"user","content":"m"}],"seed":1.50}'


@pytest.mark.parametrize(
    ("body", "model", "most", "after"),
    [
        (BODY, "m", None, BODY),
        (BODY, "\u043c/n", None, BODY.replace(b'"m",', '"\u043c/n",'.encode(), 1)),
        (BODY, "m", 7, BODY.replace(b"{", b'{"max_tokens":7,', 1)),
        (b'{"max_tokens":null,"model":"m"}', "m", 7, b'{"max_tokens":7,"model":"m"}'),
        (b'{"max_tokens":5,"model":"m"}', "m", 5, b'{"max_tokens":5,"model":"m"}'),
        (
            b'{"max_tokens":5,"max_completion_tokens":6,"model":"m"}',
            "m",
            6,
            b'{"max_tokens":5,"max_completion_tokens":6,"model":"m"}',
        ),
        (
            b'{"max_completion_tokens":6,"model":"m"}',
            "m",
            9,
            b'{"max_completion_tokens":9,"model":"m"}',
        ),
    ],
)
def test_a_body_is_brought_in_line_with_its_row(
    body: bytes, model: str, most: int | None, after: bytes
) -> None:
    assert in_line(body, model, most) == after
    assert json.loads(after)


def test_a_bound_that_a_body_lacks_is_called_as_the_job_calls_it() -> None:
    body = b'{"model":"m","messages":[]}'

    assert in_line(body, "m", 7, "max_completion_tokens") == (
        b'{"max_completion_tokens":7,"model":"m","messages":[]}'
    )
    assert in_line(b'{"max_tokens":5,"model":"m"}', "m", 7, "max_completion_tokens") == (
        b'{"max_tokens":7,"model":"m"}'
    )


def requests() -> list[Request]:
    return [
        request(1, max_output=None),
        request(2),
        request(3, model="b/other", max_output=None),
    ]


def test_what_is_answered_stays_and_bounds_cover_the_longer_body(tmp_path: Path) -> None:
    store = publish(tmp_path, requests())
    before = {row.ordinal: row for row in store.queue.waiting(9)}
    delivery_ledger.apply(store, [answered(feed(store, 1))])

    longer = f"{MODEL}-longer"
    store.revise(Revision({MODEL: longer}, None, 7))

    rows = {row.ordinal: row for row in store.queue.waiting(9)}
    assert [(row.model, row.output_bound) for row in rows.values()] == [
        (longer, 100),
        ("b/other", 7),
    ]
    assert rows[1].prompt_bound == before[1].prompt_bound + len("-longer")
    assert rows[2].prompt_bound == before[2].prompt_bound + len('"max_tokens":7,')
    assert store.queue.models() == [MODEL, "b/other", longer]
    assert store.queue.models_left() == ["b/other", longer]
    store.close()


def test_one_model_for_all_and_names_for_some() -> None:
    assert Revision({"a": "b"}).model("a") == "b"
    assert Revision({"a": "b"}).model("x") == "x"
    assert Revision({}, "z").model("a") == "z"
    assert not Revision()
