"""Why what is shown of a job may not be how it stands: found by whoever looks, nowhere on disk."""

from __future__ import annotations

import msgspec

from batch.language import _, clock
from jobs.message import N_, Message

NO_SERVER = N_("the embedded server does not answer")


class Attention(msgspec.Struct, frozen=True):
    """What is wrong, `since` when, and of when what is shown is (`shown_at`); Unix seconds."""

    text: Message
    since: float
    shown_at: float

    def age_s(self, now: float) -> float:
        """How old what is shown is."""
        return max(0.0, now - self.shown_at)

    def as_json(self, now: float) -> dict[str, object]:
        """For programs."""
        return {
            "text": str(self.text),
            "since": round(self.since, 1),
            "shown_at": round(self.shown_at, 1),
            "age_s": round(self.age_s(now), 1),
        }


def told(attention: Attention, age: str) -> str:
    """A sentence; `age` is that of what is shown, in words."""
    sentence = _("{trouble}, since {moment}; showing data from {age} ago")
    since = clock(attention.since)
    return sentence.format(trouble=_(attention.text), moment=since, age=age)
