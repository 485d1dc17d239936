"""What workers deliver, and that it was taken in."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, cast

from batch.coordinator.redis.signed import SignedRedis
from jobs import names
from jobs.errors import BadMessage, NewerMessage
from jobs.wire import (
    Begin,
    Delivery,
    unpack_begin,
    unpack_delivery,
)

READ_AT_ONCE = 64
"""Deliveries of a job that one read brings at most."""

_ACKS_S = 24 * 3600

log = logging.getLogger("nightshift.coordinator")


@dataclass(frozen=True)
class Mail:
    """Stream entries of one job: their ids, and those that could be read."""

    job: str
    entries: list[bytes]
    deliveries: list[Delivery]
    garbage: int
    asks: list[Begin] = field(default_factory=list)


class Results:
    """The streams of jobs at one server."""

    def __init__(self, at: SignedRedis) -> None:
        self._at = at

    def read(self, jobs: list[str], wait_s: float) -> list[Mail]:
        """Deliveries that arrived for any of these jobs, waiting a moment for the first.

        A wait of 0 looks only; any other lasts up to 0.1 s longer, by the server's own clock.
        """
        if not jobs:
            return []
        streams = {names.results_key(job): "0" for job in jobs}
        found = self._at.typed(
            dict.fromkeys(streams, b"stream"),
            lambda: self._at.redis.xread(
                cast(Any, streams), count=READ_AT_ONCE, block=int(wait_s * 1000) or None
            ),
        )
        return [self._mail(key, entries) for key, entries in cast(Any, found or [])]

    def _mail(self, key: bytes, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Mail:
        job = key.decode().rsplit(":", 1)[-1]
        read = [self._entry(job, fields) for _, fields in entries]
        deliveries = [each for each in read if isinstance(each, Delivery)]
        asks = [each for each in read if isinstance(each, Begin)]
        return Mail(job, [entry for entry, _ in entries], deliveries, read.count(None), asks)

    def _entry(self, job: str, fields: dict[bytes, bytes]) -> Delivery | Begin | None:
        """What a stream entry is; None if it is not of our making, or another job's."""
        try:
            if asked := fields.get(b"a"):
                return unpack_begin(self._at.ours(names.ask_place(job), asked) or b"")
            signed = self._at.ours(names.results_key(job), fields.get(b"d", b""))
            delivery = unpack_delivery(signed or b"")
        except NewerMessage as error:
            log.warning("%s: %s", job, error.message)
            return None
        except BadMessage:
            return None
        return delivery if delivery.job == job else None

    def acknowledge(self, mail: Mail) -> None:
        """All of it is on disk: the stream and the outboxes may forget it."""
        keys = {names.acks_key(delivery.outbox): b"list" for delivery in mail.deliveries}

        def acknowledge() -> None:
            with self._at.redis.pipeline(transaction=True) as pipe:
                for delivery in mail.deliveries:
                    key = names.acks_key(delivery.outbox)
                    pipe.rpush(key, self._at.seal.sign(key, b"%d" % delivery.sequence))
                    pipe.expire(key, _ACKS_S)
                pipe.xdel(names.results_key(mail.job), *mail.entries)
                pipe.execute()

        self._at.typed({**keys, names.results_key(mail.job): b"stream"}, acknowledge)
