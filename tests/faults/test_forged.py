"""Whoever can write to Redis can stop work, but neither spend nor forge, nor hold in silence."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import cast

import msgspec
from celery import Celery
from redis import Redis

from batch.coordinator.redis.flower_inbox import Wish
from jobs import names
from jobs.celery_settings import celery_settings
from jobs.chunk import DONE, ChunkClosed
from jobs.outcome import Billing
from jobs.result import Call, Result, ResultState
from jobs.signing import Seal, Target, fingerprint
from jobs.wire import Delivery, pack_bodies, pack_delivery, pack_payload, unpack_payload
from jobs.worker_heartbeat import JobStatus, WorkerStatus
from scripts.torturing.installation import KEY, Installation

ROWS = 90
THEIRS = Seal(b"the secret of whoever came in here")
GARBAGE: tuple[bytes, ...] = (
    *(b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"[" * 5000, b"x" * 2**21),
    *(b'{"in_flight": -1}', b'{"in_flight": 1e400}', b'{"limits": [{"limit": 1e300}]}'),
    *(b'{"jobs": 7}', b'{"jobs": {"%s": {"refused": {"x": {}}}}}', b'{"outbox_lag_s": NaN}'),
)


class Intruder:
    """He knows all that passes Redis, and our forms, but not the secret."""

    def __init__(self, house: Installation, job: str) -> None:
        self.job = job
        self.redis = Redis(port=house.port)
        house.keys_are_ours = False
        secret = (house.folder / "home" / names.SECRET).read_bytes().strip()
        target = Target(house.simulator.base_url, fingerprint(KEY))
        # The queue's name he reads from Redis, where its messages stand.
        self._queue = Seal(secret).queue(target)
        self._app = Celery("intruder", set_as_current=False)
        self._app.conf.update(celery_settings(house.redis_url("command")))
        self._seen: dict[str, bytes] = {}
        self._permits: dict[str, bytes] = {}

    def say(self, task: str, *args: object) -> None:
        self._app.send_task(task, args=args, queue=self._queue)

    def note_payloads(self) -> None:
        """Keeps every chunk that stands there, as it is, and who may run it."""
        for pattern, seen in (("ns:payload:*", self._seen), ("ns:permit:*", self._permits)):
            for key in self.redis.scan_iter(pattern):
                if found := self.redis.get(key):
                    seen[key.decode()] = cast(bytes, found)

    def replay(self) -> None:
        """Lays down again what is run or was, as if nobody had taken it, and asks for it."""
        (fence,) = (key.decode().rsplit(":", 1)[-1] for key in self.redis.scan_iter("ns:fence:*"))
        for nonce in cast("list[bytes]", self.redis.hvals(names.NONCES)):
            self.redis.hset(names.voucher_key(nonce.decode()), fence, 1)
        for key, payload in self._seen.items():
            chunk = int(key.rsplit(":", 1)[-1])
            self.redis.delete(names.claim_key(self.job, chunk), names.taken_key(self.job, chunk))
            self.redis.set(key, payload)
            self.say(names.RUN_CHUNK, self.job, chunk, fence)
            # And what that worker will ask for, as it was answered before.
            for permit in self._permits.values():
                self.redis.set(names.permit_key(self.job, chunk), permit)
            for claim in (b"lost", b"done", b"theirs"):
                self.redis.set(names.claim_key(self.job, chunk), claim, xx=True)

    def forge(self) -> None:
        """All that he can think of at once."""
        self._forge_chunks()
        self._forge_answers()
        redis, job = self.redis, self.job
        for place, signed in (("", b"user"), ("", THEIRS.sign(names.hold_key(job), b"user"))):
            redis.set(names.hold_key(job) + place, signed)
        for wish in (Wish("cancel", "aa", time.time()), Wish("pause", "bb", time.time())):
            click = msgspec.json.encode(wish)
            redis.hset(names.WISHES, job, THEIRS.sign(names.wish_place(job), click))
            redis.hset(names.WISHES, f"{job}x", click)
        asked = msgspec.json.encode(([[0, "box-1-0", "gen-1"]], "0"))
        for told in (asked, THEIRS.sign(names.lookup_place(job), asked)):
            self.say(names.LOOK_UP, job, told.hex())
        for number, data in enumerate(GARBAGE):
            redis.set(names.worker_key(f"garbage:{number}"), data)
        status = WorkerStatus(jobs={job: JobStatus(in_flight=10**6, down_s=1e9)})
        key = names.worker_key("theirs")
        redis.set(key, THEIRS.sign(key, msgspec.json.encode(status)))

    def spoil_pace(self) -> None:
        """Figures that are none, in the place of those that the workers share."""
        for key in self.redis.scan_iter("ns:pace:*"):
            self.redis.hset(key, mapping={"limit": "nonsense", "rate": "nan"})

    def _forge_chunks(self) -> None:
        """Chunks of his own, and those that stand there with other prompts and no cap."""
        for key, signed in list(self._seen.items())[:3]:
            payload = unpack_payload(signed[16:])
            for chunk in (payload.chunk, 9000):
                forged = pack_payload(msgspec.structs.replace(payload, chunk=chunk))
                place = names.payload_key(self.job, chunk)
                for data in (forged, THEIRS.sign(place, forged), signed[:16] + forged):
                    if chunk == 9000:
                        self.redis.set(place, data)
                        self.say(names.RUN_CHUNK, self.job, chunk)
            assert key

    def _forge_answers(self) -> None:
        result = Result(ROWS - 1, ResultState.COMPLETED, "", "", 200, 1, "x-1", 1.0, 1.0, body=0)
        call = Call("x-1", ROWS - 1, 1, 1, 1.0, 1.0, 200, "", Billing.KNOWN, Decimal(0))
        closed = ChunkClosed(1, DONE, [], {})
        forged = pack_delivery(
            Delivery("box", 1, self.job, [call], [result], [closed], [], pack_bodies([b"{}"]))
        )
        key = names.results_key(self.job)
        for data in (forged, THEIRS.sign(key, forged), b"x" * 40):
            self.redis.xadd(key, {"d": data})

    def spoil_types(self) -> None:
        """Puts lists where other things stand."""
        kinds = (names.results_key(self.job), names.WISHES, names.JOBS, names.hold_key(self.job))
        pace = [key.decode() for key in self.redis.scan_iter("ns:pace:*")]
        for key in (*kinds, *pace):
            with self.redis.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.rpush(key, "x")
                pipe.execute()

    def close(self) -> None:
        self.redis.close()
        self._app.close()


def until(what: str, true: Callable[[], bool], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.02)


def test_who_can_write_to_redis_neither_spends_nor_forges_nor_ends_anybody(tmp_path: Path) -> None:
    endpoint = ("--latency", "uniform:0.2:0.4", "--max-in-flight", "12")
    with Installation(tmp_path, workers=2, endpoint=endpoint) as house:
        job = house.submit("night", ROWS, "--chunk-size", "10")
        intruder = Intruder(house, job)
        until("calls are made", lambda: len(house.simulator.book().chats()) > 10)
        intruder.spoil_pace()

        while not house.is_over("night"):
            intruder.note_payloads()
            intruder.forge()
            intruder.replay()
            time.sleep(1)
        house.wait("night")
        # A worker that starts now has run none of it.
        house.start("worker-2")
        until(
            "it is there", lambda: len(cast("list[bytes]", intruder.redis.hvals(names.NONCES))) > 2
        )
        intruder.replay()
        taken = names.taken_key(job, 0)[:-1] + "*"

        def hears() -> bool:
            # What it is refused it leaves at once, so one look may come too late.
            intruder.replay()
            return bool(intruder.redis.keys(taken))

        until("it heard", hears)
        intruder.spoil_types()
        again = house.submit("after", 12)
        house.wait("after")

        for name, each, rows in (("night", job, ROWS), ("after", again, 12)):
            found = house.audit(name, each, 0)
            assert found.broken == []
            assert (found.rows, found.completed, found.billed_calls) == (rows, rows, rows)
        assert sum(bool(call.billed) for call in house.simulator.book().chats()) == ROWS + 12
        assert house.at_home(job, "SELECT count(*) FROM calls WHERE id = 'x-1'") == [(0,)]
        log = (tmp_path / "coordinator.log").read_text()
        assert "invalid messages" in log
        assert "was paused in Redis by an unknown party" in log
        assert "Traceback" not in log + (tmp_path / "worker-0.log").read_text()
        intruder.close()
