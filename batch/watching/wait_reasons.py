"""What holds a job up, in a sentence: the endpoint's own words, and until when."""

from __future__ import annotations

from batch.language import _, clock
from jobs.message import Message
from jobs.worker_heartbeat import Wait

_A_MOMENT_S = 5.0


def told(wait: Wait, message: Message) -> str:
    """It may hold anything that an endpoint says: whoever shows it escapes it."""
    words = _(message)
    if wait.until is None and wait.is_outage:
        return _("endpoint down, retrying ({words})").format(words=words)
    if wait.until is None:
        return _("retrying ({words})").format(words=words)
    until = clock(wait.until)
    if wait.next_at is None or wait.until - wait.next_at < _A_MOMENT_S:
        return _("waiting until {clock} ({words})").format(clock=until, words=words)
    return _("asked to wait until {clock}, next attempt at {next} ({words})").format(
        clock=until, next=clock(wait.next_at), words=words
    )
