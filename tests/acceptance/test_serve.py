"""`nightshift serve` as programs meet it: the openai SDK over a real socket, real workers."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch, Completion, CreateEmbeddingResponse
from openai.types.responses import Response
from pydantic import TypeAdapter

from scripts.simulator import Simulator
from scripts.torturing.installation import free_port
from tests.conftest import ROOT, Workdir

MODEL = "minimax/minimax-m1"
BLOCK = re.compile("```python\\n(.*?)```", re.DOTALL)
ENDED = {"completed", "failed", "expired", "cancelled"}
WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4


class Served(Workdir):
    """A server on a port of its own, and the SDK that knows its address."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        super().__init__(folder)
        self.simulator, self.port = simulator, free_port()
        self.point_at(simulator)
        self.environ["NIGHTSHIFT_WEBHOOK_SECRET"] = WEBHOOK_SECRET

    def serve(self, *options: str) -> subprocess.Popen[str]:
        """Starts it, and waits until it answers."""
        process = self.process = self.start("serve", "--port", str(self.port), *options)
        wait_until(lambda: process.poll() is not None or self._answers(), "it answers")
        assert process.poll() is None, list(self.folder.glob("serve-*.log"))[-1].read_text()
        return process

    def _answers(self) -> bool:
        try:
            self.client(max_retries=0).batches.list(limit=1)
        except openai.APIConnectionError:
            return False
        except openai.AuthenticationError:
            return True
        return True

    def client(self, key: str = "any", **settings: Any) -> OpenAI:
        """The SDK as people use it: nothing is said but the address and the key."""
        return OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, **settings)

    def end(self) -> None:
        """Lets servers end in order, so that what they started ends before the test does."""
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.wait(30)


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    """Returns as soon as it holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.1)


def lines(count: int, words: str = "Хороший ли это отзыв?") -> bytes:
    """A file of requests."""
    messages = [[{"role": "user", "content": f"{words} {number}"}] for number in range(count)]
    return b"".join(
        json.dumps(
            {
                "custom_id": f"r-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": MODEL, "messages": messages[number], "max_tokens": 20},
            },
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for number in range(count)
    )


def line_of(endpoint: str, body: dict[str, Any]) -> bytes:
    """A file of one request of another kind."""
    whole = {"custom_id": "r", "method": "POST", "url": endpoint, "body": {"model": MODEL, **body}}
    return json.dumps(whole, ensure_ascii=False).encode() + b"\n"


def create(
    client: OpenAI, data: bytes, endpoint: Any = "/v1/chat/completions", **more: Any
) -> Batch:
    """A batch of these lines."""
    file = client.files.create(file=io.BytesIO(data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )


def ended(client: OpenAI, batch_id: str, patience_s: float = 60) -> Batch:
    """The batch when it is over."""
    wait_until(lambda: client.batches.retrieve(batch_id).status in ENDED, "it ends", patience_s)
    return client.batches.retrieve(batch_id)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with Simulator("--latency", "uniform:0.05:0.3", book=folder / "book.jsonl") as simulator:
        one = Served(folder, simulator)
        one.serve()
        yield one
        one.end()


def test_openais_own_example_runs_with_another_base_url(served: Served, tmp_path: Path) -> None:
    (tmp_path / "batchinput.jsonl").write_bytes(lines(30))
    client = served.client()

    with (tmp_path / "batchinput.jsonl").open("rb") as content:
        batch_input_file = client.files.create(file=content, purpose="batch")
    client.files.wait_for_processing(batch_input_file.id)
    batch = client.batches.create(
        input_file_id=batch_input_file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"description": "nightly eval job"},
    )
    batch = ended(client, batch.id)
    text = client.files.content(batch.output_file_id or "").text

    assert (batch.status, batch.error_file_id) == ("completed", None)
    found = [json.loads(line) for line in text.splitlines()]
    assert [each["custom_id"] for each in found] == [f"r-{number}" for number in range(30)]
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in found)
    assert batch.usage is not None
    assert batch.usage.output_tokens > 0
    status = json.loads(served.run("status", batch.nightshift["job"], "--json").stdout)  # type: ignore[attr-defined]
    assert (status["state"], status["completed"]) == ("completed", 30)


def test_the_pages_example_runs_as_it_is_printed(served: Served, tmp_path: Path) -> None:
    # Nothing is cut off: what an answer without a cost did cost is asked for seconds later.
    (tmp_path / "batchinput.jsonl").write_bytes(lines(3).replace(b": 20}", b": 2000}"))
    programs = []
    for page in ("README.md", "docs/api.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        block = next(each for each in BLOCK.findall(text) if "batches.create" in each)
        program = block.replace("http://127.0.0.1:5556", f"http://127.0.0.1:{served.port}")
        command = [sys.executable, "-W", "ignore", "-c", program]
        environ = {**served.environ, "OPENAI_API_KEY": "any"}
        programs.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environ, text=True, stdout=-1, stderr=subprocess.STDOUT
            )
        )
    for each in programs:
        told = each.communicate(timeout=60)[0]
        assert told.count('"custom_id"') == 3, told


def test_requests_of_every_kind_run_and_the_sdk_reads_their_answers(served: Served) -> None:
    client = served.client()
    asked: dict[Any, tuple[dict[str, Any], Any]] = {
        "/v1/responses": ({"input": "Хорош?", "max_output_tokens": 900}, Response),
        "/v1/embeddings": ({"input": ["Хорош?", "Плох?"]}, CreateEmbeddingResponse),
        "/v1/completions": ({"prompt": ["Хорош?", "Плох?"], "n": 2, "max_tokens": 9}, Completion),
    }
    batches = [
        create(client, line_of(endpoint, body), endpoint, metadata={"nightshift_budget_rub": "9"})
        for endpoint, (body, _) in asked.items()
    ]
    done = [ended(client, batch.id) for batch in batches]
    texts = [client.files.content(batch.output_file_id or "").text for batch in done]
    bodies = [json.loads(text)["response"]["body"] for text in texts]
    read = [
        TypeAdapter(form).validate_python(body)
        for body, (_, form) in zip(bodies, asked.values(), strict=True)
    ]

    assert [(each.status, each.endpoint) for each in done] == [("completed", url) for url in asked]
    assert read[0].output_text
    assert [len(each.embedding) for each in read[1].data] == [8, 8]
    assert [bool(each.text) for each in read[2].choices] == [True] * 4
    spent = {batch.nightshift["cost_rub"] for batch in done}  # type: ignore[attr-defined]
    assert spent <= {format(entry.billed, "f") for entry in served.simulator.book()}
    wrong = ended(client, create(client, lines(1), "/v1/embeddings").id)
    assert wrong.errors is not None
    assert wrong.errors.data is not None
    assert [(each.code, each.line) for each in wrong.errors.data] == [("invalid_url", 1)]


def test_the_sdk_pages_and_meets_the_errors_that_it_knows(served: Served) -> None:
    client, tries = served.client(), Counter[int]()
    client._client.event_hooks["response"].append(lambda told: tries.update([told.status_code]))
    files = [client.files.create(file=("a.jsonl", lines(1)), purpose="batch") for _ in range(3)]
    bad = [create(client, lines(1) + b"{half\n").id for _ in range(3)]

    assert [each.id for each in client.files.list(limit=1, order="asc")][-3:] != []
    assert {each.id for each in files} <= {each.id for each in client.files.list(limit=2)}
    assert [each.id for each in client.batches.list(limit=1)][:3] == bad[::-1]
    failed = ended(client, bad[0])
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(each.code, each.line) for each in failed.errors.data] == [("invalid_json_line", 2)]
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=io.BytesIO(b"x"), purpose="batch")
    assert "Must be .jsonl" in refused.value.message
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(failed.id)
    assert tries[409] == 1, "it was not tried again"
    assert {each.id for each in client.models.list()} >= {MODEL}


def test_a_cancelled_batch_keeps_what_was_answered_and_its_end_is_told(served: Served) -> None:
    heard: list[tuple[bytes, dict[str, str]]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((body, dict(self.headers)))
            self.send_response(204 if len(heard) > 1 else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        client, url = served.client(), f"http://127.0.0.1:{hook.server_port}/"
        batch = create(client, lines(3000), metadata={"nightshift_webhook": url})

        def answered() -> int:
            counts = client.batches.retrieve(batch.id).request_counts
            return counts.completed if counts else 0

        wait_until(lambda: answered() > 0, "some are answered")
        told = client.batches.cancel(batch.id)
        done = ended(client, batch.id)
        wait_until(lambda: len(heard) > 1, "it is told, again after the first was refused")
        hook.shutdown()

    assert told.status == "cancelling"
    assert told.cancelling_at is not None
    assert done.status == "cancelled"
    assert done.request_counts is not None
    output = client.files.content(done.output_file_id or "").text.splitlines()
    errors = client.files.content(done.error_file_id or "").text.splitlines()
    assert 0 < len(output) == done.request_counts.completed < 3000
    assert len(output) + len(errors) == 3000
    assert {json.loads(each)["error"]["code"] for each in errors} == {"batch_cancelled"}
    events = [
        client.webhooks.unwrap(body, headers, secret=WEBHOOK_SECRET) for body, headers in heard
    ]
    assert {event.type for event in events} == {"batch.cancelled"}
    assert {event.data.id for event in events} == {batch.id}  # type: ignore[union-attr]
    assert len({event.id for event in events}) == 1


def test_a_killed_server_loses_nothing_and_buys_nothing_twice(served: Served) -> None:
    """The last one with this server, which is killed and started again."""
    before = len(served.simulator.book().billed())
    client = served.client(max_retries=9)
    batch = create(client, lines(300, "Плохой ли это отзыв?"))

    def billed() -> int:
        return len(served.simulator.book().billed()) - before

    wait_until(lambda: billed() > 50, "some are bought")
    served.process.kill()
    served.process.wait()
    served.serve()
    done = ended(client, batch.id, 90)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.completed == 300
    assert billed() == 300


def test_other_machines_are_served_nobody_without_a_key(workdir: Workdir) -> None:
    told = workdir.run("serve", "--address", "0.0.0.0")

    assert told.returncode == 2
    assert "nightshift keys add NAME" in told.stderr


def test_a_run_loads_neither_the_server_nor_templates_before_its_worker_starts() -> None:
    code = "import sys, batch.main, batch.commands.run; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"starlette", "uvicorn", "python_multipart", "jinja2"} & {*told.stdout.split()}
