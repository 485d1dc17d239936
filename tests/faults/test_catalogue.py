"""Every line of docs/faults.md has a test that carries its number, and the page says where.

    P  processes   R  Redis   E  endpoint   F  files   I  input   S  security

`python -m tests.faults.test_catalogue` fills in the page's column of tests.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "faults.md"
GUIDE = ROOT / "docs" / "reliability.md"
_LINE = re.compile(r"^\| ([PREFIS]\d+) \| (.+) \| (.+) \|([^|]*)\|$", re.MULTILINE)
_LAW = re.compile(r"^\| (L\d+) \|", re.MULTILINE)
_IN_A_NAME = re.compile(r"(?<![a-z0-9])([prefis]\d{1,2})(?![a-z0-9])")
_IN_A_CASE = re.compile(r"^([PREFIS]\d{1,2}) ")


def lines() -> dict[str, list[str]]:
    """The files that the page names for each line of the catalogue."""
    page = PAGE.read_text(encoding="utf-8")
    return {
        match[1]: [*filter(None, match[4].strip().split(", "))] for match in _LINE.finditer(page)
    }


def where_tested() -> dict[str, dict[str, set[str]]]:
    """Of each line its tests by file; what tests the simulator itself is left out."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT / "tests"))
        if name.startswith("simulator"):
            continue
        for number, test in _in(ast.parse(path.read_text())):
            found[number.upper()][name].add(test)
    return found


def _in(tree: ast.Module) -> list[tuple[str, str]]:
    """(line, test) of a file: by the name of a test, or by that of a case in a table."""
    named = [
        (number, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        for number in _IN_A_NAME.findall(node.name.replace("_", " "))
    ]
    cases = [
        (match[1], "a table of cases")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (match := _IN_A_CASE.match(node.value))
    ]
    return [*named, *cases]


def renewed(page: str) -> str:
    """The page with its tests as they are."""
    found = where_tested()

    def line(match: re.Match[str]) -> str:
        places = ", ".join(name.removesuffix(".py") for name in found[match[1]])
        return f"| {match[1]} | {match[2]} | {match[3]} | {places} |"

    return _LINE.sub(line, page)


def test_the_catalogue_has_no_gaps() -> None:
    counted = Counter(number[0] for number in lines())

    assert [*lines()] == [
        f"{part}{number}" for part in "PREFIS" for number in range(1, counted[part] + 1)
    ]
    assert counted.total() >= 138


def test_every_line_of_the_catalogue_has_a_test_and_the_page_says_where() -> None:
    found = where_tested()
    untested = [number for number in lines() if number not in found]
    wrong = [
        (number, name)
        for number, names in lines().items()
        for name in names or ["nowhere"]
        if f"{name}.py" not in found[number]
    ]

    assert untested == []
    assert wrong == [], "run: python -m tests.faults.test_catalogue"
    assert found.keys() <= lines().keys(), "a test carries a number that the page has not"


def test_every_law_that_is_checked_stands_on_the_page() -> None:
    told = set(_LAW.findall(PAGE.read_text(encoding="utf-8")))
    checked = set(re.findall(r'"(L\d+)"', (ROOT / "scripts" / "auditor.py").read_text()))

    assert checked <= told
    assert len(told) >= 14


def test_the_guide_shows_only_campaigns_as_they_can_be_run() -> None:
    from scripts.torturing import crashpoints
    from scripts.torturing.__main__ import parser

    shown = re.findall(r"^scripts/torture ([^#\n]+)", GUIDE.read_text(), re.MULTILINE)
    given = [parser().parse_args(line.split()) for line in shown]

    assert len(given) > 5
    assert {point for one in given for point in vars(one).get("points", ())} <= {
        *crashpoints.POINTS
    }


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
