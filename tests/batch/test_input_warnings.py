"""What is accepted and surely not meant is told before anything is sent, once for each kind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from batch.reading.reader import Defaults, read
from batch.store.home import Home
from batch.submission.report import Report
from batch.submission.submit import new_job_id, submit, validate
from jobs.request import Fault, Request
from tests.batch.making import JOB, spec
from tests.batch.test_submission import Desk, desk  # noqa: F401  a fixture

ASKED = {"role": "user", "content": "привет"}
ANSWER = {"role": "assistant", "content": "и вам"}


def lines(*bodies: dict[str, Any]) -> bytes:
    whole = [{"model": "m", "messages": [ASKED], "max_tokens": 5, **body} for body in bodies]
    return "".join(json.dumps(body, ensure_ascii=False) + "\n" for body in whole).encode()


def parts(kind: str, **more: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": kind, **more}]}]}


ODD = [
    ({"messages": [ASKED, ANSWER]}, "--drop-last-assistant"),
    ({"messages": [{"role": "human", "content": "x"}]}, "the role 'human'"),
    ({"messages": [{"role": "user"}]}, "no content"),
    ({"messages": [{"role": "user", "content": None}]}, "no content"),
    ({"messages": [{"role": "user", "content": []}]}, "no content"),
    ({"messages": [{"role": "user", "content": ""}]}, "no content"),
    ({"messages": [{"role": "user", "content": " \t\r\n\u00a0"}]}, "no content"),
    ({"messages": [{"role": "system", "content": ""}, ASKED]}, "no content"),
    ({"messages": [ASKED, {"role": "assistant", "content": " "}, ASKED]}, "no content"),
    (parts("text", text=""), "no content"),
    (parts("text"), "no content"),
    (parts("input_text", text="x"), '"input_text" belongs to another API; use text'),
    (parts("image", source={}), '"image" belongs to another API; use image_url'),
    (parts("image_url", image_url={"url": "cat.png"}), "a local path"),
    (parts("image_url", image_url="/tmp/cat.png"), "a local path"),
    ({"system": "be brief"}, '"system" belongs to another API'),
    ({"max_output_tokens": 5}, "use max_tokens"),
    ({"max_new_tokens": 5}, "use max_tokens"),
    ({"stop_sequences": ["x"]}, "use stop"),
    ({"max_completion_tokens": 5}, "are set"),
    ({"id": "a"}, "use custom_id"),
]
FINE = [
    {},
    {"messages": [ASKED, ANSWER, ASKED]},
    {"messages": [{"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "x"}]},
    {"messages": [{"role": "assistant", "content": "", "tool_calls": []}, ASKED]},
    {"messages": [ASKED, {"role": "tool", "content": ""}]},
    {"user": ""},
    parts("image_url", image_url={"url": "https://x/y.png"}),
    parts("image_url", image_url={"url": "data:image/png;base64,AA"}),
    {"messages": [{"role": "developer", "content": "x"}, ASKED]},
]


def checked(folder: Path, data: bytes, **wish: Any) -> Report:
    return validate(Home(folder / "home"), spec(folder, **wish), io.BytesIO(data))


@pytest.mark.parametrize(("body", "told"), ODD)
def test_each_oddity_is_told_once_with_its_lines(
    body: dict[str, Any], told: str, tmp_path: Path
) -> None:
    report = checked(tmp_path, lines({}, *[body] * 30, {}))

    (group,) = report.warnings.found.values()
    assert told in group.first.message
    assert (group.count, group.lines) == (30, [2, 3, 4, 5, 6])
    assert (report.requests, report.invalid) == (32, 0)


def test_a_blank_text_is_told_wherever_it_comes(tmp_path: Path) -> None:
    """Lines are known again by their form, whatever their texts say; a blank one has its own."""
    asked = [{"messages": [{"role": "user", "content": each}]} for each in ("a", "b", "", "c", " ")]
    report = checked(tmp_path, lines(*asked * 20))

    (group,) = report.warnings.found.values()
    assert (group.count, group.lines) == (40, [3, 5, 8, 10, 13])


@pytest.mark.parametrize("body", FINE)
def test_what_is_usual_is_no_oddity(body: dict[str, Any], tmp_path: Path) -> None:
    assert not checked(tmp_path, lines(body, body)).warnings.found


def test_an_enveloped_request_may_have_an_id_beside_its_name(tmp_path: Path) -> None:
    line = {"id": "x", "custom_id": "a", "body": {"model": "m", "messages": [ASKED]}}

    assert not checked(tmp_path, json.dumps(line).encode()).warnings.found


def test_the_last_answer_is_left_out_if_that_is_wished() -> None:
    data = lines(
        {"messages": [ASKED, ANSWER]},
        {"messages": [ASKED, ANSWER, ASKED, ANSWER, ANSWER]},
        {},
        {"messages": [ANSWER]},
    )
    found = list(read(io.BytesIO(data), Defaults(drop_last_assistant=True)))

    sent = [json.loads(each.body)["messages"] for each in found if isinstance(each, Request)]
    assert sent == [[ASKED], [ASKED, ANSWER, ASKED], [ASKED]]
    assert [each.messages for each in found if isinstance(each, Request)] == [1, 3, 1]
    (fault,) = (each for each in found if isinstance(each, Fault))
    assert "no messages are left" in fault.message


def test_an_input_that_was_answered_before_is_told(desk: Desk) -> None:  # noqa: F811
    submit(desk.home, JOB, spec(desk.folder), io.BytesIO(lines({}, {})))
    with (store := desk.home.open(JOB)).transaction() as db:
        db.execute("UPDATE job SET completed = 2, state = 'completed'")
    store.close()

    def notes(data: bytes, name: str) -> list[str]:
        wish = spec(desk.folder, output_dir=str(desk.folder / name))
        return submit(desk.home, new_job_id(), wish, io.BytesIO(data)).notes

    (told,) = notes(lines({}, {}), "again")
    assert told.startswith(f"the same input ran as {JOB}, with 2 of 2 answered")
    assert notes(lines({}, {"temperature": 0}), "other") == []
