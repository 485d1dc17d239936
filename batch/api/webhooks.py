"""Webhooks at the end of a batch, in OpenAI's form, by the notifier that jobs have.

Where: at the address that the batch named, else at its key's own. Signed with the key's secret; of
a server without keys with `NIGHTSHIFT_WEBHOOK_SECRET`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from batch.api import batch_options
from batch.api.batch_status import Standing
from batch.notifications import delivery_log
from batch.notifications.delivery_log import Letter
from batch.notifications.http_post import Undelivered, secret
from batch.notifications.notification import Word
from batch.notifications.notifier import Teller
from batch.notifications.webhook import send_standard
from batch.store.registry import Registry
from jobs.errors import StorageUnavailable
from jobs.message import N_

WEBHOOK_SECRET = "NIGHTSHIFT_WEBHOOK_SECRET"  # noqa: S105  the name of a variable
_WAY = "batch"


class Hooks:
    """Tells of every batch once that it is over, until somebody has heard it."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self._folder, self._registry = folder, registry
        self._teller = Teller(folder, self._send)

    def start(self) -> None:
        """Tries what is left from before."""
        self._teller.start()

    def close(self) -> None:
        """Ends, after a last try."""
        self._teller.close()

    def tell(self, standing: Standing) -> None:
        """What is to be told is on disk when this returns. `StorageUnavailable` if it cannot be."""
        row = standing.row
        address = batch_options.unpack(row.wishes).webhook or self._address(row.tenant)
        if not address:
            return
        word: Word = {
            "created_at": int(time.time()),
            "type": f"batch.{standing.status}",
            "data": {"id": row.id},
        }
        folder = self._folder / row.id
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = delivery_log.read(folder)
            if found.note(standing.status, {_WAY: address}, word, time.time()):
                delivery_log.write(folder, found)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self._teller.tell(row.id, {_WAY: address}, found.last, word)

    def untell(self, batch_id: str) -> None:
        """It goes on: its next end is told even if it is of the same kind."""
        folder = self._folder / batch_id
        try:
            found = delivery_log.read(folder)
            if not found.note("", {}, None, time.time()):
                return
            delivery_log.write(folder, found)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self._teller.tell(batch_id, {}, "", None)

    def _address(self, tenant: str) -> str | None:
        key = self._registry.key(tenant)
        return None if key is None else key.webhook

    def _send(self, letter: Letter) -> None:
        row = self._registry.batch(letter.word["data"]["id"])
        if row is None:
            raise Undelivered("the batch is gone")
        key = self._registry.key(row.tenant)
        signs = key.webhook_secret or "" if key else secret(os.environ, WEBHOOK_SECRET)
        send_standard(letter.address, letter.word, letter.name, signs)


def _unwritable(folder: Path, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(N_("{path} cannot be written: {why}", path=folder, why=error))
