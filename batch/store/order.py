"""In which order a job's requests are fed, and which of them are not fed at all.

Mostly they are fed as they stand in the file; then the view `queue` is the table of requests. A
sample that goes first, prompts with a shared beginning that are kept together, or copies that are
not bought make an order of their own: the table `feeding`. Outputs stand in the file's order all
the same. Constant memory: SQLite sorts on disk.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

import msgspec

from jobs.request import Request

PREFIX_BYTES = 4096
"""Prompts that share so many bytes share about 1,024 tokens, the least that caches keep."""

LEAD = 512
"""So many requests ahead of the others of its group its first one is fed: it warms the cache."""

_AT_ONCE = 2000
_AT = b'"messages"'
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Marks:
    """Notes of each request, while the file is read, what the order may depend on.

    `dedupe`: "" for no copies, "same" for requests that are alike and do not ask for chance (a
    temperature above 0), "all" for all that are alike.
    """

    def __init__(self, db: sqlite3.Connection, dedupe: str = "") -> None:
        self._db = db
        self._dedupe = dedupe
        self._rows: list[tuple[int, bytes | None, int | None]] = []
        db.execute("CREATE TEMP TABLE marks (ordinal INTEGER PRIMARY KEY, twin, prefix)")

    def see(self, ordinal: int, request: Request) -> None:
        """Takes in a request."""
        twin = self._twin(request.body) if self._dedupe else None
        prefix = _prefix(request) if len(request.body) > PREFIX_BYTES else None
        if twin is None and prefix is None:
            return
        self._rows.append((ordinal, twin, prefix))
        if len(self._rows) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes down what was noted."""
        self._db.executemany("INSERT INTO marks VALUES (?, ?, ?)", self._rows)
        self._rows.clear()

    def _twin(self, body: bytes) -> bytes | None:
        """What alike requests have in common: all members, in whatever order they stand."""
        members = _members(body)
        if self._dedupe == "same" and not _is_zero(members.get("temperature")):
            return None
        content = b"\0".join(key.encode() + b"\0" + bytes(members[key]) for key in sorted(members))
        return blake2b(content, digest_size=16).digest()


def _is_zero(temperature: msgspec.Raw | None) -> bool:
    """Whether chance has no say, or nobody said that it has."""
    if temperature is None or bytes(temperature) == b"null":
        return True
    try:
        return float(bytes(temperature)) == 0
    except ValueError:
        return False


def _prefix(request: Request) -> int:
    start = max(request.body.find(_AT), 0)
    head = request.body[start : start + PREFIX_BYTES]
    digest = blake2b(head, digest_size=8, person=b"prefix", salt=_salt(request.model)).digest()
    return int.from_bytes(digest, signed=True)


def _salt(model: str) -> bytes:
    return blake2b(model.encode(), digest_size=16).digest()


def mark_copies(db: sqlite3.Connection) -> int:
    """Of requests that are alike all but the first become copies of it; returns how many."""
    return db.execute(
        "INSERT INTO copies SELECT ordinal, first FROM marks JOIN requests USING (ordinal)"
        " JOIN (SELECT twin, min(ordinal) AS first FROM marks JOIN requests USING (ordinal)"
        "  WHERE twin IS NOT NULL GROUP BY twin HAVING count(*) > 1) USING (twin)"
        " WHERE ordinal > first"
    ).rowcount


def arrange(db: sqlite3.Connection, first: list[int], cached: set[int]) -> int:
    """Sets the order: `first`, then prompts with a shared beginning together, for the models (by
    number) with a `cached` price.

    Returns how many requests at the front are to be answered before the others leave, because they
    warm caches.
    """
    groups = _groups(db, cached)
    (copies,) = db.execute("SELECT EXISTS (SELECT 1 FROM copies)").fetchone()
    if not first and not copies and groups < 2:
        (leads,) = db.execute(
            "SELECT EXISTS (SELECT 1 FROM groups WHERE first = (SELECT min(ordinal) FROM requests))"
        ).fetchone()
        return int(leads)
    db.execute("CREATE TEMP TABLE ahead (ordinal INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO ahead VALUES (?)", [(ordinal,) for ordinal in first])
    db.execute(
        "INSERT INTO feeding SELECT row_number() OVER (ORDER BY sampled DESC,"
        " place - iif(leads, ?, 0), place) - 1, ordinal FROM ("
        " SELECT requests.ordinal AS ordinal,"
        "  requests.ordinal IN (SELECT ordinal FROM ahead) AS sampled,"
        "  groups.first IS NOT NULL AND groups.first = requests.ordinal AS leads,"
        "  row_number() OVER (ORDER BY coalesce(groups.first, requests.ordinal),"
        "   requests.ordinal) AS place"
        " FROM requests LEFT JOIN marks USING (ordinal) LEFT JOIN groups USING (prefix)"
        " WHERE requests.ordinal NOT IN (SELECT ordinal FROM copies))",
        (LEAD,),
    )
    db.execute("DROP VIEW queue")
    db.execute(
        "CREATE VIEW queue AS SELECT rank, requests.*"
        " FROM feeding JOIN requests ON requests.ordinal = feeding.ordinal"
    )
    if first:
        return 0
    (warm,) = db.execute(
        "SELECT coalesce((SELECT min(rank) FROM feeding WHERE NOT EXISTS"
        " (SELECT 1 FROM groups WHERE first = ordinal)), 0)"
    ).fetchone()
    return int(warm)


def _groups(db: sqlite3.Connection, cached: set[int]) -> int:
    """Finds prompts with a shared beginning; returns how many such beginnings there are."""
    db.execute("CREATE TEMP TABLE groups (prefix PRIMARY KEY, first INTEGER) WITHOUT ROWID")
    db.execute("CREATE TEMP TABLE cached (model INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO cached VALUES (?)", [(model,) for model in cached])
    found = db.execute(
        "INSERT INTO groups SELECT prefix, min(ordinal) FROM marks JOIN requests USING (ordinal)"
        " WHERE prefix IS NOT NULL AND model IN (SELECT model FROM cached)"
        " AND ordinal NOT IN (SELECT ordinal FROM copies) GROUP BY prefix HAVING count(*) > 1"
    ).rowcount
    db.execute("CREATE INDEX temp.groups_first ON groups (first)")
    return found
