"""The form of things on their way through Redis: msgpack, compressed; nothing executable.

What a worker hands in travels as a `Delivery`: small facts in front, and the raw answers packed
together behind, so that the home stores them as they come and similar answers compress well.
"""

from __future__ import annotations

import sys
from decimal import Decimal

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from jobs.chunk import ChunkClosed, Payload
from jobs.errors import BadMessage
from jobs.ids import check_job_id
from jobs.result import Call, Result
from jobs.usage import Usage

LARGEST = 512 * 2**20
"""Bytes that anything may have once unpacked; more is not of our making."""

_LEVEL = 3


class Found(msgspec.Struct, frozen=True, array_like=True):
    """What `GET /generation` said of a call: its exact cost in ₽, None while that is unknown."""

    ordinal: int
    call: str
    cost: Decimal | None
    usage: Usage | None = None
    provider: str = ""


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A batch from one worker's outbox, for one job. `sequence` is acknowledged to `outbox`."""

    outbox: str
    sequence: int
    job: str
    calls: list[Call]
    results: list[Result]
    closed: list[ChunkClosed]
    found: list[Found]
    bodies: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_payload = msgspec.msgpack.Decoder(Payload)
_delivery = msgspec.msgpack.Decoder(Delivery)
_bodies = msgspec.msgpack.Decoder(list[bytes])


def pack(data: bytes) -> bytes:
    """The bytes, compressed."""
    return zstd.compress(data, _LEVEL)


def unpack(data: bytes) -> bytes:
    """The bytes that `pack` was given; `BadMessage` for anything else or anything huge."""
    try:
        if zstd.get_frame_info(data).decompressed_size is None:
            raise BadMessage("a compressed message does not tell its size")
        if (zstd.get_frame_info(data).decompressed_size or 0) > LARGEST:
            raise BadMessage("a compressed message is too large")
        return zstd.decompress(data)
    except zstd.ZstdError as error:
        raise BadMessage("a message is not compressed as ours are") from error


def pack_payload(payload: Payload) -> bytes:
    """The value that a RunChunk message refers to."""
    return pack(_encoder.encode(payload))


def unpack_payload(data: bytes) -> Payload:
    """The payload; `BadMessage` for anything that is not one."""
    try:
        payload = _payload.decode(unpack(data))
    except msgspec.MsgspecError as error:
        raise BadMessage("a payload is not of the agreed form") from error
    check_job_id(payload.job)
    return payload


def pack_bodies(bodies: list[bytes]) -> bytes:
    """Raw answers, together."""
    return pack(_encoder.encode(bodies)) if bodies else b""


def unpack_bodies(data: bytes) -> list[bytes]:
    """The raw answers of a delivery, in the order in which results refer to them."""
    return _bodies.decode(unpack(data)) if data else []


def pack_delivery(delivery: Delivery) -> bytes:
    """A stream entry; the bodies in it are compressed already."""
    return _encoder.encode(delivery)


def unpack_delivery(data: bytes) -> Delivery:
    """The delivery; `BadMessage` for anything that is not one."""
    try:
        delivery = _delivery.decode(data)
    except msgspec.MsgspecError as error:
        raise BadMessage("a delivery is not of the agreed form") from error
    check_job_id(delivery.job)
    return delivery
