"""The form of things on their way through Redis: msgpack, compressed; nothing executable.

What a worker hands in travels as a `Delivery`: small facts in front, and the raw answers packed
together behind, so that the home stores them as they come and similar answers compress well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import msgspec

from jobs.message import N_

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from jobs.budget import UNCAPPED, Amount
from jobs.chunk import MOST_MODELS, ChunkClosed, Payload
from jobs.constraints import Count
from jobs.errors import BadMessage, NewerMessage
from jobs.ids import check_job_id, check_outbox
from jobs.money import is_amount
from jobs.outcome import Billing
from jobs.request_kinds import KINDS
from jobs.result import Call, Result
from jobs.usage import Usage

LARGEST = 80 * 2**20
"""Bytes that anything may have, packed or unpacked: a delivery full of answers, and one more that
is as large as an answer may be. More is not of our making.
"""

LARGEST_PAYLOAD = 16 * 2**20
"""And a chunk: requests of some MiB together, or one as long as a line may be."""

_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    # What lies on a disk for a night, or passes through Redis, must not change unnoticed.
    zstd.CompressionParameter.checksum_flag: 1,
}


VERSION = 2
"""Of payloads and deliveries. The release before reads these, and its own, of version 1, are read
here: fields are only added, at the end and with a default. Where that cannot be, this is raised:
what is newer than its reader is let lie, and sent again once the reader is as new.
"""


class Found(msgspec.Struct, frozen=True, array_like=True):
    """What `GET /generation` said of a call: its exact cost in ₽, None while that is unknown."""

    ordinal: Count
    call: str
    cost: Decimal | None
    usage: Usage | None = None
    provider: str = ""


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A batch from one worker's outbox, for one job. `sequence` is acknowledged to `outbox`."""

    outbox: str
    sequence: Count
    job: str
    calls: list[Call]
    results: list[Result]
    closed: list[ChunkClosed]
    found: list[Found]
    bodies: bytes = b""
    version: Count = 1


class Begin(msgspec.Struct, frozen=True, array_like=True):
    """A worker asks whether it may begin a chunk, or open more of its grant; `token` tells its
    attempt from any other. By then its calls may cost `opened` in all; a part that is None is not
    counted.
    """

    chunk: Count
    outbox: str
    token: str
    opened: Amount = UNCAPPED

    @property
    def attempt(self) -> str:
        """What is permitted; no other has the same."""
        return f"{self.outbox} {self.token}"


class Permit(msgspec.Struct, frozen=True, array_like=True):
    """Whose attempt at a chunk may make its calls, "" for nobody's, and what these may cost."""

    attempt: str = ""
    opened: Amount = UNCAPPED

    def covers(self, ask: Begin) -> bool:
        """Whether it allows all that was asked for."""
        return self.opened.most(ask.opened) == self.opened


_encoder = msgspec.msgpack.Encoder()
_payload = msgspec.msgpack.Decoder(Payload)
_delivery = msgspec.msgpack.Decoder(Delivery)
_begin = msgspec.msgpack.Decoder(Begin)
_permit = msgspec.msgpack.Decoder(Permit)
_bodies = msgspec.msgpack.Decoder(list[bytes])


def pack(data: bytes) -> bytes:
    """The bytes, compressed, with a checksum."""
    return zstd.compress(data, options=_OPTIONS)


def unpack(data: bytes, largest: int = LARGEST) -> bytes:
    """The bytes that `pack` was given; `BadMessage` for anything else or anything huge."""
    try:
        size = zstd.get_frame_info(data).decompressed_size
        if size is None or size > largest:
            raise BadMessage(N_("a compressed message is too large or does not declare its size"))
        # One frame and nothing behind it: a second one could unpack to any size.
        frame = zstd.ZstdDecompressor()
        unpacked = frame.decompress(data, size + 1)
    except zstd.ZstdError as error:
        raise BadMessage(N_("a message is not compressed as expected")) from error
    if not frame.eof or frame.unused_data or len(unpacked) != size:
        raise BadMessage(N_("a compressed message is incomplete"))
    return unpacked


def pack_payload(payload: Payload) -> bytes:
    """The value that a RunChunk message refers to."""
    return pack(_encoder.encode(payload))


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Whatever a decoder meets in bytes that are not ours is `BadMessage`."""
    try:
        yield
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadMessage(N_("{what} is malformed", what=what)) from error


def unpack_payload(data: bytes) -> Payload:
    """The payload; `BadMessage` for anything that is not one."""
    unpacked = unpack(data, LARGEST_PAYLOAD)
    with _decoding("a payload"):
        payload = _payload.decode(unpacked)
    _check_version(payload.version)
    check_job_id(payload.job)
    _check_rub(payload.grant.rub)
    if len(payload.models) > MOST_MODELS:
        raise BadMessage(N_("a payload has too many models"))
    if not KINDS.keys() >= set(payload.kinds) or len(payload.kinds) not in (0, len(payload.models)):
        raise BadMessage(N_("a payload has requests of unknown kinds"))
    for work in payload.requests:
        _check_rub(work.rub)
        if work.model >= len(payload.models):
            raise BadMessage(N_("a payload has a request without a model"))
    return payload


def pack_bodies(bodies: list[bytes]) -> bytes:
    """Raw answers, together."""
    return pack(_encoder.encode(bodies)) if bodies else b""


def unpack_bodies(data: bytes) -> list[bytes]:
    """The raw answers of a delivery, in the order in which results refer to them."""
    if not data:
        return []
    unpacked = unpack(data)
    with _decoding("a pack of answers"):
        return _bodies.decode(unpacked)


def pack_delivery(delivery: Delivery) -> bytes:
    """A stream entry; the bodies in it are compressed already."""
    return _encoder.encode(delivery)


def pack_begin(ask: Begin) -> bytes:
    """A stream entry, too."""
    return _encoder.encode(ask)


def unpack_begin(data: bytes) -> Begin:
    """The question; `BadMessage` for anything that is none."""
    with _decoding("a question"):
        ask = _begin.decode(data)
    check_outbox(ask.outbox)
    check_outbox(ask.token)
    _check_rub(ask.opened.rub)
    return ask


def pack_permit(permit: Permit) -> bytes:
    """The value that answers a `Begin`."""
    return _encoder.encode(permit)


def unpack_permit(data: bytes) -> Permit:
    """The permit; `BadMessage` for anything that is none."""
    with _decoding("a permit"):
        return _permit.decode(data)


def unpack_delivery(data: bytes) -> Delivery:
    """The delivery; `BadMessage` for anything that is not one, absurd figures included."""
    if len(data) > LARGEST:
        raise BadMessage(N_("a delivery is too large"))
    with _decoding("a delivery"):
        delivery = _delivery.decode(data)
    _check_version(delivery.version)
    check_job_id(delivery.job)
    check_outbox(delivery.outbox)
    for call in delivery.calls:
        _check_call(call)
    for found in delivery.found:
        _check_rub(found.cost)
    answers = len(unpack_bodies(delivery.bodies))
    if any(result.body >= answers for result in delivery.results):
        raise BadMessage(N_("a delivery has a result without an answer"))
    return delivery


def _check_version(version: int) -> None:
    if version > VERSION:
        raise NewerMessage(N_("a message is from a newer version of Nightshift; update this one"))


def _check_call(call: Call) -> None:
    _check_rub(call.cost)
    _check_rub(call.bound)
    if (call.billing is Billing.KNOWN) != (call.cost is not None):
        raise BadMessage(N_("a call has no valid cost"))


def _check_rub(rub: Decimal | None) -> None:
    if rub is not None and not is_amount(rub):
        raise BadMessage(N_("a message has an invalid amount"))
