"""Gathers all that people read, brings the translations up to date, and compiles them.

Babel gathers `N_("…")`, `_("…")` and `ngettext`, also from templates, and click's own words.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from babel.messages import pofile
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.mofile import write_mo

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "batch" / "languages"
LANGUAGES = ("ru",)
_CLICK = ("core", "decorators", "exceptions", "formatting", "parser", "termui", "types")
_CLICKS_KEYWORDS = {"_": None, "ngettext": (1, 2)}
_KEYWORDS = {**_CLICKS_KEYWORDS, "N_": None}
_METHODS = [
    ("api/**", "ignore"),  # said to programs, in the words of OpenAI's API
    ("**.py", "python"),
    ("**.html", "jinja2.ext:babel_extract"),
]
_OPTIONS = {"**.html": {"trimmed": "true", "silent": "false"}}

_NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""In place of the date that the format wants: the same messages make the same files."""

Message = str | tuple[str, ...]
"""A message, or its singular and plural."""


def messages() -> Iterator[tuple[str, Message]]:
    """Where each stands, and the message."""
    for folder in ("batch", "jobs", "workers"):
        for name, _line, message, _comments, _context in extract_from_dir(
            ROOT / folder, _METHODS, _OPTIONS, _KEYWORDS
        ):
            yield f"{folder}/{name}", message
    for name in _CLICK:
        path = Path(click.__file__).with_name(f"{name}.py")
        for _line, message, _comments, _context in extract_from_file(
            "python", path, _CLICKS_KEYWORDS
        ):
            yield f"click/{name}.py", message


def gathered() -> Catalog:
    """A catalogue of all messages, without translations."""
    catalog = Catalog()
    for where, message in messages():
        catalog.add(message, locations=[(where, 0)])
    return catalog


def po_path(language: str) -> Path:
    """Where its translations stand."""
    return FOLDER / language / "LC_MESSAGES" / "nightshift.po"


def read(language: str) -> Catalog:
    """The translations as they are on disk."""
    path = po_path(language)
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as file:
        return pofile.read_po(file, locale=language)


def updated(language: str) -> Catalog:
    """The translations, with what is new and without what is gone."""
    catalog = read(language)
    catalog.update(gathered(), no_fuzzy_matching=True)
    catalog.creation_date = catalog.revision_date = _NO_DATE
    catalog.header_comment = "# What Nightshift says; see scripts/languages."
    catalog.project, catalog.version, catalog.fuzzy = "nightshift", "", False
    catalog.last_translator = catalog.language_team = "Nightshift"
    catalog.obsolete.clear()
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """The bytes of the `.mo`."""
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def missing(catalog: Catalog) -> list[str]:
    """Messages without a translation, or with half of one."""
    return [
        str(message.id)
        for message in catalog
        if message.id
        and not all(message.string if isinstance(message.string, tuple) else (message.string,))
    ]


def main() -> int:
    """Writes `.po` and `.mo` of every language; 1 if a translation is missing."""
    lacking = 0
    for language in LANGUAGES:
        catalog = updated(language)
        path = po_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            pofile.write_po(
                file, catalog, width=100, include_lineno=False, sort_by_file=True, omit_header=False
            )
        path.with_suffix(".mo").write_bytes(compiled(catalog))
        for message in missing(catalog):
            lacking += 1
            print(f"{language}: no translation: {message}", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
