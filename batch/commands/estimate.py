"""nightshift estimate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from batch.commands.run import requests_line
from batch.guesses import guess_json, guess_lines
from batch.options import checking, input_argument, make_spec, open_home, open_source, spec_options
from batch.submission import new_job_id, validate
from batch.terminal import say_faults, say_lines

HELP = """Check INPUT and tell what it will cost by the endpoint's prices. Nothing is sent or kept.

Low, likely and high: by the answers that earlier jobs got from the model, else by what is usual.
Takes all options of submit; those that matter here are listed below.

\b
  nightshift estimate reviews.jsonl
  nightshift estimate reviews.jsonl --max-tokens 300
  nightshift estimate reviews.jsonl --json | jq -r .rub.likely
"""


@checking
@click.command("estimate", help=HELP, short_help="Tell what a file will cost.")
@input_argument
@spec_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(source: Path, *, as_json: bool, **options: Any) -> int:
    """See HELP."""
    spec = make_spec(new_job_id(), source, options)
    report = validate(
        open_home(),
        spec,
        open_source(source),
        priced=True,
        tell=say_lines,
    )
    if report.invalid:
        say_faults(report.faults, report.invalid)
    found = report.estimate
    if as_json:
        told = {
            "requests": report.requests,
            "invalid": report.invalid,
            "models": report.models,
            "unpriced": found.unpriced,
            **guess_json(found.guess),
        }
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        click.echo(requests_line(report))
        for line in guess_lines(found.guess, found.unpriced):
            click.echo(line)
    return 2 if report.invalid and not spec.skip_invalid else 0
