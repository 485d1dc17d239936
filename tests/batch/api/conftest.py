"""The Batch API over a home, without processes: what a program sees, and what workers would do."""

from __future__ import annotations

import io
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from batch.api.app import make_app
from batch.api.batch_status import Standing
from batch.api.context import Desk, Settings
from batch.api.job_creation import Intake, Setting
from batch.api.tenants import digest_of
from batch.coordinator import outputs
from batch.store import delivery_ledger
from batch.store.home import Home
from batch.store.jobstore import JobStore
from batch.store.registry import KeyRow
from batch.submission import pricing, submit
from jobs.prices import PriceList
from jobs.states import JobState
from tests.batch.making import MODEL, call, delivery, feed, prices, result, spec
from tests.batch.making import closing as closed

OTHER_MODEL = "deepseek/deepseek-chat"
CHAT = "/v1/chat/completions"


def line(number: int, **change: Any) -> dict[str, Any]:
    """A request as programs write it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Отзыв {number}"}]}
    whole = {"custom_id": f"r-{number}", "method": "POST", "url": CHAT, "body": body}
    return {**whole, **change}


def jsonl(*lines: dict[str, Any]) -> bytes:
    """Lines of a file."""
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines).encode()


class Office:
    """The API of a home; `key` is what every request is sent with."""

    def __init__(self, folder: Path, *, strict: bool = False, **settings: Any) -> None:
        self.home = Home(folder / "home")
        self.ended: list[Standing] = []
        common: dict[str, Any] = {"keyless": True, **settings}
        self.desk = Desk(self.home, Settings("http://127.0.0.1:1/v1", **common), tell=self._note)
        self.intake = Intake(
            Setting(
                home=str(self.home.folder),
                files=str(self.desk.files_folder),
                batches=str(self.desk.batches_folder),
                strict=strict,
                spec=spec(folder, max_tokens=100).model_dump(mode="json"),
            )
        )
        self.client = TestClient(
            make_app(self.desk), base_url="http://127.0.0.1", raise_server_exceptions=False
        )
        self.key = "any"

    def _note(self, standing: Standing) -> None:
        self.ended.append(standing)

    def add_key(self, name: str, **change: Any) -> str:
        """A key of this name, of which all later requests are."""
        key = f"sk-ns-{name}"
        facts = {"revoked_at": None, "priority": 10.0, "webhook": None, "webhook_secret": None}
        row = KeyRow(
            **{"name": name, "digest": digest_of(key), "created_at": 1.0, **facts, **change}
        )
        self.desk.registry.add_key(row)
        self.key = key
        return key

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """A request with the key, whose answer has the form that it must have."""
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        answer = self.client.request(method, path, headers=headers, **more)
        assert answer.headers["x-request-id"].startswith("req_")
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        return answer

    def upload(
        self, data: bytes, name: str = "in.jsonl", purpose: str = "batch", **fields: Any
    ) -> Any:
        """The file's object."""
        files = {"file": (name, io.BytesIO(data))}
        found = self.ask("POST", "/v1/files", files=files, data={"purpose": purpose, **fields})
        assert found.status_code == 200, found.text
        return found.json()

    def create(self, file: str, **change: Any) -> httpx2.Response:
        """A batch of a file."""
        headers = change.pop("headers", {})
        body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h", **change}
        return self.ask("POST", "/v1/batches", json=body, headers=headers)

    def batch(self, *lines: dict[str, Any], **change: Any) -> Any:
        """A batch of these lines, created and validated."""
        made = self.create(self.upload(jsonl(*lines))["id"], **change)
        assert made.status_code == 200, made.text
        self.intake.turn()
        return self.get(made.json()["id"])

    def get(self, batch_id: str) -> Any:
        """The batch as it is told now."""
        return self.ask("GET", f"/v1/batches/{batch_id}").json()

    def store(self, batch_id: str) -> JobStore:
        """Its job."""
        row = self.desk.registry.batch(batch_id)
        assert row is not None
        return self.home.open(row.job)

    def work(self, batch_id: str, *, failing: dict[int, str] | None = None, some: int = 0) -> None:
        """What workers do with `some` of its requests, or all; `failing`: codes by ordinal."""
        with closing(self.store(batch_id)) as store:
            job, failing = store.job(), failing or {}
            chunk = feed(store, some or job.requests)
            ordinals = [ordinal for ordinal, _, _ in chunk.requests]
            told = delivery(
                [call(each, chunk.chunk) for each in ordinals],
                [result(each, chunk.chunk, code=failing.get(each, "")) for each in ordinals],
                [closed(chunk.chunk)],
                job=job.id,
            )
            delivery_ledger.apply(store, [told], None)

    def end(self, batch_id: str, *states: JobState) -> None:
        """What the coordinator does at the end."""
        with closing(self.store(batch_id)) as store:
            *before, last = states or (JobState.FINALIZING, JobState.COMPLETED)
            for state in before:
                store.set_state(state)
            outputs.write(store)
            store.set_state(last, now=time.time())

    def content(self, file_id: str) -> bytes:
        """What a file holds."""
        return bytes(self.ask("GET", f"/v1/files/{file_id}/content").content)

    def lines(self, file_id: str) -> list[Any]:
        """Its lines."""
        return [json.loads(each) for each in self.content(file_id).splitlines()]


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    listed = prices("0.001", MODEL, OTHER_MODEL)

    def read(_url: str, models: list[str], **_: Any) -> PriceList:
        known = {name: price for name, price in listed.models.items() if name in models}
        return PriceList(1.0, "catalogue", "0" * 64, known, listed=tuple(listed.models))

    monkeypatch.setattr(pricing, "read_prices", read)
    monkeypatch.setattr(submit, "read_balance", lambda _url: None)
    # Nothing is remembered: tests look faster than programs do.
    monkeypatch.setattr("batch.api.batch_status._FRESH_S", 0.0)
    return Office(tmp_path)
