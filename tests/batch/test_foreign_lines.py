"""What people bring in place of chat requests is named in one sentence, with what helps; not sent.

The forms were found in public repositories, with their twins; the commands that are
told are run, and what they write must be an input.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch.cli.submission_summary import say_refused
from batch.reading.reader import Defaults, read
from batch.store.home import Home
from batch.submission.report import Refused, check_any_left
from batch.submission.submit import validate
from jobs.request import Fault, Request
from tests.batch.making import spec

MESSAGES = [{"role": "user", "content": "привет"}]
BODY = {"model": "m", "messages": MESSAGES, "max_tokens": 5}
GOOD: list[dict[str, Any]] = [
    {"custom_id": f"r-{n}", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
    for n in range(3)
]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def elsewhere(path: str, **body: Any) -> bytes:
    return lines({"custom_id": "a", "method": "POST", "url": path, "body": {"model": "m", **body}})


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, lines(*GOOD))
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("requests.jsonl")
        member.size = len(lines(*GOOD))
        archive.addfile(member, io.BytesIO(lines(*GOOD)))
    return file.getvalue()


CLAUDE = {"model": "claude", "max_tokens": 5, "system": "be brief", "messages": MESSAGES}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "привет"}]}]}
SPOKEN = [{"from": "human", "value": "привет"}, {"from": "gpt", "value": "и вам"}]
RESULT = {"id": "batch_req_1", "custom_id": "a"}

FORMS: dict[str, tuple[bytes, str, str]] = {
    "Anthropic": (
        lines(*({"custom_id": str(n), "params": CLAUDE} for n in range(740))),
        "Anthropic Message Batches",
        "jq",
    ),
    "Anthropic, one with tools": (
        lines(
            {"custom_id": "a", "params": CLAUDE},
            {"custom_id": "b", "params": {**CLAUDE, "tools": [{"name": "x"}]}},
        ),
        "Anthropic Message Batches",
        "",
    ),
    "Gemini": (lines({"key": "a", "request": CONTENTS}), "Gemini or Vertex AI", "jq"),
    "Vertex": (lines({"request": CONTENTS}), "Gemini or Vertex AI", "jq"),
    "Gemini, bare": (lines(CONTENTS), "Gemini or Vertex AI", "jq"),
    "Gemini, with options": (
        lines({"request": {**CONTENTS, "safetySettings": []}}),
        "Gemini or Vertex AI",
        "",
    ),
    "Bedrock": (lines({"recordId": "1", "modelInput": {"messages": MESSAGES}}), "Bedrock", ""),
    "images": (elsewhere("/v1/images/generations", prompt="x"), "/v1/images/generations", ""),
    "ShareGPT": (lines({"conversations": SPOKEN}), "ShareGPT", "jq"),
    "messages under a key": (lines({"conversations": MESSAGES}), 'the key "conversations"', "jq"),
    "requests under a key": (lines({"custom_id": "a", "json": BODY}), 'the key "json"', "jq"),
    "prompt and completion": (
        lines({"prompt": "привет", "completion": "и вам"}),
        "data records (prompt, completion)",
        "--prompt",
    ),
    "id and text": (
        lines({"id": 1, "text": "привет"}, {"id": 2, "text": "и вам"}),
        "data records (id, text)",
        "--prompt",
    ),
    "Alpaca": (lines({"instruction": "скажи", "input": "", "output": "x"}), "Alpaca", "jq"),
    "CSV": ('id,text\n1,"привет, вы"\n2,пока\n'.encode(), "a table (CSV)", "--prompt"),
    "CSV, semicolons": ("id;text\n1;привет\n2;пока\n".encode(), "a table (CSV)", "--prompt"),
    "TSV": ("id\ttext\n1\tпривет\n".encode(), "a table (TSV)", "--prompt"),
    "plain text": ("Хорош ли он?\n\nА она?\n".encode(), "plain text", "jq"),
    "array": (json.dumps(GOOD).encode(), "a JSON array", "jq -c '.[]'"),
    "array, a line each": (
        b"[\n" + b",\n".join(json.dumps(row).encode() for row in GOOD) + b"\n]\n",
        "a JSON array",
        "jq -c '.[]'",
    ),
    "array, spread": (json.dumps(GOOD, indent=2).encode(), "a JSON array", "jq -c '.[]'"),
    "array of records": (
        json.dumps([{"instruction": "скажи"}], indent=2).encode(),
        "a JSON array",
        "jq",
    ),
    "array, longer than a line may be": (
        json.dumps([{**GOOD[0], "x": "y" * 9_000_000}, *GOOD]).encode(),
        "a JSON array",
        "",
    ),
    "pretty-printed": (
        "\n".join(json.dumps(row, indent=2) for row in GOOD).encode(),
        "spread over several lines",
        "jq -c .",
    ),
    "commas": (
        b",\n".join(json.dumps(row).encode() for row in GOOD),
        "a comma after each line",
        "sed",
    ),
    "one object around them": (lines({"requests": GOOD}), 'list under the key "requests"', "jq"),
    "one object around them, spread": (
        json.dumps({"requests": GOOD}, indent=2).encode(),
        "spread over several lines",
        "jq",
    ),
    "all on one line": (
        b"".join(json.dumps(row).encode() for row in GOOD),
        "several JSON objects on one line",
        "jq",
    ),
    "encoded twice": (lines(*map(json.dumps, GOOD)), "double-encoded JSON", "jq"),
    "bodies encoded": (
        lines(*({**row, "body": json.dumps(row["body"])} for row in GOOD)),
        '"body" is JSON encoded as a string',
        "jq",
    ),
    "Python": ("".join(f"{row!r}\n" for row in GOOD).encode(), "Python dict literals", "python3"),
    "YAML": (b"- custom_id: a\n  body: {}\n", "YAML", "yq"),
    "strings": ('"привет"\n"пока"\n'.encode(), "one JSON string per line", "jq"),
    "lists of strings": ('["привет"]\n["пока"]\n'.encode(), "a JSON array", "jq"),
    "lists of messages": (lines(MESSAGES, MESSAGES), "lists of messages", "jq"),
    "a message per line": (lines(*MESSAGES, *MESSAGES), "one message per line", "jq"),
    "LangChain": (
        lines({"messages": [{"type": "human", "content": "привет"}]}),
        "LangChain messages",
        "jq",
    ),
    "Assistants": (
        lines(
            {
                "object": "thread.message",
                "role": "user",
                "content": [{"type": "text", "text": {"value": "привет"}}],
            }
        ),
        "messages of the Assistants API",
        "jq",
    ),
    "Cohere": (lines({"message": "привет", "chat_history": []}), "Cohere chat requests", ""),
    "Cohere, in a body": (
        lines({"custom_id": "a", "body": {"model": "m", "message": "привет"}}),
        "Cohere chat requests",
        "",
    ),
    "merge conflict": (b"<<<<<<< HEAD\n=======\n>>>>>>> x\n", "an unresolved merge", ""),
    "old Mac": (lines(*GOOD).replace(b"\n", b"\r"), "a carriage return alone", "perl"),
    "stream": (b'data: {"choices":[]}\n\ndata: [DONE]\n', "a streamed response", ""),
    "TOML": (b'[[requests]]\nmodel = "m"\n', "TOML", ""),
    "Markdown": (b"| id | text |\n|----|------|\n| 1 | hi |\n", "a Markdown table", ""),
    "results": (lines({**RESULT, "response": {"status_code": 200}, "error": None}), "results", ""),
    "errors": (lines({**RESULT, "response": None, "error": {"code": "x"}}), "errors", ""),
    "results of Anthropic": (lines({**RESULT, "result": {"type": "succeeded"}}), "results", ""),
    "an answer": (lines({"id": "x", "object": "chat.completion", "choices": []}), "results", ""),
    "batch object": (lines({"id": "b", "object": "batch", "input_file_id": "f"}), "a batch", ""),
    "error message": (lines({"error": {"message": "no"}}), "a server's error message", ""),
    "web page": (b"<!DOCTYPE html>\n<html></html>", "a web page", ""),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
        "a Git LFS pointer",
        "git lfs pull",
    ),
    "zip": (zipped("requests.jsonl"), "a zip archive", "unzip -p"),
    "CSV in Windows-1251": (
        "№;Отзыв\n1;Привет, хороший товар\n2;Не советую никому\n".encode("cp1251"),
        "with the columns №, Отзыв",
        "--model minimax/minimax-m1 --prompt 'Classify this: {{ Отзыв }}'",
    ),
    "ODS": (
        b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
        "an OpenDocument spreadsheet",
        "--prompt",
    ),
    "XLS": (b"\xd0\xcf\x11\xe0" + b"\0" * 512, "an old Excel workbook", "--prompt"),
    "Excel": (zipped("xl/workbook.xml"), "an Excel workbook", "--prompt"),
    "tar": (tarred(), "a tar archive", "tar -xOf"),
    "tar.gz": (gzip.compress(tarred()), "a tar archive", "tar -xOf"),
    "bzip2": (bz2.compress(lines(*GOOD)), "bzip2", "bzip2 -dc"),
    "xz": (lzma.compress(lines(*GOOD)), "xz", "xz -dc"),
    "Parquet": (b"PAR1" + b"\0" * 99, "a Parquet file", "--prompt"),
    "zeros": (b"\0" * 70_000, "only zero bytes", ""),
    "UTF-16": (lines(*GOOD).decode().encode("utf-16"), "UTF-16", "iconv -f UTF-16"),
    "UTF-16, no mark": (lines(*GOOD).decode().encode("utf-16-be"), "UTF-16BE", "iconv"),
    "Windows-1251": (lines(*GOOD).decode().encode("cp1251"), "Windows-1251", "iconv"),
}
RUNS = ("jq", "python3", "perl", "sed", "iconv", "bzip2", "xz", "tar", "unzip")
"""Programs of the commands that are run here, where this machine has them."""


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., Refused]:
    def refused(data: bytes, name: str = "odd.jsonl") -> Refused:
        wish = spec(tmp_path, source=name, skip_invalid=True, model="m")
        report = validate(Home(tmp_path / "home"), wish, io.BytesIO(data))
        with pytest.raises(Refused) as refusal:
            check_any_left(wish, report)
        return refusal.value

    return refused


@pytest.mark.parametrize(("data", "told", "command"), FORMS.values(), ids=FORMS)
def test_a_file_of_another_form_is_named_and_what_helps_is_told(
    data: bytes, told: str, command: str, refused: Callable[..., Refused], tmp_path: Path
) -> None:
    refusal = refused(data)

    assert refusal.message.startswith("odd.jsonl holds ")
    assert told in refusal.message
    assert "nothing was sent" in refusal.message
    assert "--skip-invalid" not in refusal.hint
    assert command in refusal.hint
    assert bool(command) == ("odd." in refusal.hint or "git lfs pull" in refusal.hint) or (
        told == "a JSON array"
    )
    said = list[str]()
    say_refused(refusal.report, said.append)
    assert said == []
    program = command.split(" ", maxsplit=1)[0]
    if program in RUNS and shutil.which(program):
        _do_as_told(refusal.hint.splitlines()[-1], data, tmp_path)


def _do_as_told(command: str, data: bytes, folder: Path) -> None:
    name = "odd.tar.gz" if data[:2] == b"\x1f\x8b" else "odd.jsonl"
    (folder / name).write_bytes(data)
    command = command.replace(" odd.jsonl ", f" {name} ")
    subprocess.run(["bash", "-c", command], cwd=folder, check=True)

    found = list(read(folder / "odd.requests.jsonl", Defaults(model="m")))

    assert found
    assert all(isinstance(each, Request) for each in found), found


def test_nothing_is_lost_where_a_form_is_rewritten(
    refused: Callable[..., Refused], tmp_path: Path
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("this machine has no jq")
    refusal = refused(lines({"custom_id": "a", "params": {**CLAUDE, "temperature": 0.5}}))

    (tmp_path / "odd.jsonl").write_bytes(
        lines({"custom_id": "a", "params": {**CLAUDE, "temperature": 0.5}})
    )
    subprocess.run(["bash", "-c", refusal.hint.splitlines()[-1]], cwd=tmp_path, check=True)

    assert json.loads((tmp_path / "odd.requests.jsonl").read_text()) == {
        "custom_id": "a",
        "body": {
            "model": "claude",
            "max_tokens": 5,
            "messages": [{"role": "system", "content": "be brief"}, *MESSAGES],
            "temperature": 0.5,
        },
    }


def test_a_packed_file_and_standard_input_have_commands_of_their_own(
    refused: Callable[..., Refused],
) -> None:
    data = lines({"instruction": "do"})

    assert "gzip -dc a/odd.jsonl.gz | jq -c" in refused(data, "a/odd.jsonl.gz").hint
    assert "zstd -dc 'my file.zst' | jq" in refused(data, "my file.zst").hint
    assert "… | jq -c" in refused(data, "-").hint


# ── Lines of their own ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "/chat/completions",
        "/v4/chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/v1/chat/completions/",
    ],
)
def test_any_address_of_chat_requests_will_do(url: str) -> None:
    (found,) = read(io.BytesIO(lines({**GOOD[0], "url": url})), Defaults())

    assert isinstance(found, Request)


@pytest.mark.parametrize("url", ["/v1/messages", "", None, 7, "/v1/chat/completions/x"])
def test_another_address_is_a_fault(url: object) -> None:
    (found,) = read(io.BytesIO(lines({**GOOD[0], "url": url})), Defaults())

    assert isinstance(found, Fault)


def test_a_file_is_json_lines_where_most_of_its_lines_are(tmp_path: Path) -> None:
    odd = b'[1, 2]\n{"a": 1},\nnotes\n\0\0\0\0\0\n'

    report = validate(Home(tmp_path), spec(tmp_path), io.BytesIO(odd + lines(*GOOD, *_more(3))))

    assert (report.requests, report.invalid, report.form) == (6, 4, None)


def _more(count: int) -> list[dict[str, Any]]:
    return [{**GOOD[0], "custom_id": f"more-{n}"} for n in range(count)]


def test_equal_faults_are_told_once_and_a_report_stays_short(tmp_path: Path) -> None:
    said = list[str]()
    broken = [
        b'{"custom_id":"x-%d","body":{"model":"m","messages":[],"k%d":%s}}\n'
        % (number, number, b"1" if number % 2 else b"NaN")
        for number in range(500)
    ]
    odd = [b'{"custom_id":"y","%s":1,"%s":1}\n' % (b"k" * n, b"k" * n) for n in range(1, 39)]

    report = validate(
        Home(tmp_path), spec(tmp_path), io.BytesIO(lines(*GOOD) + b"".join([*broken, *odd]))
    )
    say_refused(report, said.append)

    assert report.invalid == 538
    assert said[1].startswith("  250 lines (5, 7, 9, 11, 13, …): ")
    assert len(said) <= 35


def test_other_lines_may_go_alone_where_there_are_any(tmp_path: Path) -> None:
    data = lines(*({"custom_id": str(n), "params": CLAUDE} for n in range(9)), *GOOD)
    report = validate(Home(tmp_path), spec(tmp_path), io.BytesIO(data))

    with pytest.raises(Refused) as refusal:
        check_any_left(spec(tmp_path), report)

    assert "run only the other 3 requests: --skip-invalid" in refusal.value.hint
    check_any_left(spec(tmp_path, skip_invalid=True), report)
