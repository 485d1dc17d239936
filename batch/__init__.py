"""The program at the user's side: it reads, keeps, feeds, gathers, and tells what came of it."""

import os
import sys


def _is_here(folder: str) -> bool:
    try:
        return os.path.samefile(folder or ".", ".")  # noqa: PTH121  nothing else is loaded yet
    except OSError:
        return False


# Nothing is imported from the folder we are started in, where inputs lie: `python -m` and an empty
# part of PYTHONPATH put it first. Unless we ourselves come from there. `batch` and `workers` each
# say so, since a module they shared would have to be imported first.
if not _is_here(os.path.dirname(os.path.dirname(__file__))):  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if not _is_here(entry)]
