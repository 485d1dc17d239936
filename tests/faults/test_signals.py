"""Commands that are told to stop; `scripts/torture signals` tries all of them at many moments."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.torturing.installation import ROOT, Installation
from scripts.torturing.signals import Commands

SAMPLE = [
    ("coordinator", signal.SIGHUP, 2.0),
    ("worker", signal.SIGTERM, 3.0),
    ("results", signal.SIGTERM, 0.5),
    ("review", signal.SIGINT, 0.6),
    ("validate", signal.SIGINT, 0.3),
]


def test_a_command_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    with Installation(tmp_path, workers=0) as house:
        commands = Commands(house)
        for name, number, delay_s in SAMPLE:
            commands.signalled(name, number, delay_s, twice=False)
        commands.unread("preview")

        assert commands.tally.broken == []
        assert commands.tally.met >= 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("error", ["TypeError", "ImportError"])
def test_a_signal_that_a_module_made_another_error_of_is_one(
    number: int, code: int, error: str
) -> None:
    """As `ulid` did of Ctrl-C while it was loaded."""
    program = (
        "import os, batch.main as it\n"
        "def main(**_):\n"
        f"    try: os.kill(os.getpid(), {int(number)})\n"
        f"    except BaseException: raise {error}('half loaded') from None\n"
        "it.cli.main = main\n"
        "it.main()\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert ended.returncode == code
    assert ended.stderr.strip() in ("", "interrupted")
