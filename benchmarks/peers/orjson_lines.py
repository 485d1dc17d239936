"""Prints the CPU seconds of `orjson.loads` for every line: python orjson_lines.py INPUT"""

from __future__ import annotations

import sys
import time

import orjson  # type: ignore[import-not-found]

started = time.process_time()
with open(sys.argv[1], "rb") as file:  # noqa: PTH123
    for line in file:
        orjson.loads(line)
print(time.process_time() - started)
