"""Gathers all that people read, brings the translations up to date, and compiles them.

Gathered are `_("…")` and `ngettext`, also from templates; texts and hints of errors, faults and
failures, with f-strings as forms with blanks (`{0}`), for `batch.language.again`; helps of commands
and options; warnings of the log, which a foreground run shows; and click's own words.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from babel.messages import pofile
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo

from jobs import errors

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "batch" / "languages"
LANGUAGES = ("ru",)
_CLICK = ("core", "decorators", "exceptions", "formatting", "parser", "termui", "types")
_KEYWORDS = {"_": None, "ngettext": (1, 2)}
_RAISED = {name for name, each in vars(errors).items() if isinstance(each, type)} | {
    "Fault",
    "Flaw",
    "_flaw",
    "Refused",
    "ValueError",
    "Retry",
    "Undelivered",
    "Broken",
    "ReturnReason",
    "Objection",
    "Pause",
    "Pausing",
}
_TOLD = ("hint", "help", "cure", "text", "told", "message")
"""Keywords and variables whose texts are shown."""

_FOR_PROGRAMS = "batch/api/"
"""What is said there is for programs, in the words of OpenAI's API."""

_NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""In place of the date that the format wants: the same messages make the same files."""

Message = tuple[str, str | tuple[str, str]]
"""Where it stands, and the message, or its singular and plural."""


def messages() -> Iterator[Message]:
    """All of them, file by file."""
    for folder in ("batch", "jobs", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            if where.startswith(_FOR_PROGRAMS):
                continue
            yield from ((where, each) for each in _called(path, "python"))
            yield from ((where, each) for each in dict.fromkeys(_Told(path).found))
    for path in sorted((ROOT / "batch").rglob("*.html")):
        yield from (
            (str(path.relative_to(ROOT)), each)
            for each in _called(path, "jinja2.ext:babel_extract")
        )
    for name in _CLICK:
        path = Path(click.__file__).with_name(f"{name}.py")
        yield from ((f"click/{name}.py", each) for each in _called(path, "python"))


def _called(path: Path, method: str) -> Iterator[str | tuple[str, str]]:
    """Messages that the file itself asks translations for."""
    with path.open("rb") as file:
        for _line, message, _comments, _context in extract(
            method, file, keywords=_KEYWORDS, options={"trimmed": "true", "silent": "false"}
        ):
            yield (message[0], message[1]) if isinstance(message, tuple) else message


class _Told(ast.NodeVisitor):
    """Texts that are shown later, by others: of errors, faults, options, warnings."""

    def __init__(self, path: Path) -> None:
        self.found: list[str] = []
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self._constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.visit(tree)

    def visit_Call(self, node: ast.Call) -> None:
        """Errors and faults, keywords that are shown, warnings."""
        name = ast.unparse(node.func)
        if name.rpartition(".")[2] in _RAISED or name == "super().__init__":
            for argument in node.args:
                self._keep(argument)
        if name in ("log.warning", "log.error") and node.args:
            self._keep(node.args[0])
        for keyword in node.keywords:
            if keyword.arg in _TOLD:
                self._keep(keyword.value)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Sentences that a function makes."""
        if node.name in ("sentence", "_sentence", "__str__"):
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value is not None:
                    self._keep(part.value)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Kinds of JSON values, which are named in sentences."""
        if node.name == "Kind":
            for part in node.body:
                if isinstance(part, ast.Assign):
                    self._keep(part.value)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        """What `workers.check` tells."""
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in _TOLD:
                self._keep(value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Texts that a value has where no other is given."""
        if getattr(node.target, "id", "") in _TOLD and node.value is not None:
            self._keep(node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Helps, and texts that are put together before they are told."""
        for target in node.targets:
            name = getattr(target, "id", getattr(target, "attr", ""))
            if name in ("HELP", *_TOLD):
                self._keep(node.value)
            if name in ("COMMANDS", "MEANINGS") and isinstance(node.value, ast.Dict):
                for value in node.value.values:
                    self._keep(value)
        self.generic_visit(node)

    def _keep(self, node: ast.expr) -> None:
        if isinstance(node, ast.Name):
            node = self._constants.get(node.id, node)
        if isinstance(node, ast.IfExp):
            self._keep(node.body)
            self._keep(node.orelse)
            return
        text = _form(node)
        if " " in text and re.search(r"[^\W\d]", re.sub(r"%[sd]|\{\d\}", "", text)):
            self.found.append(text)


def _form(node: ast.expr) -> str:
    """A string, or an f-string with its blanks numbered; "" for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts, blanks = [], 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            parts.append(f"{{{blanks}}}")
            blanks += 1
    return "".join(parts)


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
