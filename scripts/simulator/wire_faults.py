"""Faults of the wire: how an answer travels, or does not."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from .exchange import Exchange

Play = Callable[[Exchange, Mapping[str, Any]], Awaitable[web.StreamResponse]]

MEGABYTE = 2**20
# Time for bytes to leave before a reset would overtake them, in seconds.
HEAD_START = 0.02


async def _never(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await x.work()
    x.finish()
    await x.until_gone(told["seconds"])
    return x.hang_up()


async def _silence(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await x.open()
    await x.work()
    x.finish()
    await x.until_gone(told["seconds"])
    return x.hang_up()


async def _whitespace(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    response = await x.open()
    x.finish()
    clock = asyncio.get_running_loop().time
    end = clock() + told["seconds"]
    while not x.gone and (told["seconds"] == 0 or clock() < end):
        await response.write(b" ")
        await x.until_gone(told["every"])
    return x.hang_up()


async def _slow(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    response = await x.open()
    await x.work(response)
    body, steps = x.finish(), 20
    for piece in _pieces(body, -(-len(body) // steps)):
        await x.write(response, piece)
        await asyncio.sleep(told["seconds"] / steps)
    return await x.end(response)


async def _reset(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(told["after"])
    x.finish()
    return x.reset()


async def _reset_body(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await _part(x, told["part"])
    await asyncio.sleep(HEAD_START)
    return x.reset()


async def _cut(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await _part(x, told["part"])
    return x.hang_up()


async def _truncated(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    return await x.end(await _part(x, told["part"]))


async def _length(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await x.work()
    body = x.finish()
    x.write_raw_head(max(0, len(body) + told["off"]))
    x.write_raw_body(body)
    return x.hang_up()


async def _huge(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    response = await x.open()
    await x.work(response)
    body = x.finish()
    await x.write(response, b'{"padding":"')
    for size in _sizes(told["bytes"], MEGABYTE):
        await x.write(response, b"x" * size)
    await x.write(response, b'",' + body[1:])
    return await x.end(response)


async def _bomb(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    await x.work()
    body = x.finish()
    response = await x.open({"Content-Encoding": told["encoding"]})
    for piece in _COMPRESSORS[told["encoding"]](told["bytes"], body):
        await x.write(response, piece)
        await asyncio.sleep(0)
    return await x.end(response)


async def _desync(x: Exchange, _: Mapping[str, Any]) -> web.StreamResponse:
    await x.work()
    body = x.finish()
    x.write_raw_head(len(body))
    x.headers["X-Generation-Id"] = "gen-of-somebody-else"
    stranger = b'{"id":"gen-of-somebody-else","choices":[{"index":0,"finish_reason":"stop",'
    stranger += b'"message":{"role":"assistant","content":"not for you"}}],"usage":{"cost":99}}'
    # In one piece: what comes after the next request has left, everyone must take for its answer.
    x.write_raw(body + x.raw_head(len(stranger)) + stranger)
    x.call.note_sent(body)
    x.call.delivery = "full"
    return x.stay()


async def _big_headers(x: Exchange, told: Mapping[str, Any]) -> web.StreamResponse:
    sizes = enumerate(_sizes(told["bytes"], 4000))
    response = await x.open({f"X-Padding-{number}": "x" * size for number, size in sizes})
    await x.work(response)
    await x.write(response, x.finish())
    return await x.end(response)


async def _http09(x: Exchange, _: Mapping[str, Any]) -> web.StreamResponse:
    await x.work()
    x.write_raw_body(x.finish())
    x.call.delivery = "full"
    return x.hang_up()


async def _early_hints(x: Exchange, _: Mapping[str, Any]) -> web.StreamResponse:
    x.write_raw(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    return await x.play()


async def _part(x: Exchange, part: float) -> web.StreamResponse:
    response = await x.open()
    await x.work(response)
    body = x.finish()
    await x.write(response, body[: int(len(body) * part)])
    return response


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), max(1, size)))


def _sizes(total: int, most: int) -> Iterator[int]:
    while total > 0:
        yield min(total, most)
        total -= most


def _deflated(window_bits: int) -> Callable[[int, bytes], Iterator[bytes]]:
    def pieces(total: int, body: bytes) -> Iterator[bytes]:
        packer = zlib.compressobj(9, wbits=window_bits)
        for size in _sizes(total, MEGABYTE):
            yield packer.compress(b" " * size)
        yield packer.compress(body) + packer.flush()

    return pieces


def _zstd(total: int, body: bytes) -> Iterator[bytes]:
    """A frame by hand (RFC 8878): run-length blocks of spaces, then the body as a raw block."""
    yield bytes.fromhex("28b52ffd") + bytes([0x00, 0x38])
    for size in _sizes(total, 2**17):
        yield (size << 3 | 1 << 1).to_bytes(3, "little") + b" "
    yield (len(body) << 3 | 1).to_bytes(3, "little") + body


_COMPRESSORS = {"gzip": _deflated(31), "deflate": _deflated(15), "zstd": _zstd}

PLAYS: dict[str, Play] = {
    "never": _never,
    "silence": _silence,
    "whitespace": _whitespace,
    "slow": _slow,
    "reset": _reset,
    "reset_body": _reset_body,
    "cut": _cut,
    "truncated": _truncated,
    "length": _length,
    "huge": _huge,
    "bomb": _bomb,
    "desync": _desync,
    "big_headers": _big_headers,
    "http09": _http09,
    "early_hints": _early_hints,
}
