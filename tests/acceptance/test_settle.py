"""What a lost host keeps reserved is given up by hand, and it is said what that risks."""

from __future__ import annotations

import json
from decimal import Decimal

from batch.store import delivery_ledger
from jobs.budget import Amount
from jobs.job_options import Budget
from jobs.message import Message
from jobs.states import JobState
from tests.acceptance.conftest import Shell
from tests.batch.making import answered, call, delivery, feed, publish, result


def test_settle_gives_up_what_a_lost_host_keeps(shell: Shell) -> None:
    store = publish(shell.folder / "home", 4, budget=Budget(rub=Decimal(9)))
    gone = feed(store, 2, Amount(Decimal("8.94"), None))
    store.chunks.lose(gone)
    delivery_ledger.apply(
        store, [answered(feed(store, 4, Amount(Decimal("0.06"), None)), cost="0.01")]
    )
    store.set_state(JobState.PAUSED, text=Message("no further request fits the budget"))

    shown = shell("settle", "latest", "--dry-run").out
    refused = shell("settle", "latest", code=2).err
    assert "1 chunk is held by a lost worker; 8.94 ₽ reserved" in shown
    assert "--yes" in refused
    assert store.chunks.lost().chunks == 1

    done = shell("settle", "latest", "--yes", "--json")

    assert json.loads(done.out)["at_most_rub"] == "8.94"
    assert "the reservation is released" in done.err
    assert store.chunks.lost().chunks == 0
    assert store.chunks.exposure().rub == Decimal("0.04")
    late = delivery([call(0, gone.chunk, cost="0.02")], [result(0, gone.chunk)], sequence=7)
    delivery_ledger.apply(store, [late])
    assert store.job().settled_rub == Decimal("0.06"), "what is told later is booked all the same"
    assert "nothing is reserved" in shell("settle", "latest").err
