"""Faults and warnings that are alike, told once: how many there are, and the first lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from jobs.request import Fault

MOST_GROUPS = 100
"""Kinds that are kept apart; further ones are only counted."""

MOST_LINES = 5
"""Lines of a kind that are named."""

_DIFFERS = re.compile(r"'[^']*'|\d+")
"""What may differ between faults of one kind: names and figures."""


@dataclass
class Group:
    """Faults of one kind: the first of them, how many, and the lines of the first few."""

    first: Fault
    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Counts one more; lines need not come in order."""
        self.count += 1
        self.lines = sorted([*self.lines, line])[:MOST_LINES]


@dataclass
class Groups:
    """All kinds that were met, in the order of their first fault."""

    found: dict[tuple[str, str], Group] = field(default_factory=dict)
    others: int = 0

    def add(self, fault: Fault) -> None:
        """Takes a fault in."""
        kind = (fault.code, _DIFFERS.sub("…", fault.message))
        group = self.found.get(kind)
        if group is None and len(self.found) >= MOST_GROUPS:
            self.others += 1
            return
        group = group or self.found.setdefault(kind, Group(fault))
        if group.first.form is not None and fault.form is not None and not fault.form.command:
            # What rewrites one of them but not all would lose something of the others.
            group.first = msgspec.structs.replace(group.first, form=fault.form)
        group.add(fault.line)

    def most_common(self) -> Group | None:
        """The kind with the most faults."""
        return max(self.found.values(), key=lambda group: group.count, default=None)
