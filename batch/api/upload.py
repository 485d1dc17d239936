"""A file in a multipart form, as it arrives: to disk in pieces, whatever order the parts come in.

Nothing of it is kept in memory but a piece; a name that a client gave is never a path.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from batch.api.api_errors import ApiError, invalid
from batch.store.staged_job import sync_folder

PIECE = 1024 * 1024
_STALLED_S = 120.0
"""So long a client may send nothing."""

_MOST_PARTS, _LONGEST_FIELD = 32, 4096
_LONGEST_NAME = 255
DRAFT = ".upload-"
NAMELESS = "upload"
"""What the SDK, and we, call a file without a name."""


class Upload:
    """The parts of a form: `fields` by name, and `file` on disk under a name of ours."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._path = folder / f"{DRAFT}{secrets.token_hex(16)}"
        self._limit = limit
        self._file = os.fdopen(
            os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "r+b", buffering=0
        )
        fcntl.flock(self._file, fcntl.LOCK_EX)  # somebody receives it: see `sweep_drafts`
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._header = self._value = b""
        self._headers: dict[str, bytes] = {}
        self._name = ""
        self._parts = 0
        self.fields: dict[str, str] = {}
        self._field = bytearray()
        self.filename: str | None = None
        self.size = 0
        self.is_whole = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    async def receive(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Takes in all of the form; `ApiError` for what is none, or too large."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise invalid("The request must be multipart/form-data with a file.")
        try:
            parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
            async for data in _unstalled(body):
                parser.write(data)
                if self._waiting_size >= PIECE:
                    await self._write()
            parser.finalize()
        except FormParserError:
            raise invalid("The multipart form could not be parsed.") from None
        await self._write()
        if not self.is_whole:
            raise invalid("The multipart form ends too early.")

    async def keep(self, path: Path) -> None:
        """The content takes its place, and is on disk when this returns."""
        await run_in_threadpool(self._keep, path)

    async def beginning(self, most: int) -> bytes:
        """The first bytes of the content."""
        return await run_in_threadpool(os.pread, self._file.fileno(), most, 0)

    def _keep(self, path: Path) -> None:
        os.fsync(self._file.fileno())
        os.link(self._path, path)
        sync_folder(path.parent)

    async def _write(self) -> None:
        if self._waiting:
            pieces, self._waiting, self._waiting_size = self._waiting, [], 0
            await run_in_threadpool(self._file.write, b"".join(pieces))

    # ---- what the parser tells --------------------------------------------------------------

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._part_is_known,
            "on_part_data": self._data,
            "on_part_end": self._part_ends,
            "on_end": self._ends,
        }

    def _part_begins(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""
        self._name, self._field = "", bytearray()
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise invalid("The multipart form has too many parts.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header = self._value = b""

    def _part_is_known(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self.filename is not None:
                raise invalid("The form has more than one file.", "file")
            self.filename = _plain(options.get(b"filename", b""))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name != "file":
            self._field += data[start:end]
            if len(self._field) > _LONGEST_FIELD:
                raise invalid(f"The field '{self._name[:80]}' is too long.", self._name[:80])
            return
        self.size += end - start
        if self.size > self._limit:
            raise ApiError(400, f"File is too large. The limit is {self._limit} bytes.")
        # A copy of the piece, which the parser may cut into several.
        self._waiting.append(bytes(memoryview(data)[start:end]))
        self._waiting_size += end - start

    def _part_ends(self) -> None:
        if self._name and self._name != "file":
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _ends(self) -> None:
        self.is_whole = True


def sweep_drafts(folder: Path) -> None:
    """Takes away what killed servers were receiving; what another one receives now stays."""
    for path in folder.glob(f"{DRAFT}*"):
        with suppress(OSError), path.open("rb") as draft:
            fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


async def _unstalled(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body, as long as they come."""
    pieces = aiter(body)
    while True:
        try:
            async with asyncio.timeout(_STALLED_S):
                data = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(408, "The upload stalled.") from None
        yield data


def _plain(name: bytes) -> str:
    """A file's name as it may be shown: raw UTF-8 or percent-encoded, without folders."""
    text = unquote(name.decode("utf-8", "replace"))
    bare = text.replace("\\", "/").rpartition("/")[2]
    shown = "".join(each if each.isprintable() else "�" for each in bare)
    return shown[:_LONGEST_NAME] or NAMELESS
