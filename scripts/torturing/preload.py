"""Libraries that are built on the spot and loaded into a process before the C library."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

_SOURCES = Path(__file__).parent
_FOUND = "ld"


def build(name: str, folder: Path) -> Path:
    """Compiles `NAME.c` of this folder. Raises SystemExit where there is no C compiler."""
    if not has_compiler():
        raise SystemExit("SKIPPED, NOT RUN: this needs cc, which is not installed")
    library = folder / f"{name}.so"
    options = ("-O2", "-shared", "-fPIC", "-o", str(library))
    subprocess.run(["cc", *options, str(_SOURCES / f"{name}.c")], check=True)  # noqa: S607
    return library


def has_compiler() -> bool:
    """Whether anything can be built here."""
    return shutil.which("cc") is not None


class Crashpoint:
    """The Nth call of a kind below a folder kills its process (`error` 0) or fails with an `errno`.

    The kinds are told in `crashpoint.c`. `and_all_after`: so do all that follow. It is met by the
    process that is started with `environ` added to its environment.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        error: int,
        number: int,
        *,
        below: Path,
        and_all_after: bool = False,
    ) -> None:
        library = folder / "crashpoint.so"
        if not library.exists():
            build("crashpoint", folder)
        self._seen = folder / "crashpoint.seen"
        self._seen.write_bytes(bytes(4096))
        self._number = number
        self.environ = {
            "LD_PRELOAD": str(library),
            "CRASHPOINT": f"{kind}:{error}:{number}{'+' * and_all_after}",
            "CRASHPOINT_UNDER": str(below),
            "CRASHPOINT_SEEN": str(self._seen),
        }

    @property
    def is_reached(self) -> bool:
        """Whether there was an Nth."""
        calls: int = self._found()[0]
        return calls >= self._number

    @property
    def at(self) -> float:
        """When a call was struck, in the machine's monotonic seconds; 0 if none was."""
        at: float = self._found()[1]
        return at

    @property
    def struck(self) -> str:
        """The path of the call that was struck; empty if none was."""
        return self._seen.read_bytes()[struct.calcsize(_FOUND) :].rstrip(b"\0").decode()

    def _found(self) -> tuple[Any, ...]:
        return struct.unpack_from(_FOUND, self._seen.read_bytes())
