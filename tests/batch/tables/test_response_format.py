"""--check: each answer of a file of requests is held against its own `response_format`."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest

from batch.cli.quality_text import quality_json
from batch.cli.submission_summary import plan_lines
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.submission import pricing
from batch.submission.report import Refused, Report
from batch.submission.submit import new_job_id, submit
from batch.tables.response_format import is_checkable, judged
from jobs.chunk import Work
from jobs.errors import InvalidValue
from jobs.names import REPORT
from jobs.prices import PriceList
from jobs.request_kinds import RESPONSES
from tests.batch.making import MODEL, prices, spec
from tests.batch.tables.playing import LARGER, Play
from tests.readers import read_lines

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
STRICT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
OBJECT = {"type": "json_object"}


def asked(text: str, form: Any = STRICT) -> dict[str, Any]:
    body = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    return body if form is None else {**body, "response_format": form}


def lines(*bodies: dict[str, Any]) -> BytesIO:
    return BytesIO("\n".join(map(json.dumps, bodies)).encode())


def answer(content: str | None, **message: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content, **message}}]}).encode()


def response(text: str, *items: dict[str, Any]) -> bytes:
    said = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    return json.dumps({"object": "response", "output": [*items, said]}).encode()


@dataclass
class Model(Play):
    """Says what is scripted for a prompt: the first time, the second, and so on."""

    script: dict[str, list[str]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def _answer(self, work: Work) -> bytes:
        self.asked.append(body := json.loads(work.body))
        if "messages" in body:
            return answer(self.script[body["messages"][0]["content"]].pop(0))
        (first, *_) = [body["input"]] if isinstance(body["input"], str) else body["input"]
        return response(self.script[first if isinstance(first, str) else first["content"]].pop(0))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    def read(_url: str, models: list[str], **_: object) -> PriceList:
        return prices("0.001", *models)

    monkeypatch.setattr(pricing, "read_prices", read)
    return Home(tmp_path / "home")


def submitted(home: Home, source: BytesIO, **wish: Any) -> tuple[Report, JobStore]:
    wish = {"output_dir": str(home.folder / "out"), "check": True, **wish}
    job = new_job_id()
    report = submit(home, job, spec(home.folder, **wish), source)
    return report, home.open(job)


def test_what_does_not_fit_is_repaired_told_escalated_and_at_last_given_up(home: Home) -> None:
    source = lines(*(asked(text) for text in "abcde"), asked("f", OBJECT), asked("g", None))
    report, store = submitted(home, source, repairs=1, escalate=LARGER)
    with closing(store):
        play = Model(store, Random(1))
        play.script = {
            "a": ['{"n": 1}'],
            "b": ['```json\n{"n": 2,}\n```'],
            "c": ["three", '{"n": 3}'],
            "d": ['{"n": "four"}', '{"n": 4.5}', '{"n": 4}'],
            "e": ["5", "5", "5"],
            "f": ["[1]", '{"any": 1}'],
            "g": ["prose"],
        }
        out = play.run()
        checked = quality_json(store)["checked"]

    assert report.unchecked == 1
    reasons = {each["reason"]: each["requests"] for each in checked.pop("reasons")}
    assert checked == {
        "at_once": 2,  # "a", and "g", of which nothing is asked
        "repaired": 1,
        "asked_again": 2,
        "escalated": 1,
        "invalid": 1,
    }
    assert sum(reasons.values()) == 4
    html = (out / REPORT).read_text()
    ends = re.findall(r"<dt>(.*?)</dt><dd class=\"n\">(\d+)</dd>", html)
    told = ["Valid at once", "Repaired", "Asked again", "Escalated", "Invalid"]
    assert [count for name, count in ends if name in told] == ["2", "1", "2", "1", "1"]
    assert all(escape(reason) in html for reason in reasons)
    answered = {line["custom_id"]: line for line in read_lines((out / "output.jsonl").read_bytes())}
    (failed,) = read_lines((out / "errors.jsonl").read_bytes())
    assert [answered[f"line-{n}"]["nightshift"]["attempts"] for n in (1, 2, 3, 4, 6, 7)] == [1] * 6
    assert answered["line-2"]["nightshift"]["flags"] == ["repaired"]
    assert answered["line-2"]["nightshift"]["answer"] == {"n": 2}
    assert "answer" not in answered["line-1"]["nightshift"]
    content = answered["line-2"]["response"]["body"]["choices"][0]["message"]["content"]
    assert content == '```json\n{"n": 2,}\n```'
    assert failed["error"]["code"] == "answer.invalid"
    assert "5 is not of type" in failed["error"]["message"]
    assert play.calls == 1 + 1 + 2 + 3 + 3 + 2 + 1
    every = [*answered.values(), failed]
    costs = sum(Decimal(line["nightshift"]["cost_rub"]) for line in every)
    assert costs == Decimal(play.billed.total()).scaleb(-7)
    assert play.billed[LARGER] > 0


def test_a_response_is_held_against_its_text_format(home: Home) -> None:
    form = {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}}
    asks = {"model": MODEL, "max_output_tokens": 50, **form}
    turns = [{"role": "user", "content": "b"}]
    source = lines({**asks, "input": "a"}, {**asks, "input": turns}, {**asks, "input": "c"})
    report, store = submitted(home, source, escalate=LARGER, endpoint=RESPONSES.url)
    with closing(store):
        play = Model(store, Random(1))
        play.script = {
            "a": ['```{"n": 1}```'],
            "b": ["two", '{"n": 2}'],
            "c": ["three", "three", '{"n": 3}'],
        }
        play.run()
        checked = quality_json(store)["checked"]

    assert report.unchecked == report.uncheckable == 0
    ends = {end: checked[end] for end in ("at_once", "repaired", "asked_again", "escalated")}
    assert ends == {"at_once": 0, "repaired": 1, "asked_again": 1, "escalated": 1}
    again = play.asked[3:]
    assert [turn["role"] for turn in again[0]["input"]] == ["user", "assistant", "user"]
    assert [each["input"] for each in again[-1:]] == ["c"]
    assert all(each["max_output_tokens"] == 50 for each in again)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"type": "json_schema"}, "response_format has no schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}},
            "holds no JSON Schema",
        ),
        (["json"], "response_format: Expected `object`"),
    ],
)
def test_a_schema_that_is_none_is_told_before_anything_is_sent(
    form: Any, problem: str, home: Home
) -> None:
    with pytest.raises(Refused) as refused:
        submitted(home, lines(asked("?"), asked("?", form)))
    (fault,) = refused.value.report.faults
    assert (fault.line, fault.code) == (2, "input.schema")
    assert problem in str(fault.message)


def test_calls_of_tools_are_no_texts_to_be_checked() -> None:
    body = json.dumps(asked("?")).encode()
    assert judged(body, answer(None, tool_calls=[{"id": "1"}])).problem == ""
    assert judged(body, answer(None)).problem
    assert judged(body, b"no JSON").problem
    told = {"model": MODEL, "input": "?", "text": {"format": OBJECT}}
    body = json.dumps(told).encode()
    assert judged(body, response("none", {"type": "function_call"})).problem == ""
    assert judged(body, response("none", {"type": "web_search_call"})).problem
    assert judged(body, b'{"output": "none"}').problem


def test_what_is_no_chat_and_any_answer_at_all_are_not_held_against_a_form() -> None:
    completion = json.dumps({"model": MODEL, "prompt": "?", "response_format": STRICT}).encode()
    anything = {"type": "json_schema", "json_schema": {"schema": True}}

    assert not is_checkable(completion)
    assert not is_checkable(json.dumps({"model": MODEL, "input": "?", "text": {}}).encode())
    assert judged(completion, b'{"choices": [{"text": "x"}]}').problem == ""
    assert judged(json.dumps(asked("?", anything)).encode(), answer("[1]")).problem == ""


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/x.json", "file:///etc/hostname"])
def test_nothing_is_fetched_for_a_schema(where: str) -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"$ref": where}}}

    with pytest.raises(InvalidValue, match="is not fetched"):
        is_checkable(json.dumps(asked("?", form)).encode())


def test_of_kinds_that_take_no_schema_it_is_said(home: Home) -> None:
    source = lines({"model": MODEL, "prompt": "?", "max_tokens": 5}, asked("?", None))
    report, store = submitted(home, source)
    store.close()

    assert (report.unchecked, report.uncheckable) == (1, 1)
    told = " ".join(plan_lines(report, spec(home.folder)))
    assert "1 of them has no response_format or text.format" in told
    assert "1 of them is for /embeddings or /completions, which take no schema" in told


def test_a_text_format_that_is_none_is_told_by_its_name() -> None:
    for text, problem in (
        ({"format": {"type": "json_schema"}}, "text.format has no schema"),
        ({"format": {"type": "json_schema", "schema": {"type": "no"}}}, "text.format holds no"),
        ({"format": 5}, "text.format: Expected `object`"),
        ("json", "text: Expected `object`"),
    ):
        with pytest.raises(InvalidValue, match=problem):
            is_checkable(json.dumps({"model": MODEL, "input": "?", "text": text}).encode())
