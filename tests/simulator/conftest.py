"""One simulator for all tests here, brought back to its first state before each."""

from collections.abc import Callable, Iterator

import pytest

from scripts.simulator import Simulator
from scripts.simulator.client import Client

# Whatever a test may have changed.
FIRST_STATE: tuple[tuple[str, object], ...] = (
    ("faults", []),
    ("latency", {"latency": "none"}),
    ("balance", {"balance": None}),
    ("prices", {"factor": "1"}),
    ("keys", {"allow": None}),
    ("limits", dict.fromkeys(("rpm", "tpm", "max_in_flight", "in_flight_budget"))),
    ("limits", {"window": 60.0, "retry_after": True, "headers": False}),
)


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator("--keepalive", "0.05", "--answer-tokens", "40") as server:
        yield server


@pytest.fixture
def server(running: Simulator) -> Simulator:
    running.wait_idle()
    for name, state in FIRST_STATE:
        running.control(name, state)
    return running


@pytest.fixture
def client(server: Simulator) -> Client:
    return Client(server.port)


@pytest.fixture
def play(server: Simulator) -> Callable[..., None]:
    """Sets the rules in force: ``play("429:share=0.5", "cut")``."""

    def play(*rules: object) -> None:
        server.control("faults", list(rules))

    return play
