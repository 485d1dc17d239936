"""nightshift preview"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.click_options import checking, spec_options
from batch.cli.shared_options import input_argument, open_home, plain_option
from batch.cli.spec_builder import make_spec, open_source
from batch.cli.submission_summary import table_line
from batch.cli.terminal import safe, tell, tell_json
from batch.language import _, number
from batch.submission.preview import Preview, preview
from batch.submission.submit import new_job_id
from batch.tables.answered_table import added_columns
from jobs.job_options import Spec
from jobs.message import N_
from jobs.request_kinds import PROMPT, prompt_texts

HELP = N_("""\
Show requests as they would be sent: first, longest and a few others. Sends nothing.

Takes all options of run. For a table it also shows which columns the answers will fill.

\b
  nightshift preview reviews.csv --model minimax/minimax-m1 --prompt '{{ review }}?'
  nightshift preview reviews.csv --model minimax/minimax-m1 --prompt-file task.md
  nightshift preview reviews.jsonl --json | jq .requests[0].body
""")


@checking
@click.command("preview", cls=Command, help=HELP)
@input_argument
@spec_options
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(source: Path, *, as_json: bool, **options: Any) -> int:
    """See HELP."""
    spec = make_spec(new_job_id(), source, options)
    found = preview(open_home(), spec, open_source(source))
    if as_json:
        tell_json(_for_programs(found))
    else:
        _show(found)
    return 0


def _for_programs(found: Preview) -> dict[str, Any]:
    return {
        "version": 1,
        "requests": [
            {"name": each.name, "prompt_bound": each.prompt_bound, "body": json.loads(each.body)}
            for each in found.shown
        ],
        "columns": list(_columns(found.spec)),
    }


def _show(found: Preview) -> None:
    if found.spec.task is not None:
        tell(table_line(found.spec.task.form))
    for each in found.shown:
        bound = _("{name}: at most {tokens} prompt tokens")
        tell("")
        tell(bound.format(name=safe(each.name), tokens=number(each.prompt_bound)))
        body = json.loads(each.body)
        for who, said in prompt_texts(body):
            tell(f"  {safe(who)}:")
            text = said.get("content") or said if isinstance(said, dict) else said
            lines = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
            for line in lines.splitlines():
                tell(f"    {safe(line)}")
        rest = {name: value for name, value in body.items() if name not in PROMPT}
        tell(f"  {safe(json.dumps(rest, ensure_ascii=False))}")
    if columns := _columns(found.spec):
        tell("")
        told = _("columns added to the table: {columns}")
        tell(told.format(columns=safe(", ".join(columns))))


def _columns(spec: Spec) -> tuple[str, ...]:
    return () if spec.task is None else added_columns(spec.task, spec.task.form.columns)
