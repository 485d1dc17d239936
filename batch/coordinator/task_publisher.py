"""Puts RunChunk and LookUp messages on the Celery queue. They are small: references only."""

from __future__ import annotations

import msgspec
from celery import Celery
from kombu import pools
from kombu.exceptions import OperationalError

from jobs.celery_settings import celery_settings
from jobs.errors import ServiceUnavailable
from jobs.message import N_
from jobs.names import LOOK_UP, RUN_CHUNK, lookup_place
from jobs.priority import NORMAL, queue_place
from jobs.signing import Seal, Target


class Sender:
    """The one publisher of a home."""

    def __init__(self, redis_url: str, seal: Seal) -> None:
        self._seal = seal
        self.fence = ""
        """The fence under which chunks go out (`batch.coordinator.fence`)."""
        self._app = Celery("nightshift", set_as_current=False)
        self._app.conf.update(celery_settings(redis_url))
        # A broker that is away is met by the next turn, not by waiting here.
        self._app.conf.update(task_publish_retry=False)

    def run_chunk(
        self, job: str, name: str, target: Target, chunk: int, rows: int, share: float = NORMAL
    ) -> None:
        """Asks the workers of a target to run a chunk. Flower shows the readable arguments."""
        self._send(
            RUN_CHUNK,
            [job, chunk, self.fence],
            target,
            f"{job}/{chunk}",
            f"chunk {chunk}, {rows} requests: {name}",
            queue_place(share),
        )

    def look_up(
        self,
        job: str,
        name: str,
        target: Target,
        calls: list[tuple[int, str, str]],
        rate: str = "1",
    ) -> None:
        """Asks what (ordinal, call, generation id) cost; `rate` is ₽ for a unit of the answer."""
        signed = self._seal.sign(lookup_place(job), msgspec.json.encode((calls, rate)))
        shown = f"the cost of {len(calls)} calls: {name}"
        self._send(LOOK_UP, [job, signed.hex()], target, None, shown)

    def _send(
        self,
        task: str,
        args: list[object],
        target: Target,
        task_id: str | None,
        shown: str,
        place: int | None = None,
    ) -> None:
        try:
            self._app.send_task(
                task,
                args=args,
                queue=self._seal.queue(target),
                task_id=task_id,
                argsrepr=shown,
                kwargsrepr="",
                priority=place,
            )
        except (OperationalError, OSError) as error:
            raise ServiceUnavailable(
                N_("Redis does not accept messages ({kind})", kind=type(error).__name__),
                hint=N_("nightshift doctor checks the setup"),
            ) from error

    def close(self) -> None:
        """Drops the connections, of which Celery itself lets go only when the process ends."""
        self._app.close()
        pools.reset()  # type: ignore[no-untyped-call]
