"""Commands that are told to stop; `scripts/torture signals` tries all of them at many moments."""

from __future__ import annotations

import signal
from pathlib import Path

from scripts.torturing.house import House
from scripts.torturing.signals import Commands

SAMPLE = [
    ("coordinator", signal.SIGHUP, 2.0),
    ("worker", signal.SIGTERM, 3.0),
    ("results", signal.SIGTERM, 0.5),
    ("validate", signal.SIGINT, 0.3),
]


def test_a_command_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    with House(tmp_path, workers=0) as house:
        commands = Commands(house)
        for name, number, delay_s in SAMPLE:
            commands.signalled(name, number, delay_s, twice=False)
        commands.unread("preview")

        assert commands.tally.broken == []
        assert commands.tally.met >= 2
