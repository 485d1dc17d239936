"""What `nightshift flower` logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from batch import embedded_redis
from batch.commands import flower
from jobs.logs import FORMAT


@pytest.fixture
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has no log yet."""
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv(FORMAT, "text")
    monkeypatch.setattr(flower, "keep_only_needed", lambda _name: None)
    monkeypatch.setattr(embedded_redis, "server", lambda url, *_: nullcontext(url))
    level = logging.root.level
    yield
    logging.root.setLevel(level)


@pytest.mark.usefixtures("_bare")
def test_its_log_can_be_json_with_what_tornado_tells_of_failed_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*_: object, **__: object) -> int:
        logging.getLogger("nightshift.flower").warning("1 wrong password")
        logging.getLogger("tornado.application").error("Uncaught\nexception")
        return 0

    monkeypatch.setattr("batch.flower.serve", serve)
    monkeypatch.setattr(logging.root, "handlers", [])

    flower.command.main(["--log-format", "json"], standalone_mode=False)

    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [each["text"] for each in told] == ["1 wrong password", "Uncaught\nexception"]
