"""nightshift history"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import click
import msgspec

from batch.dialogue.click_help import Command
from batch.dialogue.options import job_argument, open_home, plain_option
from batch.dialogue.progress_text import standing
from batch.dialogue.terminal import safe, tell
from batch.language import _, again, moment, ngettext, number
from batch.store.events import Event, EventKind, history
from batch.watching.trouble import meaning

HELP = """Show what happened to JOB: submitted, paused and why, resumed, changed, ended.

\b
  nightshift history latest
  nightshift history latest --json | jq .events
"""


@click.command("history", cls=Command, help=HELP)
@job_argument
@plain_option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job: str, *, as_json: bool) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    with closing(home.open(job_id, read_only=True)) as store:
        events = history(store.db)
    if as_json:
        told = {"version": 1, "job": job_id, "events": msgspec.to_builtins(events)}
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    zone = datetime.now().astimezone()
    tell(_("times in {zone}").format(zone=f"{zone:%Z}"))
    for event in events:
        at = moment(datetime.fromtimestamp(event.at).astimezone())
        tell(f"{at}  {', '.join(_words(event))}", len(at) + 2)
    return 0


def _words(event: Event) -> Iterator[str]:
    match event.kind:
        case EventKind.SUBMITTED:
            yield _("submitted")
        case EventKind.STATE:
            yield from _state(event)
        case EventKind.CHANGED:
            for name, (was, now) in event.changes.items():
                yield _("{setting}: {was} → {now}").format(
                    setting=safe(name), was=safe(was), now=safe(now)
                )
        case EventKind.RETRIED:
            told = ngettext(
                "{count} request to be retried", "{count} requests to be retried", event.requests
            )
            yield told.format(count=number(event.requests))
        case EventKind.PRICES:
            yield _("prices changed")
        case EventKind.WORKER_LOST:
            told = ngettext(
                "lost contact with a worker; its {count} request is sent again",
                "lost contact with a worker; its {count} requests are sent again",
                event.requests,
            )
            yield told.format(count=number(event.requests))
        case EventKind.TROUBLE:
            yield meaning(event.code) or safe(event.code)
    if event.by_user and event.kind is not EventKind.SUBMITTED:
        yield _("by the user")


def _state(event: Event) -> Iterator[str]:
    yield standing(event.state, event.reason)
    if event.text:
        yield safe(again(event.text))
    if event.until is not None:
        until = datetime.fromtimestamp(event.until).astimezone()
        yield _("until {moment}").format(moment=moment(until))
