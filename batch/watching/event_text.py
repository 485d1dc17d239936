"""Events of a job in words. They may quote anything: whoever shows them escapes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from batch.language import _, ngettext, number, zoned
from batch.store.events import Event, EventKind
from batch.watching.latest_incidents import meaning
from jobs.message import Message
from jobs.pause_reasons import PauseReason


def told(event: Event, standing: Callable[[str, str], str]) -> Iterator[str]:
    """Clauses; `standing` has words for a state and its reason."""
    match event.kind:
        case EventKind.SUBMITTED:
            yield _("submitted")
        case EventKind.STATE:
            yield from _state(event, standing)
        case EventKind.CHANGED:
            for name, (was, now) in event.changes.items():
                yield _("{setting}: {was} → {now}").format(setting=name, was=was, now=now)
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
            yield meaning(event.code) or event.code
    if event.by_user and not (event.kind is EventKind.SUBMITTED or _is_users(event)):
        yield _("by the user")


def _is_users(event: Event) -> bool:
    """Whether the state itself says that the user wanted it."""
    return event.reason == PauseReason.USER


def _state(event: Event, standing: Callable[[str, str], str]) -> Iterator[str]:
    yield standing(event.state, event.reason)
    if event.text and not _is_users(event):
        yield _(Message.read(event.text, event.data))
    if event.until is not None:
        yield _("until {moment}").format(moment=zoned(event.until))
