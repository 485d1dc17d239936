"""What `doctor` asks an endpoint, and tells of the key."""

from __future__ import annotations

import asyncio
import json

import pytest

from jobs.secret import KEY_SOURCES
from workers import key_check


def test_who_answers_nothing_is_asked_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_check, "_PATIENCE_S", 0.2)
    asked: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await reader.read()
        writer.close()

    async def look() -> dict[str, dict[str, object]]:
        async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await key_check.look(f"http://127.0.0.1:{port}/v1", "sk-mine-12345678", {})

    found = asyncio.run(look())

    assert sorted(each.split()[1] for each in asked) == [
        b"/v1/chat/completions",
        b"/v1/credits",
        b"/v1/models",
    ]
    assert not found["endpoint"]["ok"]
    assert found["key"]["text"] == "not checked"


def test_without_a_key_the_way_out_is_to_set_one(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for name in KEY_SOURCES:
        monkeypatch.delenv(name, raising=False)

    key_check.main()

    key = json.loads(capsysbinary.readouterr().out)["key"]
    assert (key["ok"], key["text"]) == (False, "no API key is set")
    assert key["cure"].startswith("set ROUTERAI_API_KEY")
