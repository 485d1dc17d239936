"""A rolling upgrade: the old release's worker and coordinator beside the new ones, under kills.

One Redis, one home, one job for each order: first the workers are new, or first the coordinator.
Releases that would not understand each other have different queues; then the job waits for those of
its own, and ends when all are new.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.auditor import Audit
from scripts.torturing.installation import ROOT, Installation

ORDERS = {
    "workers first": ("worker-0", "worker-1", "coordinator"),
    "coordinator first": ("coordinator", "worker-0", "worker-1"),
}
_BETWEEN_S = 5.0


@dataclass
class Outcome:
    """What an upgrade in this order came to."""

    order: str
    found: Audit
    broken: list[str] = field(default_factory=list)


class MixedHouse(Installation):
    """A house in which processes are of the release in `tree`, until each is upgraded."""

    def __init__(self, folder: Path, tree: Path, endpoint: Sequence[str]) -> None:
        super().__init__(folder, workers=2, endpoint=endpoint)
        self._tree = tree
        self._new: set[str] = set()

    def is_new(self, *names: str) -> None:
        """From their next start on these are of this release."""
        self._new.update(names)

    def environ(self, name: str = "command") -> dict[str, str]:
        """That of the old release imports from its tree."""
        found = super().environ(name)
        # The modules of the working folder would come first.
        old = {"PYTHONPATH": str(self._tree), "PYTHONSAFEPATH": "1"}
        return found if name in self._new else {**found, **old}

    def upgrade(self, name: str) -> None:
        """Kills a process and starts it anew, of this release."""
        self.kill(name)
        self.is_new(name)
        self.start(name)


def run(folder: Path, revision: str, rows: int) -> list[Outcome]:
    """Upgrades from a revision of this repository, in each order, a job of so many rows each."""
    tree = folder / "old"
    git = (shutil.which("git") or "git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--detach", tree, revision], check=True)
    try:
        return [_upgraded(folder / order.split()[0], tree, order, rows) for order in ORDERS]
    finally:
        subprocess.run([*git, "remove", "--force", tree], check=True)


def _upgraded(folder: Path, tree: Path, order: str, rows: int) -> Outcome:
    endpoint = ("--latency", "uniform:0.2:0.8", "--max-in-flight", "16")
    with MixedHouse(folder, tree, endpoint) as house:
        _check_old(house)
        job = house.submit("night", rows)
        while len(house.simulator.book().chats()) < rows // 5:
            time.sleep(0.2)
        for name in ORDERS[order]:
            house.upgrade(name)
            time.sleep(_BETWEEN_S)
        house.is_new("command")
        house.wait("night")
        found = house.audit("night", job)
        return Outcome(order, found, [f"{order}: {law}" for law in found.broken])


def _check_old(house: MixedHouse) -> None:
    """Whether what is to be old is imported from the old tree."""
    program = "import batch; print(batch.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **house.environ("coordinator")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if not told.startswith(house.environ("coordinator")["PYTHONPATH"]):
        raise RuntimeError(f"the old release is not what runs: {told}")
