"""Packages that Nightshift can do without, and how to install one where it runs."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec


def install_command(package: str) -> str:
    """The command that installs `package` beside Nightshift, wherever it was started from.

    It names the package and not an extra of Nightshift: in another environment than ours an
    installer would fetch the extra of whoever else has published something of that name.
    """
    if find_spec("pip"):
        return shlex.join((sys.executable, "-m", "pip", "install", package))
    return shlex.join(("uv", "pip", "install", "--python", sys.executable, package))
