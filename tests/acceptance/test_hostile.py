"""Whatever stands in ids, names, models, codes and errors: no terminal obeys it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unicodedata import category

import pytest

from batch.store import delivery_ledger
from jobs.chunk import DONE, ChunkClosed
from jobs.message import Message
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.acceptance.conftest import MODEL, Shell
from tests.batch.making import call, delivery, feed, publish, request, result

HOSTILE = [
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b2J\x9d0;title\x9c\x08\x08\x7f\x00",
    "a\r\nnightshift: all is well\x0b\x0c\x85",
    "\u202egpj.exe\u2066\u200f\u061c\u2069\u2028\u2029",
    "<script>alert(1)</script>[bold red]x[/]{0}%s",
    "=cmd|' /C calc'!A0",
]
COMMANDS = [
    ("status",),
    ("status", "latest"),
    ("cost", "latest"),
    ("watch", "latest"),
    ("pause", "latest"),
    ("validate", "hostile.jsonl"),
]
ANSWERS = [
    ("status", "latest", "--json"),
    ("history", "latest"),
    ("failures", "latest", "--input"),
    ("show", "latest", "1"),
    ("show", "latest", "1", "--json"),
    ("show", "latest", "--costliest"),
    ("results", "latest"),
    ("preview", "hostile.csv", "--prompt", "{{ said }}"),
    ("submit", "hostile.csv", "--prompt", "{{ said }}"),
    ("results", "latest"),
]


@pytest.mark.parametrize("language", ["en", "ru"])
def test_no_command_passes_on_what_a_terminal_obeys(language: str, shell: Shell) -> None:
    text = "".join(HOSTILE)
    shell.environ["NIGHTSHIFT_LANG"] = language
    job_that_says(text, Path(shell.environ["NIGHTSHIFT_HOME"]))
    shell.environ |= {"NIGHTSHIFT_MODEL": MODEL, "NIGHTSHIFT_BASE_URL": "http://127.0.0.1:1/v1"}
    shell.write("hostile.jsonl", hostile_lines(text))
    shell.write("hostile.csv", f'id,said\n1,"{text}"\n'.replace("\x00", ""))

    for command in (*COMMANDS, *(ANSWERS if language == "en" else ())):
        code = {"watch": 3, "validate": 2}.get(command[0], 0)
        terminal = shell.terminal(*command, columns=100, NO_COLOR="1", TERM="dumb")
        terminal.ends(code)
        plain = re.sub(r"\r?\n", "", terminal.raw.decode())
        obeyed = {each for each in plain if category(each) in {"Cc", "Zl", "Zp"} or bidi(each)}
        assert not obeyed, (command, plain)


def bidi(character: str) -> bool:
    return character in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def hostile_lines(text: str) -> bytes:
    return f'{{"custom_id": "{text}", "{text}": \n["{text}"]\n'.encode()


def job_that_says(text: str, home: Path) -> None:
    """A job where everything that comes from outside is this text."""
    lines = [request(line, custom_id=f"{text}-{line}", model=text) for line in (1, 2)]
    store = publish(home, lines, name=text, source=text)
    feed(store)
    answer = json.dumps({"choices": [{"message": {"content": text}}]}, ensure_ascii=False).encode()
    delivery_ledger.apply(
        store,
        [
            delivery(
                [call(0), call(1)],
                [result(0, body=0), result(1, code=text, message=text)],
                [ChunkClosed(1, DONE, [], {text: 2})],
                bodies=[answer, b""],
            )
        ],
    )
    store.failures.retry(())
    store.set_state(JobState.PAUSED, reason=PauseReason.USER, text=Message(text))
    store.close()
