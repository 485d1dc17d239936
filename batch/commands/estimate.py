"""nightshift estimate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch.commands.run import price_line, requests_line
from batch.language import _, number
from batch.options import checking, input_argument, make_spec, open_home, open_source, spec_options
from batch.submission import new_job_id, validate
from batch.terminal import say_faults, say_lines

HELP = """Check INPUT and tell what it will cost by the endpoint's prices. Nothing is sent or kept.

Takes all options of submit; those that matter here are listed below.

\b
  nightshift estimate reviews.jsonl
  nightshift estimate reviews.jsonl --max-tokens 300
"""


@checking
@click.command("estimate", help=HELP, short_help="Tell what a file will cost.")
@input_argument
@spec_options
def command(source: Path, **options: Any) -> int:
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
    total = report.estimate
    click.echo(requests_line(report))
    tokens = _("about {prompt} tokens in and {output} out")
    click.echo(
        tokens.format(prompt=number(total.prompt_tokens), output=number(total.output_tokens))
    )
    click.echo(price_line(report))
    return 2 if report.invalid and not spec.skip_invalid else 0
