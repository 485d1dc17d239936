"""The state of a running simulator: its stock, its accounts, its limits, its book."""

import hashlib
import time
from collections import Counter
from decimal import Decimal
from typing import Any

from aiohttp import web

from .accounts import Account, key_hash
from .book import CHAT, BookWriter
from .call_record import Call
from .catalogue import Catalogue
from .exact_json import plain
from .faults import Plot, Script, Seen
from .limits import Gate
from .options import Options
from .refusals import now_utc


class World:
    """All that calls share. A book that exists is carried on: its bill, its numbers, its ids."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.latency = options.latency
        self.catalogue = Catalogue()
        self.gate = Gate(options.limits)
        self.script = Script(options.rules, options.seed)
        self.account = Account(balance=options.balance)
        self.account.allow(options.keys or None)
        self.by_status: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        # Ids that several calls share (the fault `same_id`), each with the call that was billed.
        self.shared_ids: dict[str, int] = {}
        # Beginnings of prompts that were answered, if the provider's cache is played.
        self.prefixes: set[bytes] = set()
        self._started = time.time()
        self._calls = 0
        self._open = 0
        self._on_route: Counter[str] = Counter()
        self._attempts: Counter[int] = Counter()
        self._book = BookWriter(options.book)
        self._carry_on()

    def receive(self, request: web.Request, route: str, raw: bytes) -> Call:
        """Number a call, and count it."""
        self._calls += 1
        self._open += 1
        self._on_route[route] += 1
        digest = hashlib.sha256(raw).digest()
        return Call(
            number=self._calls,
            route=route,
            nth=self._on_route[route],
            attempt=self._attempt(route, digest),
            request=request,
            raw=raw,
            digest=digest,
            key=_key_of(request),
            id=self._new_id(self._calls),
        )

    def plot(self, call: Call) -> Plot:
        """What will go wrong with this call, which is counted as played."""
        seen = Seen(call.route, call.nth, call.attempt, call.raw, call.digest, call.model)
        plot = self.script.pick(seen)
        call.fault = plot.name
        if plot.name:
            self.by_fault[plot.name] += 1
        return plot

    def note_received(self, call: Call) -> None:
        """The call is in the book, and visible as in flight."""
        self._book.append(_stamped("received", call.number, call.received()))

    def note_finished(self, call: Call) -> None:
        """The call is over: its place is free, its second line in the book."""
        if call.place:
            used = call.generation.tokens.completion if call.generation else 0
            self.gate.leave(call.place.lane, used, call.place.bound)
        self._open -= 1
        self.by_status[str(call.status)] += 1
        self._book.append(_stamped("finished", call.number, call.finished()))

    def lookup(self, generation_id: str) -> dict[str, Any] | None:
        """The book's last record of the call with this id, once its lookup lag has passed."""
        call = self.shared_ids.get(generation_id) or _number_in(generation_id)
        record = self._book.finished(call) if call else None
        if record is None or record["id"] != generation_id or not record["generated"]:
            return None
        # A monotonic time ahead of ours is from before this machine was started.
        age = time.monotonic() - float(record["mono"])
        return None if 0 <= age < self.options.lookup_lag else record

    def stats(self) -> dict[str, Any]:
        """What `GET /_sim/stats` tells."""
        return {
            "calls": self._calls,
            "chat_calls": self._on_route["chat"],
            "by_route": dict(self._on_route),
            "open": self._open,
            "in_flight": self.gate.in_flight,
            "max_in_flight": self.gate.max_in_flight,
            "billed": plain(self.account.total),
            "balance": None if self.account.balance is None else plain(self.account.balance),
            "price_factor": plain(self.catalogue.factor),
            "by_status": dict(self.by_status),
            "by_fault": dict(self.by_fault),
        }

    def flush(self) -> None:
        """Hand the book to the system."""
        self._book.flush()

    def close(self) -> None:
        """Put the book on the disk; nothing can be booked any more."""
        self._book.close()

    def _attempt(self, route: str, digest: bytes) -> int:
        if route != "chat":
            return 1
        body = int.from_bytes(digest[:7], "big")
        self._attempts[body] += 1
        return self._attempts[body]

    def _new_id(self, number: int) -> str:
        # The number is in the id, so that a lookup finds the call without a table of ids.
        seeds = b"%d %d %d" % (self.options.seed, number, self._started)
        salt = hashlib.blake2b(seeds, digest_size=6).hexdigest()
        return f"gen-{int(self._started)}-{number:x}-{salt}"

    def _carry_on(self) -> None:
        for record in self._book.replay():
            if record["event"] == "received":
                self._calls = max(self._calls, record["call"])
                self._count_earlier(record)
            else:
                self._charge_earlier(record)

    def _count_earlier(self, record: dict[str, Any]) -> None:
        if record["path"].endswith(CHAT):
            self._on_route["chat"] += 1
            self._attempt("chat", bytes.fromhex(record["body"]))

    def _charge_earlier(self, record: dict[str, Any]) -> None:
        self.by_status[str(record["status"])] += 1
        if record["key"]:
            self.account.charge(record["key"], Decimal(record["billed"]))


def _stamped(event: str, call: int, record: dict[str, Any]) -> dict[str, Any]:
    now = {"at": now_utc().isoformat(timespec="microseconds"), "mono": time.monotonic()}
    return {"event": event, "call": call, **now, **record}


def _key_of(request: web.Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key_hash(key) if scheme.lower() == "bearer" and key else None


def _number_in(generation_id: str) -> int:
    parts = generation_id.split("-")
    try:
        return int(parts[2], 16) if len(parts) == 4 else 0
    except ValueError:
        return 0
