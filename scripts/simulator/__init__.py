"""RouterAI in small: a server that answers, charges, refuses and breaks as the real one does.

It is an independent witness. Nothing here imports the product, and its book of calls
(`book.read_book`) says what was asked, what was sent and what was billed, whatever the
product believes. Run it with ``python -m scripts.simulator --help``, or from a test with
`process.Simulator`.
"""

from .book import BookEntry, body_hash, canonical_hash, read_book
from .process import Simulator

__all__ = ["BookEntry", "Simulator", "body_hash", "canonical_hash", "read_book"]
