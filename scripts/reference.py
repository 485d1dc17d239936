"""Writes the parts of docs/reference.md that the code knows: codes, flags, fields, commands.

Between `<!-- name -->` and `<!-- /name -->` stands what is written anew; all else is written by
hand.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from batch.main import COMMANDS
from batch.store.failure_causes import LASTING
from batch.store.failure_causes import MEANINGS as FLAGS
from batch.watching.latest_incidents import MEANINGS as CODES
from jobs.pause_reasons import Ends, PauseReason
from scripts.schemas import DOCUMENTS

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"


def codes() -> Iterator[str]:
    """Every code that the endpoint, a worker or the home causes."""
    yield "| code | meaning | sent again as it is |"
    yield "|---|---|---|"
    for code, meaning in sorted(CODES.items()):
        again = "fails again" if code in LASTING else ""
        yield f"| `{code}` | {meaning} | {again} |"


def pauses() -> Iterator[str]:
    """Every reason for a pause, how it ends and what helps."""
    yield "| reason | meaning | ends | what to do |"
    yield "|---|---|---|---|"
    for reason in PauseReason:
        rule = reason.rule
        command = rule.command.format(job="JOB", options=rule.options)
        ends = {Ends.WITH_THE_JOB: "by itself; then the job is `expired`"}
        when = ends.get(rule.ends, f"{rule.ends.value}".replace("somebody", "you"))
        yield f"| `{reason}` | {rule.meaning} | {when} | {rule.cure} `{command}` |"


def flags() -> Iterator[str]:
    """Every flag of an answer."""
    yield "| flag | an answer |"
    yield "|---|---|"
    for flag, meaning in FLAGS.items():
        yield f"| `{flag}` | {meaning} |"


def fields() -> Iterator[str]:
    """Every document, and its fields with their types."""
    told: set[str] = set()
    for name, kind in DOCUMENTS.items():
        yield f"**[{name}](schemas/{name}.schema.json)** {(kind.__doc__ or '').strip()}"
        yield ""
        known = msgspec.json.schema(kind)["$defs"]
        for title, document in known.items():
            if title in told:
                continue
            told.add(title)
            listed = (_field(field, of) for field, of in document["properties"].items())
            part = "" if title == kind.__name__ else f"{title}: {document.get('description', '')} "
            yield f"- {part}{'; '.join(listed)}"
        yield ""


def _field(name: str, of: dict[str, str]) -> str:
    return f"`{name}` {of['description']}" if "description" in of else f"`{name}`"


def commands() -> Iterator[str]:
    """Every command with its options."""
    for name, told in COMMANDS.items():
        yield f"### nightshift {name}"
        yield ""
        yield told
        yield ""
        yield "| option | |"
        yield "|---|---|"
        yield from map(_option, _options(name))
        yield ""


def _options(name: str) -> Iterator[click.Option]:
    command = importlib.import_module(f"batch.commands.{name}").command
    context = click.Context(command)
    for each in command.get_params(context):
        if isinstance(each, click.Option) and not each.hidden:
            yield each


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    told = (option.help or "").replace("|", r"\|").replace("\n", " ")
    return f"| {names} | {told} |"


PARTS = {"pauses": pauses, "codes": codes, "flags": flags, "fields": fields, "commands": commands}


def renewed(page: str) -> str:
    """The page with its parts written anew."""
    for name, part in PARTS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(start)
        _, _, after = rest.partition(end)
        text = "\n".join(part()).rstrip()
        page = f"{before}{start}{text}\n{end}{after}"
    return page


def main() -> int:
    """Writes the page."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


os.environ["NIGHTSHIFT_LANG"] = "en"

if __name__ == "__main__":
    sys.exit(main())
