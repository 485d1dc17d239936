"""Faults are met by the command as a person runs it, too."""

from __future__ import annotations

from tests.acceptance.conftest import shell

__all__ = ["shell"]
