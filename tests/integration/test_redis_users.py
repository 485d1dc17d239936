"""With the users of the compose file everything works, and nobody may do more than he needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from jobs import names
from scripts.torturing.installation import Installation
from tests.integration.test_flower_jobs import Flowers
from tests.test_deployment import valkey_users


class Guarded(Installation):
    """Each process comes in as the user that the compose file makes for it."""

    def __init__(self, folder: Path) -> None:
        acl = folder / "users.acl"
        acl.write_text(
            "".join(
                f"user {name} {rules.replace('$', '')}\n" for name, rules in valkey_users().items()
            )
        )
        super().__init__(folder, workers=1, server=("--aclfile", str(acl)))

    def redis_url(self, name: str) -> str:
        """As the user of that process; commands come in as the coordinator."""
        user = "coordinator" if name == "command" else name.partition("-")[0]
        return f"redis://{user}:{user.upper()}_PASSWORD@127.0.0.1:{self.way_to_redis}/0"


@pytest.fixture
def flowers(tmp_path: Path) -> Iterator[Flowers]:
    some = Flowers(tmp_path)
    yield some
    some.end()


def test_with_the_users_of_the_compose_file_all_works_and_no_more(
    tmp_path: Path, flowers: Flowers
) -> None:
    with Guarded(tmp_path) as house:
        site = flowers.start(house.redis_url("flower"))
        job = house.submit("small", 12)
        house.wait("small")

        deadline = time.monotonic() + 30
        while site.json("/api/jobs")["jobs"][0]["state"] != "completed":
            assert time.monotonic() < deadline, "Flower is told nothing"
            time.sleep(0.2)
        status, answer = site.click(job, "resume")
        assert (status, answer["code"]) == (409, "nothing_left")
        assert site.ask("/workers")[0] == 200

        for user, forbidden in {
            "worker": (("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "others"), ("KEYS", "*")),
            "flower": (
                ("GET", names.payload_key(job, 1)),
                ("SET", names.progress_key(job), "x"),
                ("DEL", names.results_key(job)),
            ),
        }.items():
            with Redis.from_url(house.redis_url(user)) as redis:
                for command in forbidden:
                    with pytest.raises(NoPermissionError):
                        redis.execute_command(*command)
