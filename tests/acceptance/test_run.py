"""The installed command, in a scratch folder, against the simulated endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from scripts.simulator import Simulator
from tests.conftest import Workdir

MODEL = "minimax/minimax-m1"


def batch_lines(count: int) -> str:
    """An input in OpenAI's Batch form."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"r-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": MODEL,
                    "messages": [{"role": "user", "content": f"Отзыв {number}"}],
                    "max_tokens": 400,
                },
            },
            ensure_ascii=False,
        )
        + "\n"
        for number in range(count)
    )


def read_lines(path: Path) -> list[dict[str, object]]:
    """All lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_request_is_answered_once_in_input_order_and_the_cost_is_the_endpoints(
    simulator: Callable[..., Simulator], workdir: Workdir
) -> None:
    endpoint = simulator("--latency", "uniform:0.01:0.2")
    workdir.point_at(endpoint)
    source = workdir.write("reviews.jsonl", batch_lines(120))

    done = workdir.run("run", str(source), "-o", "out")

    assert done.returncode == 0, done.stderr
    output = read_lines(workdir.folder / "out" / "output.jsonl")
    assert [line["custom_id"] for line in output] == [f"r-{number}" for number in range(120)]
    assert (workdir.folder / "out" / "errors.jsonl").read_bytes() == b""
    cost = json.loads((workdir.folder / "out" / "cost.json").read_text())
    book = endpoint.book()
    assert len(book.billed()) == 120
    assert Decimal(cost["cost_rub"]) == book.total_billed()
    assert sum(Decimal(str(line["nightshift"]["cost_rub"])) for line in output) == (  # type: ignore[index]
        book.total_billed()
    )
