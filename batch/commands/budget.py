"""nightshift budget"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.lowered_limits import wait_until_within
from batch.cli.shared_options import caps_options, open_home, plain_option, take_caps
from batch.cli.terminal import tell, tell_json
from batch.language import _, money
from batch.money.caps import change_caps
from batch.money.spend_tracker import Allowance
from jobs.message import N_
from jobs.money import add, plain
from jobs.period import Period

HELP = N_("""\
Show or set daily and monthly spending caps for all jobs in this data directory.

The caps are stored in the data directory and apply to every job, on top of the job's own budget.
A job that reaches a cap continues by itself the next day or month. Lowering a cap affects all
requests not sent yet; the command prints what calls in flight may still cost.

\b
  nightshift budget
  nightshift budget --budget-rub-per-day 500 --budget-rub-per-month 9000
  nightshift budget --budget-zone Asia/Yekaterinburg
  nightshift budget --no-caps
""")


@click.command("budget", cls=Command, help=HELP)
@caps_options
@plain_option("--no-caps", is_flag=True, help=N_("Remove all caps."))
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(*, no_caps: bool, as_json: bool, **options: Any) -> int:
    """See HELP."""
    home = open_home()
    new_caps, allowance = take_caps(options), Allowance(home)
    if no_caps:
        new_caps = {"rub_per_day": None, "rub_per_month": None, **new_caps}
    change_caps(home.folder, new_caps)
    if home.is_coordinated():
        wait_until_within(allowance.is_over)
    caps, used = allowance.caps(), allowance.used()
    if as_json:
        periods = {period.value: _figures(caps.of(period), *used[period]) for period in Period}
        tell_json({"version": 1, "zone": caps.zone, **periods}, indent=2)
        return 0
    for period, (spent, aside) in used.items():
        tell(_line(period, spent, aside, caps.of(period)))
    tell(_("days and months of {zone}").format(zone=caps.zone))
    return 0


def _line(period: Period, spent: Decimal, aside: Decimal, cap: Decimal | None) -> str:
    when = _("today") if period is Period.DAY else _("this month")
    if cap is None:
        told = _("{when}: {spent} spent, no cap").format(when=when, spent=money(spent))
    else:
        told = _("{when}: {spent} of {cap} spent").format(
            when=when, spent=money(spent), cap=money(cap)
        )
    if aside:
        told += _(", {aside} reserved for calls in flight").format(aside=money(aside))
    return told


def _figures(cap: Decimal | None, spent: Decimal, aside: Decimal) -> dict[str, str | None]:
    return {
        "cap_rub": None if cap is None else plain(cap),
        "spent_rub": plain(spent),
        "set_aside_rub": plain(aside),
        "used_rub": plain(add(spent, aside)),
    }
