"""What was clicked in Flower, and what came of it."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Annotated, cast

import msgspec

from batch.coordinator.redis.redis_client import while_running
from batch.coordinator.redis.signed import SignedRedis, read_json
from jobs import names
from jobs.constraints import Seconds
from jobs.errors import BadMessage

_ANSWER_S = 60

_WISH_S = 60.0
"""A click that nobody heard for so long is not heeded later, when nobody expects it any more."""

MOST_WISHES = 1000
"""More of them than this are not of our making."""

Word = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{1,64}$")]


class Wish(msgspec.Struct, frozen=True):
    """A click in Flower at `at`, Unix seconds by Redis's clock; its answer is told to `token`.

    `codes` of failures to retry, `figures` of the job's settings to change, as text; the `file`
    that is wanted, from `offset` on.
    """

    wish: Word
    token: Word
    at: Seconds
    codes: tuple[str, ...] = ()
    figures: dict[str, str] = {}
    file: str = ""
    offset: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0


class Clicks:
    """For all jobs at one server."""

    def __init__(self, at: SignedRedis) -> None:
        self._at = at
        self._heeded: OrderedDict[str, float] = OrderedDict()

    def wishes(self) -> dict[str, Wish]:
        """What was clicked, and not yet taken, by its place: a job, or a job and "/" with whatever
        tells clicks apart that are made at a time. What is too old is dropped, and so is what
        nobody signed or what was heeded before.
        """
        found = self._at.typed({names.WISHES: b"hash"}, self._clicked)
        read = {place: self._wish(_text(place), data) for place, data in found.items()}
        now = self._at.time() if found else 0
        # As they stand there: a place that is no text would not be found by what is shown of it.
        stale = [each for each, wish in read.items() if wish is None or self._is_stale(wish, now)]
        if stale:
            with while_running():
                self._at.redis.hdel(names.WISHES, *stale)
        return {_text(each): wish for each, wish in read.items() if wish and each not in stale}

    def _clicked(self) -> dict[bytes, bytes]:
        if self._at.redis.hlen(names.WISHES) > MOST_WISHES:
            self._at.redis.delete(names.WISHES)
        return cast(dict[bytes, bytes], self._at.redis.hgetall(names.WISHES))

    def _wish(self, job: str, data: bytes) -> Wish | None:
        signed = self._at.ours(names.wish_place(job), data)
        try:
            return None if signed is None else read_json(signed, Wish)
        except BadMessage:
            return None

    def _is_stale(self, wish: Wish, now: int) -> bool:
        return wish.token in self._heeded or not -_WISH_S < now - wish.at < _WISH_S

    def take_wish(self, place: str, token: str) -> bool:
        """Makes a wish ours; False if it was withdrawn, or somebody else took it."""
        with while_running():
            taken = bool(self._at.redis.hdel(names.WISHES, place))
        now = self._heeded[token] = time.monotonic()
        while now - next(iter(self._heeded.values())) > 2 * _WISH_S:
            self._heeded.popitem(last=False)
        return taken

    def answer(self, token: str, told: str | bytes, *, life_s: int = _ANSWER_S) -> None:
        """Tells who clicked what came of it."""
        data = told.encode() if isinstance(told, str) else told
        self._at.put(names.answer_key(token), data, life_s=life_s)


def _text(place: bytes) -> str:
    return place.decode(errors="replace")
