"""What removed jobs spent: it counts in the home's caps as long as the period lasts."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import msgspec

from batch.money.caps import write_whole
from batch.store.jobstore import JobStore
from batch.store.staged_job import alone
from jobs.errors import StorageUnavailable
from jobs.message import N_
from jobs.money import plain, total
from jobs.names import REMOVED
from jobs.period import QUARTER_S

_LONGEST_S = 40 * 86_400
"""A month, and some days for other zones and wrong clocks."""


class Spent(msgspec.Struct, frozen=True):
    """₽ by quarter of an hour since 1970, and the API key that the job was for, if any."""

    quarters: dict[int, str]
    key: str = ""


Spending = dict[str, Spent]
"""By job."""


def keep_spending(home: Path, store: JobStore) -> None:
    """Notes what a job spent lately, before it is removed. To note it twice changes nothing."""
    with alone(home):  # one after the other, so that none overwrites what another noted
        _keep(home, store)


def _keep(home: Path, store: JobStore) -> None:
    since = int(time.time() - _LONGEST_S) // QUARTER_S
    spent = {quarter: plain(rub) for quarter, rub in store.spending().items() if quarter >= since}
    known = {
        job: Spent(recent, before.key)
        for job, before in read_spending(home).items()
        if (recent := {each: rub for each, rub in before.quarters.items() if each >= since})
    }
    job = store.job()
    known[job.id] = Spent(spent, job.spec.origin.key if job.spec.origin else "")
    write_whole(home / REMOVED, msgspec.json.encode(known) + b"\n")


def read_spending(home: Path) -> Spending:
    """What removed jobs spent. `StorageUnavailable` for a file that is not ours: nothing that may
    have been spent is forgotten.
    """
    path = home / REMOVED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spending)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageUnavailable(
            N_("{path} cannot be read: {why}", path=path, why=error)
        ) from error
    except msgspec.MsgspecError as error:
        raise StorageUnavailable(
            N_("{path} does not hold what removed jobs spent", path=path),
            hint=N_(
                "remove it; what they spent in this month is not counted then ({path})", path=path
            ),
        ) from error


def spent_between(spending: Spending, job: str, start: float, end: float) -> Decimal:
    """₽ that a removed job spent from `start` up to `end`, Unix seconds, whole quarters."""
    first, last = int(start) // QUARTER_S, int(end) // QUARTER_S
    quarters = spending[job].quarters.items()
    found = (Decimal(rub) for quarter, rub in quarters if first <= quarter < last)
    return total(found)
