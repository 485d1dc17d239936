"""nightshift results"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batch import reports
from batch.cli.click_help import Command
from batch.cli.shared_options import job_argument, open_home, plain_option
from batch.cli.terminal import output, say
from batch.language import _
from batch.reports.answered_table_file import print_table
from batch.reports.output_files import check_free
from jobs.errors import UsageError
from jobs.message import N_

HELP = N_("""\
Write the results so far, in input order: to standard output, or all files to -o DIR.

Of a table the answered table goes to standard output.

\b
  nightshift results latest | jq -r .response.body.choices[0].message.content
  nightshift results latest -o here
  nightshift results latest > so-far.csv
""")


@click.command("results", cls=Command, help=HELP)
@job_argument
@plain_option(
    "-o",
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=N_("Directory for output.jsonl, errors.jsonl, cost.json and report.html."),
)
def command(job: str, output_dir: Path | None) -> int:
    """See HELP."""
    home = open_home()
    store = home.open(home.find(job), read_only=True)
    if output_dir is not None:
        check_free(output_dir)
        say(_("written to {folder}").format(folder=reports.write_all(store, output_dir)))
        return 0
    spec = store.job().spec
    if spec.task is not None:
        if sys.stdout.isatty() and (spec.task.to or spec.task.form.kind) in ("xlsx", "parquet"):
            raise UsageError(
                N_("the answered table is no text, so it is not printed on a terminal"),
                hint=N_("write it to a directory: -o DIR"),
            )
        kind = spec.task.to or spec.task.form.kind
        to = output(spec.task.form.encoding, as_json=kind == "jsonl")
        print_table(store, to, reports.not_run)
        return 0
    to = output()
    for line in reports.finished_lines(store):
        to.write(line)
    sys.stdout.flush()
    return 0
