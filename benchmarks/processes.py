"""Processes that run: who descends from whom, and how much memory each takes. Linux only."""

from __future__ import annotations

import re
from pathlib import Path

_ROLES = {"-m\0workers": "worker", "valkey-server": "server", "-m\0batch": "run"}
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    mine, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in mine} - mine
        grown, mine = bool(more), mine | more
    return mine


def tree(root: int) -> dict[int, str]:
    """Those of Nightshift that descend from `root`, each with its role."""
    return {pid: role for pid in family(root) if (role := _role(pid))}


def _role(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
    return next((role for word, role in _ROLES.items() if word in command), "")


def pss(pid: int) -> int:
    """Kilobytes of a process, shared pages by their share; 0 when it is gone."""
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
