"""nightshift validate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch.cli.click_help import Command
from batch.cli.click_options import checking, spec_options
from batch.cli.shared_options import input_argument, open_home, plain_option
from batch.cli.spec_builder import make_spec, open_source
from batch.cli.submission_summary import say_refused
from batch.cli.terminal import counting_lines, say_faults, tell_json
from batch.language import ngettext, number
from batch.submission.report import Report, check_any_left, is_refused
from batch.submission.submit import new_job_id, validate
from jobs.message import N_

HELP = N_("""\
Check INPUT as run and submit do, and list all errors. Nothing is sent or stored.

Takes all options of submit, so only the command name has to be changed; the relevant ones are
listed below. Exits with 2 if there are errors, unless --skip-invalid is set.

\b
  nightshift validate reviews.jsonl
  nightshift validate reviews.jsonl --model minimax/minimax-m1 --max-tokens 300
  nightshift validate reviews.jsonl --json | jq -r .faults[].line
""")


@checking
@click.command("validate", cls=Command, help=HELP)
@input_argument
@spec_options
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(source: Path, *, as_json: bool, **options: Any) -> int:
    """See HELP."""
    spec = make_spec(new_job_id(), source, options)
    with counting_lines() as tell:
        report = validate(open_home(), spec, open_source(source), tell=tell)
    if as_json:
        told = {
            "version": 1,
            "requests": report.requests,
            "invalid": report.invalid,
            "models": report.models,
            "form": report.form.told if report.form else None,
            "warnings": [
                {"message": group.first.message, "count": group.count, "lines": group.lines}
                for group in report.warnings.found.values()
            ],
            "faults": [
                {
                    "line": fault.line,
                    "byte": fault.offset,
                    "code": fault.code,
                    "message": fault.message,
                    "custom_id": fault.custom_id,
                }
                for fault in sorted(report.faults, key=lambda fault: fault.line)
            ],
        }
        tell_json(told)
        return 2 if is_refused(spec, report) else 0
    say_refused(report, click.echo)
    say_faults(report.warnings, click.echo)
    if report.form is None or not report.form.whole:
        _tell_counts(report)
    check_any_left(spec, report)
    return 0


def _tell_counts(report: Report) -> None:
    fine = ngettext("{count} valid request", "{count} valid requests", report.requests)
    faulty = ngettext("{count} invalid line", "{count} invalid lines", report.invalid)
    click.echo(
        f"{fine.format(count=number(report.requests))}, "
        f"{faulty.format(count=number(report.invalid))}"
    )
