"""Changes to requests that have no result yet: another model, a bound of the answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from batch.store import database

_OPEN = "ordinal NOT IN (SELECT ordinal FROM results)"


@dataclass(frozen=True)
class Revision:
    """What is to change. `models`: other names for some; `override`: one for all; `max_tokens`: the
    bound of answers that have none.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    override: str | None = None
    max_tokens: int | None = None

    def __bool__(self) -> bool:
        return bool(self.models or self.override or self.max_tokens)

    def model(self, name: str) -> str:
        """What a model is called from now on."""
        named = self.override or name
        return self.models.get(named, named)

    def bound(self, output: int | None) -> int | None:
        """The tokens that an answer may have from now on."""
        return self.max_tokens if output is None else output

    @property
    def longer(self) -> int:
        """Bytes by which a body without a bound grows."""
        return len(f'"max_tokens":{self.max_tokens},') if self.max_tokens else 0


UNREVISED = Revision()


def revise(db: sqlite3.Connection, revision: Revision) -> None:
    """Changes the rows; their bodies are brought in line when they are sent."""
    with database.transaction(db):
        rows = db.execute("SELECT id, name, pin, kind FROM models").fetchall()
        for number, name, *rest in rows:
            wanted = revision.model(name)
            if wanted != name:
                give_model(db, number, _number(db, wanted, *rest), len(wanted) - len(name))
        if revision.max_tokens is not None:
            db.execute(
                "UPDATE requests SET output_bound = ?, prompt_bound = prompt_bound + ?"  # noqa: S608
                f" WHERE output_bound IS NULL AND {_OPEN}",
                (revision.max_tokens, revision.longer),
            )


def give_model(db: sqlite3.Connection, old: int, new: int, longer: int) -> None:
    """Those of one model are for another, whose name is so many bytes longer."""
    db.execute(
        f"UPDATE requests SET model = ?, prompt_bound = prompt_bound + ? WHERE model = ? AND {_OPEN}",  # noqa: S608, E501
        (new, max(longer, 0), old),
    )


def _number(db: sqlite3.Connection, name: str, pin: str, kind: str) -> int:
    db.execute(
        "INSERT OR IGNORE INTO models SELECT coalesce(max(id), -1) + 1, ?, ?, ? FROM models",
        (name, pin, kind),
    )
    (number,) = db.execute(
        "SELECT id FROM models WHERE name = ? AND pin = ? AND kind = ?", (name, pin, kind)
    ).fetchone()
    return int(number)
