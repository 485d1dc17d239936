"""The home's memory of one job: a SQLite file and the snapshot of its input."""
