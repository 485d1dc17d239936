"""Those who read our output files: line readers, jq, the openai SDK."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from openai import BaseModel
from openai.types import Completion, CreateEmbeddingResponse, ErrorObject
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from jobs.names import ERRORS, OUTPUT

_JQ = shutil.which("jq")
_OTHERS: dict[Any, type[BaseModel]] = {
    "response": Response,
    "list": CreateEmbeddingResponse,
    "text_completion": Completion,
}
_DEEPEST = 256
"""What jq 1.6 reads."""


def check_outputs(folder: Path) -> None:
    """Every output file under a folder is read by all; what tests themselves wrote is not ours."""
    for path in folder.rglob("*.jsonl"):
        if path.name in (OUTPUT, ERRORS) and path.is_file() and path.read_bytes()[:1] == b"{":
            check_file(path)


def check_file(path: Path) -> None:
    """Raises `AssertionError` for a file that one of them would misread."""
    rows = read_lines(path.read_bytes())
    read_by_jq(path, len(rows))
    for row in rows:
        check_row(row, succeeded=path.name == OUTPUT)


def read_lines(data: bytes) -> list[dict[str, Any]]:
    """As Curator, inspect_ai, distilabel and instructor do: split at every break of Unicode."""
    lines = data.decode().splitlines()
    assert len(lines) == data.count(b"\n"), "a line breaks where none ends"
    return [json.loads(line, parse_constant=_refuse) for line in lines]


def read_by_jq(path: Path, count: int) -> None:
    """As jq does, which drops what follows half a surrogate pair; by jq itself if it is here."""
    rows = read_lines(path.read_bytes())
    json.dumps(rows, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    assert all(_depth(row) <= _DEEPEST for row in rows)
    if _JQ:
        found = subprocess.run([_JQ, "-c", ".id", path], capture_output=True, check=True)
        assert len(found.stdout.splitlines()) == count


def check_row(row: dict[str, Any], *, succeeded: bool) -> None:
    """Whoever decides by `status_code`, or by `error`, or by both, decides rightly."""
    # What came through the Batch API has OpenAI's form and nothing else.
    assert set(row) - {"nightshift"} == {"id", "custom_id", "response", "error"}
    line = row.get("nightshift", {}).get("line", "[0-9]+")
    assert re.fullmatch(rf"batch_req_[0-9a-z]{{26}}_{line}", row["id"])
    response, error = row["response"], row["error"]
    if succeeded:
        assert error is None
        assert response["status_code"] == 200
        _read_by_the_sdk(response["body"])
    else:
        assert response is None or response["status_code"] >= 400
        assert (response is None) != (error is None)
        refusal = (response["body"] if response else row)["error"]
        message = refusal.get("message") if isinstance(refusal, dict) else refusal
        assert message or ErrorObject.construct(**refusal).code
        assert "nightshift" not in row or row["nightshift"]["code"]


def _read_by_the_sdk(body: Any) -> None:
    if isinstance(body, str):
        return  # whole, though no reader's JSON: nested too deeply
    other = _OTHERS.get(body.get("object"))
    if other is not None:
        other.construct(**body).to_json()
        return
    answer = ChatCompletion.construct(**body)
    for choice in answer.choices:
        assert choice.message is None or choice.message.content or choice.finish_reason
    answer.to_json()


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for some in inner for each in some if isinstance(each, dict | list)]
    return deepest


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
