"""Workers, coordinator and server on hosts of their own, whose links are cut: P13 and R13 for real.

The long form, with minutes instead of seconds: `scripts/torture hosts`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.torturing.hosts import ENDPOINT, Hosts, Outcome, cut_off, what_is_missing
from scripts.torturing.installation import SOON_LOST
from workers.worker_service import Service
from workers.worker_settings import WorkerSettings

ROWS = 80


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    missing = what_is_missing()
    if missing:
        warnings.warn(f"SKIPPED, NOT RUN: {missing}", stacklevel=1)
        pytest.skip(f"SKIPPED, NOT RUN: {missing}")
    with Hosts(
        tmp_path_factory.mktemp("hosts"), workers=2, endpoint=ENDPOINT, constants=SOON_LOST
    ) as one:
        yield one


def lived_through(outcome: Outcome) -> None:
    print(outcome.line)
    found = outcome.found
    assert found.broken == []
    assert (found.rows, found.completed, found.failed) == (ROWS, ROWS, 0)
    assert found.uncertain == 0
    assert outcome.recovered_s < 30


def test_p13_a_worker_cut_off_for_longer_than_its_lease_has_its_late_answers_kept(
    hosts: Hosts,
) -> None:
    outcome = cut_off(hosts, [], "worker", ROWS, away_s=18)

    lived_through(outcome)
    assert outcome.found.bought_twice <= outcome.allowed
    assert outcome.allowed > 0
    assert outcome.reckless == 0


def test_r13_lost_packets_between_all_and_the_server_cost_no_call(hosts: Hosts) -> None:
    """The coordinator alone: `scripts/torture hosts`."""
    outcome = cut_off(hosts, hosts.all_hosts(), "all", ROWS, away_s=6)

    lived_through(outcome)
    assert outcome.found.bought_twice == 0


def test_workers_of_two_containers_that_share_a_host_name_are_told_apart(tmp_path: Path) -> None:
    """On the host's network both have its name, and each is process 1 of its own container."""
    settings = WorkerSettings(
        "https://example.com/v1", tmp_path, 1, "redis://localhost", "key", b"x" * 32
    )

    assert Service(settings).name != Service(settings).name
