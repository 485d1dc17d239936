"""Every key that stays in Redis has an end of its life: each server of each test is looked at."""

from __future__ import annotations

from redis import Redis

from scripts.torturing.key_expiry import endless_keys
from tests.conftest import Server


def test_a_key_without_an_end_is_noticed(server: Server) -> None:
    with Redis(port=server.port) as redis:
        redis.set("ns:for-ever", "x")
        redis.set("ns:for-a-while", "x", ex=60)
        redis.set("of-somebody-else", "x")
        found = endless_keys(server.port)
        redis.flushall()

    assert found == ["ns:for-ever"]


def test_a_server_that_does_not_answer_has_none(server: Server) -> None:
    server.kill()

    assert endless_keys(server.port) == []
