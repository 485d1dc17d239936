"""How the command ends whatever happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_full_disk_behind_standard_output_is_told_in_a_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "batch", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 4
    assert ended.stderr.splitlines() == [
        "nightshift: the output cannot be written: No space left on device",
        "  free up space and run the command again; no answers are lost",
    ]
