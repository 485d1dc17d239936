"""`python -m workers`: see `workers.program`."""

import gc
import os
import sys

# What is imported lives for ever: looking through it again and again takes a sixth of the imports'
# CPU (0.77 s against 0.63 s). The program takes the collector up again.
gc.disable()
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # nor is there any to look for


def _run() -> int:
    try:
        from workers.program import main

        return main()
    except ImportError as error:
        lacking = f"the Python module {error.name or error} is missing or does not fit"
        print(f"nightshift worker: {lacking}", file=sys.stderr)
        print("  reinstall nightshift with its dependencies", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while it was loading
        return 130


if __name__ == "__main__":
    sys.exit(_run())
