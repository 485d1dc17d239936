"""Workers, coordinator and server on hosts of their own, whose links are cut: P13 and R13 for real.

The long form, with minutes instead of seconds: `scripts/torture hosts`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from scripts.torturing.hosts import ENDPOINT, Hosts, Outcome, cut_off, what_is_missing

ROWS = 150


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    missing = what_is_missing()
    if missing:
        warnings.warn(f"SKIPPED, NOT RUN: {missing}", stacklevel=1)
        pytest.skip(f"SKIPPED, NOT RUN: {missing}")
    with Hosts(tmp_path_factory.mktemp("hosts"), workers=2, endpoint=ENDPOINT) as one:
        yield one


def lived_through(outcome: Outcome) -> None:
    found = outcome.found
    assert found.broken == []
    assert (found.rows, found.completed, found.failed) == (ROWS, ROWS, 0)
    assert found.uncertain == 0


def test_p13_a_worker_cut_off_for_longer_than_its_lease_has_its_late_answers_kept(
    hosts: Hosts,
) -> None:
    outcome = cut_off(hosts, ["worker-0"], "worker", ROWS, away_s=24)

    lived_through(outcome)
    assert outcome.found.bought_twice <= outcome.allowed


def test_r13_a_coordinator_cut_off_costs_no_call(hosts: Hosts) -> None:
    outcome = cut_off(hosts, ["coordinator"], "coordinator", ROWS, away_s=12)

    lived_through(outcome)
    assert outcome.found.bought_twice == 0
    assert outcome.took_s < 30


def test_r13_a_server_cut_off_from_all_costs_no_call(hosts: Hosts) -> None:
    outcome = cut_off(hosts, hosts.all_hosts(), "server", ROWS, away_s=12)

    lived_through(outcome)
    assert outcome.found.bought_twice == 0
    assert outcome.took_s < 30
