"""One file per command: its help first, then what it does."""
