"""What is printed for programs and of files: whole in a pipe, and obeyed by no terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.cli.terminal import output, safe, say, tell_json
from jobs.logs import UNSAFE

STEERS = "a\x1b]0;x\x07\x9b2J\x9dz\x7f\u202eb\u2066\u200f\u2028\ufeff\U000e0041"


class Screen(io.TextIOWrapper):
    """A terminal, or a pipe."""

    def __init__(self, *, isatty: bool, encoding: str) -> None:
        self.bytes = io.BytesIO()
        self._isatty = isatty
        super().__init__(self.bytes, encoding=encoding, errors="replace", newline="\n")

    def isatty(self) -> bool:
        return self._isatty

    def read_all(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode(self.encoding)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    def make(*, isatty: bool = True, encoding: str = "utf-8") -> Screen:
        made = Screen(isatty=isatty, encoding=encoding)
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return make


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251"])
@pytest.mark.parametrize("isatty", [True, False])
def test_json_means_the_same_and_steers_no_terminal(
    encoding: str, screen: Callable[..., Screen], *, isatty: bool
) -> None:
    made = screen(isatty=isatty, encoding=encoding)

    tell_json({"said": f"{STEERS} да 評"})

    text = made.read_all()
    assert json.loads(text) == {"said": f"{STEERS} да 評"}
    assert not UNSAFE.search(text.removesuffix("\n"))
    assert ("да" in text) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1251", "utf-16"])
def test_a_table_on_a_terminal_is_text_and_in_a_pipe_as_it_is(
    encoding: str, screen: Callable[..., Screen]
) -> None:
    table = 'id;said\r\n1;"да\x1b[2J\r\nнет"\r\n'
    data = table.encode(encoding)
    terminal = screen()
    to = output(encoding.removesuffix("-sig"), as_json=False)
    for at in range(0, len(data), 3):
        to.write(data[at : at + 3])
    assert terminal.read_all() == 'id;said\n1;"да\\x1b[2J\nнет"\n'

    pipe = screen(isatty=False)
    output("cp1251", as_json=False).write(data)
    assert pipe.bytes.getvalue() == data


def test_a_line_of_json_on_a_terminal_stays_json(screen: Callable[..., Screen]) -> None:
    terminal = screen()
    output().write(json.dumps({"said": STEERS}, ensure_ascii=False).encode() + b"\n")

    text = terminal.read_all()
    assert json.loads(text) == {"said": STEERS}
    assert not UNSAFE.search(text.removesuffix("\n"))


def test_a_text_that_nobody_made_safe_steers_no_terminal(screen: Callable[..., Screen]) -> None:
    terminal = screen()

    say(f"\x1b[31mred\x1b[0m {STEERS}")
    say(safe(f"{STEERS}\t\n"))

    text = terminal.read_all().replace("\n", "")
    assert UNSAFE.findall(text) == ["\x1b", "\x1b"]


def test_a_terminal_whose_encoding_lacks_the_sign_of_roubles_is_printed_to(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "batch", "budget", "--budget-rub-per-day", "5"],
        env={**os.environ, "NIGHTSHIFT_HOME": str(tmp_path), "PYTHONIOENCODING": "cp1251"},
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "of 5.00 ? spent" in done.stdout.decode("cp1251")
