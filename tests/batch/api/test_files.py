"""Files of the Batch API, as clients really send them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from batch.api.upload import Upload
from tests.batch.api.conftest import Office, jsonl, line

LINES = jsonl(line(1), line(2))


def form(*parts: tuple[str, bytes], boundary: str = "b0und") -> dict[str, Any]:
    """A multipart body of these parts: the header of each, and its content."""
    begin = f"--{boundary}\r\n".encode()
    body = b"".join(begin + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return {
        "content": body + f"--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


FILE = (
    'Content-Disposition: form-data; name="file"; filename="{}"\r\nContent-Type: application/json'
)
PURPOSE = 'Content-Disposition: form-data; name="purpose"'


def test_a_file_is_given_back_byte_for_byte(office: Office) -> None:
    data = LINES + b'{"\xd0\xb0": "\\u2028"}\r\n\r\n' * 3

    told = office.upload(data, "отзывы.jsonl")

    assert told == {
        "id": told["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": pytest.approx(time.time(), abs=5),
        "expires_at": None,
        "filename": "отзывы.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    assert office.ask("GET", f"/v1/files/{told['id']}").json() == told
    assert office.content(told["id"]) == data
    part = office.ask("GET", f"/v1/files/{told['id']}/content", headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, data[2:10])


@pytest.mark.parametrize(
    "name",
    ["upload", "%D0%BE%D1%82.jsonl", "../../etc/passwd", "C:\\in.jsonl", "", "a\x1bb.jsonl"],
)
def test_the_name_of_a_file_may_be_anything_and_is_never_a_path(office: Office, name: str) -> None:
    sent = form((FILE.format(name.replace("\\", "\\\\")), LINES), (PURPOSE, b"batch"))

    told = office.ask("POST", "/v1/files", **sent)

    assert told.status_code == 200, told.text
    assert "/" not in told.json()["filename"]
    assert told.json()["filename"].isprintable()
    assert [each.name for each in office.desk.files_folder.iterdir()] == [told.json()["id"]]


def test_the_purpose_may_come_after_the_file_and_the_body_in_chunks(office: Office) -> None:
    sent = form((FILE.format("in.jsonl"), LINES), (PURPOSE, b"batch"))
    body = sent.pop("content")

    def drip() -> Any:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    told = office.ask("POST", "/v1/files", content=drip(), **sent).json()

    assert (told["bytes"], told["purpose"]) == (len(LINES), "batch")
    assert office.content(told["id"]) == LINES


@pytest.mark.parametrize(
    ("parts", "param", "code"),
    [
        ([(FILE.format("a.jsonl"), LINES)], "purpose", "missing_required_parameter"),
        ([(PURPOSE, b"batch")], "file", "missing_required_parameter"),
        ([(FILE.format("a"), LINES), (PURPOSE, b"bath")], "purpose", "invalid_value"),
        ([(FILE.format("a"), b"not json\n"), (PURPOSE, b"batch")], None, None),
        ([(FILE.format("a"), b"[1]\n"), (PURPOSE, b"batch")], None, None),
        ([(FILE.format("a"), b"\n \n"), (PURPOSE, b"batch")], None, None),
        ([(FILE.format("a"), b""), (PURPOSE, b"batch")], None, None),
        ([(FILE.format("a"), LINES), (FILE.format("b"), LINES)], "file", None),
        ([(PURPOSE, b"x" * 5000)], "purpose", None),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_and_leaves_nothing(
    office: Office, parts: list[tuple[str, bytes]], param: str | None, code: str | None
) -> None:
    told = office.ask("POST", "/v1/files", **form(*parts))

    assert told.status_code == 400
    assert (told.json()["error"]["param"], told.json()["error"]["code"]) == (param, code)
    assert list(office.desk.files_folder.iterdir()) == []


def test_what_is_no_form_or_ends_too_early_is_refused(office: Office) -> None:
    whole = form((FILE.format("a"), LINES), (PURPOSE, b"batch"))
    cut = {**whole, "content": whole["content"][:-20]}

    bad: list[dict[str, Any]] = [
        cut,
        {"json": {}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ]
    for sent in bad:
        assert office.ask("POST", "/v1/files", **sent).status_code == 400
    assert list(office.desk.files_folder.iterdir()) == []


def test_a_file_beyond_the_limit_is_refused_told_or_not(tmp_path: Path) -> None:
    small = Office(tmp_path / "small", limit=100)
    sent = form((FILE.format("a"), LINES), (PURPOSE, b"batch"))
    body = sent.pop("content")

    for content in (body, iter([body]), body + b" " * 100_000):
        told = small.ask("POST", "/v1/files", content=content, **sent)
        assert told.status_code == 400
        assert told.json()["error"]["message"].startswith("File is too large.")
    assert list(small.desk.files_folder.iterdir()) == []


def test_other_purposes_take_other_files(office: Office) -> None:
    assert office.upload(b"%PDF", "a.pdf", purpose="user_data")["purpose"] == "user_data"


def test_lists_go_on_until_their_end_in_both_directions(office: Office) -> None:
    ids = [office.upload(LINES)["id"] for _ in range(5)]
    other = office.upload(b"x", purpose="evals")["id"]

    def walk(**query: Any) -> list[str]:
        found: list[str] = []
        more, after = True, dict[str, Any]()
        while more:
            told = office.ask("GET", "/v1/files", params={"limit": 2, **query, **after}).json()
            page = [each["id"] for each in told["data"]]
            assert (told["first_id"], told["last_id"]) == (page[0], page[-1])
            found += page
            more, after = told["has_more"], {"after": told["last_id"]}
        return found

    assert walk() == [other, *reversed(ids)]
    assert walk(order="asc") == [*ids, other]
    assert walk(purpose="batch") == ids[::-1]
    assert office.ask("GET", "/v1/files").json()["has_more"] is False
    empty = office.ask("GET", "/v1/files", params={"purpose": "vision"}).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ({"limit": 0}, "limit", "integer_below_min_value"),
        ({"limit": 10_001}, "limit", "integer_above_max_value"),
        ({"limit": "x"}, "limit", "invalid_type"),
        ({"order": "up"}, "order", "invalid_value"),
        ({"after": "file-none"}, "after", None),
    ],
)
def test_a_list_asked_for_wrongly_is_refused(
    office: Office, query: dict[str, Any], param: str, code: str | None
) -> None:
    told = office.ask("GET", "/v1/files", params=query)

    assert told.status_code == 400
    assert (told.json()["error"]["param"], told.json()["error"]["code"]) == (param, code)


def test_who_deletes_what_is_listed_comes_to_the_end(office: Office) -> None:
    ids = [office.upload(LINES)["id"] for _ in range(5)]

    found, more, after = list[str](), True, dict[str, str]()
    while more:
        told = office.ask("GET", "/v1/files", params={"limit": "2", **after}).json()
        found += [each["id"] for each in told["data"]]
        more, after = told["has_more"], {"after": told["last_id"]}
        for each in told["data"]:
            office.ask("DELETE", f"/v1/files/{each['id']}")

    assert found == ids[::-1]
    assert office.ask("GET", "/v1/batches", params={"after": ids[0]}).status_code == 400
    office.add_key("other")
    assert office.ask("GET", "/v1/files", params={"after": ids[0]}).status_code == 400


def test_a_deleted_file_is_gone(office: Office) -> None:
    file = office.upload(LINES)["id"]

    told = office.ask("DELETE", f"/v1/files/{file}").json()

    assert told == {"id": file, "object": "file", "deleted": True}
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        gone = office.ask(method, f"/v1/files/{file}{path}")
        assert gone.status_code == 404
        assert gone.json()["error"] == {
            "message": f"No such File object: {file}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }
    assert list(office.desk.files_folder.iterdir()) == []


def test_a_file_goes_when_its_time_is_over(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    expiry: dict[str, Any] = {"expires_after[anchor]": "created_at", "expires_after[seconds]": 3600}
    told = office.upload(LINES, **expiry)
    assert told["expires_at"] == told["created_at"] + 3600

    later = time.time() + 3601
    monkeypatch.setattr("batch.api.files.time.time", lambda: later)

    assert office.ask("GET", "/v1/files").json()["data"] == []
    assert office.ask("GET", f"/v1/files/{told['id']}").status_code == 404
    assert list(office.desk.files_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("anchor", "seconds"),
    [("created_at", 60), ("created_at", "x"), ("last_active_at", 3600), (None, 3600)],
)
def test_an_expiry_that_makes_no_sense_is_refused(
    office: Office, anchor: str | None, seconds: object
) -> None:
    fields = [(f'{PURPOSE[:-8]}expires_after[seconds]"', str(seconds).encode())]
    if anchor:
        fields.append((f'{PURPOSE[:-8]}expires_after[anchor]"', anchor.encode()))
    told = office.ask(
        "POST", "/v1/files", **form((PURPOSE, b"batch"), *fields, (FILE.format("a"), LINES))
    )

    assert told.status_code == 400
    assert told.json()["error"]["param"].startswith("expires_after.")


def test_uploads_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    first = Office(tmp_path)
    (first.desk.files_folder / ".upload-0123").write_bytes(b"half")

    assert list(Office(tmp_path).desk.files_folder.iterdir()) == []


def test_a_second_server_leaves_what_the_first_receives(tmp_path: Path) -> None:
    first = Office(tmp_path)

    with Upload(first.desk.files_folder, 100):
        there = list(first.desk.files_folder.iterdir())
        assert list(Office(tmp_path).desk.files_folder.iterdir()) == there != []
