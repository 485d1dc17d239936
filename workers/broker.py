"""Where kombu's Redis channel is bent: a broker that went away must not end the worker.

Nothing relies on acknowledgements: a chunk is fenced by its claim, and what got lost on the way the
coordinator sends again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu import compression
from kombu.transport import redis, virtual
from redis.exceptions import ResponseError

from jobs.message import N_

_FOREIGN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What a message raises on its way in that is none of Celery's: no JSON, no envelope, too deep."""

log = logging.getLogger("nightshift.broker")


class _Message(virtual.Message):
    """A message whose chunk may outlive the channel it came by."""

    def ack(self, multiple: bool = False) -> None:  # noqa: FBT001, FBT002  kombu's signature
        """On a channel that is closed by now it raises what ends the worker."""
        if not self.channel.closed:
            super().ack(multiple)  # type: ignore[no-untyped-call]

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  kombu's signature
        """As `ack`."""
        if not self.channel.closed:
            super().reject(requeue)  # type: ignore[no-untyped-call]


class _QoS(redis.QoS):
    """What is not acknowledged comes back, and is dropped then."""

    def ack(self, delivery_tag: str) -> None:
        """A Redis whose disk is full refuses it, which would end the worker with a traceback."""
        with suppress(ResponseError):
            self._remove_from_indices(delivery_tag).execute()  # type: ignore[no-untyped-call]
        super(redis.QoS, self).ack(delivery_tag)  # type: ignore[no-untyped-call]


class _Channel(redis.Channel):
    """What comes in that is no message of Celery's ends the worker otherwise."""

    def _brpop_read(self, **options: Any) -> Any:
        return _or_drop(lambda: super(_Channel, self)._brpop_read(**options))  # type: ignore[no-untyped-call]

    def _receive(self) -> Any:
        return _or_drop(super()._receive)


def _or_drop(read: Callable[[], Any]) -> Any:
    """Reads one; what is dropped is out of the queue by then."""
    try:
        return read()
    except _FOREIGN as error:
        # Its text may quote the message, so only the class is told.
        log.warning(N_("dropped an invalid message: {kind}", kind=type(error).__name__))
        raise Empty from error


def bend() -> None:
    """For the whole process."""
    # We compress none: a message that asks to be unpacked may unpack to any size.
    compression._decoders.clear()  # noqa: SLF001
    redis.Transport.Channel = _Channel
    redis.Channel.Message = _Message
    redis.Channel.QoS = _QoS
    # A channel that closes puts what is being run back on the queue, to be run twice; and when the
    # broker is gone, the attempt ends the worker.
    redis.Channel.do_restore = False
