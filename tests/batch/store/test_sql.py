"""Whoever wants something of a job's file asks `batch.store`: no SQL stands elsewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

BATCH = Path(__file__).parents[3] / "batch"
STATEMENT = re.compile(
    r"\s*(SELECT|INSERT (OR|INTO)|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA)\b"
)


def statements(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [text for text in texts if isinstance(text, str) and STATEMENT.match(text)]


def test_all_sql_stands_in_the_store() -> None:
    found = {
        str(path.relative_to(BATCH)): statements(path)
        for path in BATCH.rglob("*.py")
        if path.relative_to(BATCH).parts[0] != "store"
    }
    assert {path: texts for path, texts in found.items() if texts} == {}
    assert statements(BATCH / "store" / "request_queue.py")
