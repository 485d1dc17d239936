"""In which order a job's requests are fed, and which of them are not fed at all.

Mostly they are fed as they stand in the file; then the view `queue` is the table of requests. A
sample that goes first, prompts with a shared beginning that are kept together, or requests that are
not bought make an order of their own: the table `feeding`. Outputs stand in the file's order all
the same. Constant memory: SQLite sorts on disk.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

import msgspec

from jobs.request import Request
from jobs.request_kinds import KINDS

PREFIX_BYTES = 4096
"""Prompts that share so many bytes share about 1,024 tokens, the least that caches keep."""

LEAD = 512
"""So many requests ahead of the others of its group its first one is fed: it warms the cache."""

_AT_ONCE = 2000
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Marks:
    """Notes of each request, while the file is read, what the order may depend on.

    `alike`: whether requests that are alike are to be found.
    """

    def __init__(self, db: sqlite3.Connection, *, alike: bool = False) -> None:
        self._db = db
        self._alike = alike
        self._rows: list[tuple[int, bytes | None, bool, int | None]] = []
        db.execute("CREATE TEMP TABLE marks (ordinal INTEGER PRIMARY KEY, twin, chance, prefix)")

    def see(self, ordinal: int, request: Request) -> None:
        """Takes in a request."""
        twin, chance = twin_of(request.body, request.kind) if self._alike else (None, False)
        prefix = _prefix(request) if len(request.body) > PREFIX_BYTES else None
        if twin is None and prefix is None:
            return
        self._rows.append((ordinal, twin, chance, prefix))
        if len(self._rows) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes down what was noted."""
        self._db.executemany("INSERT INTO marks VALUES (?, ?, ?, ?)", self._rows)
        self._rows.clear()


def twin_of(body: bytes, kind: str) -> tuple[bytes, bool]:
    """What requests to one model have in common that are alike: all members, in whatever order they
    stand. `kind` is what is asked. And whether chance has a say: a temperature above 0.
    """
    members = _members(body)
    members.pop("model", None)
    content = b"\0".join(key.encode() + b"\0" + bytes(members[key]) for key in sorted(members))
    chance = not _is_zero(members.get("temperature"))
    return blake2b(content + kind.encode(), digest_size=16).digest(), chance


def _is_zero(temperature: msgspec.Raw | None) -> bool:
    """Whether chance has no say, or nobody said that it has."""
    if temperature is None or bytes(temperature) == b"null":
        return True
    try:
        return float(bytes(temperature)) == 0
    except ValueError:
        return False


def _prefix(request: Request) -> int:
    start = max(request.body.find(b'"%b"' % KINDS[request.kind].asks.encode()), 0)
    head = request.body[start : start + PREFIX_BYTES]
    digest = blake2b(head, digest_size=8, person=b"prefix", salt=_salt(request.model)).digest()
    return int.from_bytes(digest, signed=True)


def _salt(model: str) -> bytes:
    return blake2b(model.encode(), digest_size=16).digest()


_ALIKE = (
    "SELECT twin, model, ordinal FROM marks JOIN requests USING (ordinal)"
    " WHERE twin IS NOT NULL AND (NOT chance OR ?) AND ordinal NOT IN (SELECT ordinal FROM results)"
)
"""Requests by what they ask; those that ask for chance only if they count, too."""


def mark_copies(db: sqlite3.Connection, *, chance: bool = False) -> int:
    """Of requests that are alike all but the first become copies of it; returns how many."""
    return db.execute(
        f"INSERT INTO copies WITH alike AS ({_ALIKE})"  # noqa: S608  constants
        " SELECT ordinal, first FROM alike JOIN (SELECT twin, model, min(ordinal) AS first"
        "  FROM alike GROUP BY twin, model HAVING count(*) > 1) USING (twin, model)"
        " WHERE ordinal > first",
        (chance,),
    ).rowcount


def index_alike(db: sqlite3.Connection, *, chance: bool = False) -> None:
    """Makes the table `alike`, in which requests are found by what they ask."""
    db.execute(f"CREATE TEMP TABLE alike AS {_ALIKE}", (chance,))
    db.execute("CREATE INDEX temp.alike_by_twin ON alike (twin)")


def arrange(db: sqlite3.Connection, first: list[int], cached: set[int]) -> int:
    """Sets the order: `first`, then prompts with a shared beginning together, for the models (by
    number) with a `cached` price.

    Returns how many requests at the front are to be answered before the others leave, because they
    warm caches.
    """
    groups = _groups(db, cached)
    (unbought,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM copies) OR EXISTS (SELECT 1 FROM results)"
    ).fetchone()
    if not first and not unbought and groups < 2:
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
        " WHERE requests.ordinal NOT IN (SELECT ordinal FROM copies)"
        " AND requests.ordinal NOT IN (SELECT ordinal FROM results))",
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
        " AND ordinal NOT IN (SELECT ordinal FROM copies)"
        " AND ordinal NOT IN (SELECT ordinal FROM results) GROUP BY prefix HAVING count(*) > 1"
    ).rowcount
    db.execute("CREATE INDEX temp.groups_first ON groups (first)")
    return found
