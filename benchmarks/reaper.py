"""Runs a command and tells the CPU of it and of everything it left: python reaper.py COMMAND …

Descendants that outlive their parents are adopted (Linux: PR_SET_CHILD_SUBREAPER), waited for, and
so counted; elsewhere only children that were waited for are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Runs the command; its exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = subprocess.run(sys.argv[1:], check=False).returncode
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"cpu_s={used.ru_utime + used.ru_stime}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
