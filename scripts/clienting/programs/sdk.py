"""openai-python, any major version: files, batch, content, paging, errors, cancel, every kind."""

import io
import json
import time
from typing import Any

import openai
from openai.types.responses import Response

MODEL = "minimax/minimax-m1"
ENDED = ("completed", "failed", "expired", "cancelled")


def lines(count: int) -> bytes:
    """A file of requests."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Отзыв?"}], "max_tokens": 20}
    each = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    texts = [json.dumps({"custom_id": f"r-{n}", **each}, ensure_ascii=False) for n in range(count)]
    return "\n".join(texts).encode() + b"\n"


def ended(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    """The batch when it is over."""
    while (batch := client.batches.retrieve(batch_id)).status not in ENDED:
        time.sleep(0.3)
    return batch


def create(
    client: openai.OpenAI, data: bytes, endpoint: Any = "/v1/chat/completions"
) -> openai.types.Batch:
    """A batch of these lines."""
    file = client.files.create(file=io.BytesIO(data), purpose="batch")
    client.files.wait_for_processing(file.id)
    assert client.files.content(file.id).read() == data
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")


def check_kinds(client: openai.OpenAI) -> None:
    """Requests of other kinds, whose answers the SDK's own classes read."""
    asked: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": "Отзыв?", "max_output_tokens": 900},
        "/v1/embeddings": {"input": ["Отзыв?", "Ещё?"]},
        "/v1/completions": {"prompt": ["Отзыв?", "Ещё?"], "max_tokens": 9},
    }
    bodies = {}
    for url, body in asked.items():
        line = {"custom_id": "r", "method": "POST", "url": url, "body": {"model": MODEL, **body}}
        done = ended(client, create(client, json.dumps(line).encode() + b"\n", url).id)
        text = client.files.content(done.output_file_id or "").text
        bodies[url] = json.loads(text)["response"]["body"]
    assert Response.model_validate(bodies["/v1/responses"]).output_text
    vectors = openai.types.CreateEmbeddingResponse.model_validate(bodies["/v1/embeddings"])
    assert len(vectors.data) == 2
    texts = openai.types.Completion.model_validate(bodies["/v1/completions"])
    assert len(texts.choices) == 2


def main() -> None:
    """Raises where anything is not as it must be."""
    client = openai.OpenAI()
    done = ended(client, create(client, lines(20)).id)
    assert done.status == "completed", done
    found = client.files.content(done.output_file_id or "").text.splitlines()
    assert [json.loads(each)["custom_id"] for each in found] == [f"r-{n}" for n in range(20)]
    check_kinds(client)
    bad = ended(client, create(client, lines(1) + b"{half\n").id)
    assert bad.errors
    assert bad.errors.data
    assert bad.errors.data[0].code == "invalid_json_line"
    assert bad.id == next(iter(client.batches.list(limit=1))).id
    assert done.id in {each.id for each in client.batches.list(limit=1)}
    assert len({each.id for each in client.files.list()}) >= 3
    for error, call in (
        (openai.NotFoundError, lambda: client.batches.retrieve("batch_none")),
        (openai.ConflictError, lambda: client.batches.cancel(done.id)),
        (openai.BadRequestError, lambda: client.files.create(file=b"x", purpose="batch")),
    ):
        try:
            call()
        except error:
            continue
        raise AssertionError(error)
    left = create(client, lines(2000))
    assert client.batches.cancel(left.id).status in ("cancelling", "cancelled")
    assert ended(client, left.id).status == "cancelled"
    assert client.files.delete(done.input_file_id).deleted


main()
