"""The `nightshift` command, also as `python -m batch`."""

import sys


def main() -> None:
    """Runs it; a package that is missing, or too old, is named."""
    try:
        from batch.main import main as run

        run()
    except ImportError as error:
        lacking = f"the Python module {error.name or error} is missing or does not fit"
        print(f"nightshift: {lacking}", file=sys.stderr)
        print("  reinstall nightshift with its dependencies", file=sys.stderr)
        sys.exit(4)


if __name__ == "__main__":
    main()
