"""Every line of the catalogue of faults has a test that carries its number, and the guide lists it.

    P  processes   R  Redis   E  endpoint   F  files   I  input   S  security

`python -m tests.faults.test_catalogue` prints the table of docs/reliability.md anew.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.conftest import ROOT

LINES = {"P": 20, "R": 20, "E": 45, "F": 15, "I": 24, "S": 14}
GUIDE = ROOT / "docs" / "reliability.md"
_IN_A_NAME = re.compile(r"(?<![a-z0-9])([prefis]\d{1,2})(?![a-z0-9])")
_IN_A_CASE = re.compile(r"^([PREFIS]\d{1,2}) ")


def numbers() -> list[str]:
    """All lines of the catalogue."""
    return [f"{part}{number}" for part, last in LINES.items() for number in range(1, last + 1)]


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


def table() -> list[str]:
    """The guide's lines, one of each line of the catalogue."""
    found = where_tested()
    return [f"| {number} | {_places(found[number])} |" for number in numbers() if number in found]


def _places(files: dict[str, set[str]]) -> str:
    counted = [
        f"{name.removesuffix('.py')} ({len(some)})" if len(some) > 1 else name.removesuffix(".py")
        for name, some in files.items()
    ]
    return ", ".join(counted)


def test_every_line_of_the_catalogue_of_faults_has_a_test() -> None:
    found = where_tested()

    assert [number for number in numbers() if number not in found] == []


def test_the_guide_says_of_every_line_where_it_is_tested() -> None:
    told = [line for line in GUIDE.read_text().splitlines() if re.match(r"\| [PREFIS]\d", line)]
    listed = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in told}
    files = {
        word
        for places in listed.values()
        for word in re.findall(r"[\w/]+/test_\w+|test_\w+", places)
    }

    assert list(listed) == numbers()
    assert all(listed.values())
    assert [name for name in files if not (ROOT / "tests" / f"{name}.py").exists()] == []


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
    print("\n".join(table()))
