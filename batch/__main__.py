"""The `nightshift` command, also as `python -m batch`."""

import gc
import os
import sys


def main() -> None:
    """Runs it; a package that is missing, or too old, is named."""
    # Of a command's start, the collector takes a twelfth, for modules that live as long as it does,
    # and pydantic's search for plugins a fourteenth. The command takes the collector up again.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from batch.main import main as run

        run()
    except ImportError as error:
        lacking = f"the Python module {error.name or error} is missing or does not fit"
        print(f"nightshift: {lacking}", file=sys.stderr)
        print("  reinstall nightshift with its dependencies", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:
        # While it was loading, or a second one while it said that it ends.
        sys.exit(130)


if __name__ == "__main__":
    main()
