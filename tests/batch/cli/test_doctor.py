"""What `doctor` makes of an endpoint."""

from __future__ import annotations

import subprocess
import sys

import pytest

from batch.commands import doctor


def test_a_check_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        (found,) = doctor._endpoint("http://127.0.0.1:1/v1", process)
        process.kill()

    assert not found.ok
    assert found.text == "http://127.0.0.1:1/v1: timed out"
