"""nightshift keys"""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import Any

import click
import msgspec
from pydantic import ValidationError

from batch.api.tenants import digest_of, new_key, new_webhook_secret
from batch.cli.click_help import Command
from batch.cli.shared_options import ROUBLES, SHARE, open_home, plain_option
from batch.cli.terminal import say, tell, tell_json
from batch.language import _, money, zoned
from batch.money.caps import Caps, KeyCaps, read_caps, write_caps
from batch.money.spend_tracker import Allowance
from batch.store.home import Home
from batch.store.registry import KeyRow, Registry
from jobs.errors import UsageError, told_by
from jobs.message import N_
from jobs.money import ZERO, add, plain
from jobs.notify import Notify
from jobs.period import Period
from jobs.priority import NORMAL

HELP = N_("""\
Manage the API keys of nightshift serve: one for each client.

Each key sees only its own files and batches, and has its own daily and monthly cap. A key is shown
once, when it is made; only its hash is stored. A running server knows it at once. To replace a key,
revoke it and add one with the same name, which owns the same files and batches.

\b
  nightshift keys add research --budget-rub-per-day 500 --priority low
  nightshift keys set research --budget-rub-per-day 700
  nightshift keys list
  nightshift keys revoke research
""")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.command("keys", cls=Command, help=HELP)
@click.argument(
    "action",
    metavar="add|set|list|revoke",
    type=click.Choice(["add", "set", "list", "revoke"]),
)
@click.argument("name", metavar="[NAME]", default="")
@plain_option("--budget-rub-per-day", **ROUBLES, help=N_("Maximum spending per day with this key."))
@plain_option(
    "--budget-rub-per-month", **ROUBLES, help=N_("Maximum spending per month with this key.")
)
@plain_option(
    "--priority",
    **SHARE,
    default=NORMAL,
    show_default="normal",
    help=N_("Weight of its batches against other jobs: 100, 10, 1 or N."),
)
@plain_option(
    "--webhook", metavar="URL", help=N_("Webhook to notify when a batch is over.  [https]")
)
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(action: str, name: str, *, as_json: bool, **options: Any) -> int:
    """See HELP."""
    home = open_home()
    if action == "list":
        _list(home, as_json=as_json)
        return 0
    if not _NAME.fullmatch(name):
        raise UsageError(
            N_("{name!r} cannot be the name of a key", name=name)
            if name
            else N_("the key's name is missing"),
            hint=N_(
                "nightshift keys {action} NAME, of letters, digits, '.', '_' and '-'", action=action
            ),
        )
    if action == "revoke":
        _revoke(home, name)
    elif action == "set":
        _set(home, name, options["budget_rub_per_day"], options["budget_rub_per_month"])
    else:
        _add(home, name, as_json=as_json, **options)
    return 0


def _add(
    home: Home,
    name: str,
    *,
    budget_rub_per_day: Decimal | None,
    budget_rub_per_month: Decimal | None,
    priority: float,
    webhook: str | None,
    as_json: bool,
) -> None:
    _check_webhook(webhook)
    registry, key = Registry(home.folder), new_key()
    if any(row.name == name for row in registry.keys()):  # noqa: SIM118  not a dict
        raise _taken(name)
    secret = new_webhook_secret() if webhook else None
    # First the caps: a key without them could spend.
    _set_caps(home, name, KeyCaps(budget_rub_per_day, budget_rub_per_month))
    row = KeyRow(name, digest_of(key), time.time(), None, priority, webhook, secret)
    if not registry.add_key(row):
        raise _taken(name)
    if as_json:
        tell_json({"version": 1, "name": name, "key": key, "webhook_secret": secret})
        return
    click.echo(key)
    if secret:
        click.echo(secret)
    say(_("store it safely: it is not shown again"))


def _set(home: Home, name: str, day: Decimal | None, month: Decimal | None) -> None:
    """Gives a key other caps; what is not named stays."""
    if day is None and month is None:
        raise UsageError(
            N_("no cap is given"), hint=N_("--budget-rub-per-day or --budget-rub-per-month")
        )
    if not any(row.name == name for row in Registry(home.folder).keys()):  # noqa: SIM118
        raise UsageError(
            N_("there is no key {name}", name=name), hint=N_("nightshift keys list shows them all")
        )
    before = read_caps(home.folder).keys.get(name, KeyCaps())
    given = {"rub_per_day": day, "rub_per_month": month}
    told = {field: cap for field, cap in given.items() if cap is not None}
    _set_caps(home, name, msgspec.structs.replace(before, **told))


def _taken(name: str) -> UsageError:
    hint = N_("nightshift keys revoke {name}, or choose another name", name=name)
    return UsageError(N_("there is a key {name} already", name=name), hint=hint)


def _revoke(home: Home, name: str) -> None:
    if not Registry(home.folder).revoke(name, time.time()):
        raise UsageError(
            N_("there is no key {name}", name=name), hint=N_("nightshift keys list shows them all")
        )


def _check_webhook(url: str | None) -> None:
    try:
        Notify(url=url)
    except ValidationError as error:
        raise UsageError(N_("--webhook: {told}", told=told_by(error.errors()[0]))) from None


def _set_caps(home: Home, name: str, caps: KeyCaps) -> None:
    before = read_caps(home.folder)
    keys = {**before.keys, name: caps}
    if caps == KeyCaps():
        del keys[name]
    write_caps(home.folder, msgspec.structs.replace(before, keys=keys))


def _list(home: Home, *, as_json: bool) -> None:
    allowance = Allowance(home)
    used, caps = allowance.used_by_keys(), allowance.caps()
    rows = Registry(home.folder).keys(revoked=True)
    if as_json:
        told = [_json(row, used.get(row.name, {}), _caps(caps, row.name)) for row in rows]
        tell_json({"version": 1, "keys": told}, indent=2)
        return
    for row in rows:
        _tell(row, used.get(row.name, {}), _caps(caps, row.name))
    if not rows:
        tell(_("there are no keys; nightshift serve answers this machine alone"))


def _caps(caps: Caps, name: str) -> KeyCaps:
    return caps.keys.get(name, KeyCaps())


Used = dict[Period, tuple[Decimal, Decimal]]


def _spent(used: Used, period: Period) -> Decimal:
    return add(*used.get(period, (ZERO, ZERO)))


def _json(row: KeyRow, used: Used, caps: KeyCaps) -> dict[str, Any]:
    return {
        "name": row.name,
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
        "priority": row.priority,
        "webhook": bool(row.webhook),
        **{
            period.value: {
                "cap_rub": None if (cap := caps.of(period)) is None else plain(cap),
                "used_rub": plain(_spent(used, period)),
            }
            for period in Period
        },
    }


def _tell(row: KeyRow, used: Used, caps: KeyCaps) -> None:
    told = _("{name}, since {when}").format(name=row.name, when=zoned(row.created_at))
    if row.revoked_at is not None:
        told += _(", revoked")
    tell(told)
    for period, cap in ((period, caps.of(period)) for period in Period):
        when = _("today") if period is Period.DAY else _("this month")
        spent = money(_spent(used, period))
        if cap is None:
            line = _("{when}: {spent} spent, no cap").format(when=when, spent=spent)
        else:
            line = _("{when}: {spent} of {cap} spent").format(
                when=when, spent=spent, cap=money(cap)
            )
        tell(f"  {line}")
