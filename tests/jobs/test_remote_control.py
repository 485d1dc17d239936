"""Orders to workers: signed, for them, and heeded once."""

from __future__ import annotations

import time

import pytest

from jobs.errors import BadMessage
from jobs.remote_control import FRESH_S, Listener, signed
from jobs.signing import Seal

SEAL = Seal(b"a secret of the home")


def test_an_order_is_heeded_once_by_whom_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Listener(SEAL, "one"), Listener(SEAL, "two")
    for_all, for_one = (
        signed(SEAL, "revoke", {"task_id": "x"}, None),
        signed(SEAL, "x", {}, ["one"]),
    )

    assert one.arguments("revoke", for_all) == two.arguments("revoke", for_all) == {"task_id": "x"}
    assert one.arguments("x", {**for_one, "n": 7}) == {}
    late = signed(SEAL, "x", {}, None)
    for ear, command, told in (
        *((one, "revoke", for_all), (two, "x", for_one), (two, "shutdown", late)),
        *((one, "x", {}), (one, "x", {"signed": 1}), (one, "x", {"signed": "zz"})),
    ):
        with pytest.raises(BadMessage):
            ear.arguments(command, told)

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + FRESH_S + 1)
    with pytest.raises(BadMessage):
        one.arguments("x", late)
