"""When an endpoint is taken for down, and what ends that."""

from __future__ import annotations

from workers.pacing.circuit_breaker import CROWD, TROUBLE, CircuitBreaker, HealthSignal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(lambda low, _high: low, clock), clock


def test_faults_in_a_row_are_an_outage_and_an_answer_between_is_none() -> None:
    outage, _ = make()
    for _ in range(TROUBLE - 1):
        outage.note(HealthSignal.FAULTY, 99.0)
    outage.note(HealthSignal.ALIVE, 99.0)
    outage.note(HealthSignal.FAULTY, 99.0)
    assert not outage.is_on

    for _ in range(TROUBLE - 1):
        outage.note(HealthSignal.FAULTY, 99.0)

    assert outage.is_on


def test_e44_answers_to_calls_that_left_before_do_not_hide_an_outage() -> None:
    """Every fifth call that ends left before the endpoint went, and is answered."""
    outage, clock = make()
    faults = 0
    while not outage.is_on:
        clock.now += 0.01
        if faults % 5 == 4:
            outage.note(HealthSignal.ALIVE, 99.0)
        outage.note(HealthSignal.FAULTY, clock.now)
        faults += 1
    assert faults <= 3 * CROWD

    assert outage.note(HealthSignal.ALIVE, 99.0) is HealthSignal.NONE
    assert outage.is_on
    assert outage.note(HealthSignal.ALIVE, clock.now) is HealthSignal.ALIVE
    assert not outage.is_on


def test_an_endpoint_that_fails_every_third_call_is_not_down() -> None:
    outage, clock = make()

    for _ in range(1000):
        clock.now += 0.01
        outage.note(HealthSignal.FAULTY, clock.now)
        outage.note(HealthSignal.ALIVE, clock.now - 2.0)
        outage.note(HealthSignal.ALIVE, clock.now - 2.0)

        assert not outage.is_on


def test_e44_what_others_tell_is_not_ended_by_an_answer_from_before() -> None:
    outage, clock = make()
    outage.heard(0.1)

    assert outage.note(HealthSignal.ALIVE, clock.now - 1) is HealthSignal.NONE
    assert outage.is_on
    outage.heard(0.0)
    assert not outage.is_on
