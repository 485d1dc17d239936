"""nightshift review"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click
import msgspec

from batch.cli.click_help import Command
from batch.cli.quality_text import review_json, review_lines
from batch.cli.shared_options import COUNT, FILE, job_argument, open_home, plain_option
from batch.cli.terminal import safe, say, tell, tell_json
from batch.language import _, ngettext, number
from batch.reports.review_file import read_review, write_review
from batch.tables.score import REVIEW
from jobs.message import N_

HELP = N_("""\
Write rows of an answered table for a person to check; or score the job by such a table.

Two thirds are the rows most likely wrong: answered otherwise in a pack, asked again, repaired, or
unlike the others with that answer. One third is random and tells how good all answers are. Write +
into the last column where the answer is right, else the right answer; rows left empty do not count.

\b
  nightshift review latest --rows 100
  nightshift review latest --read reviews.review.csv
""")


@click.command("review", cls=Command, help=HELP)
@job_argument
@plain_option("--rows", **COUNT, default=100, show_default=True, help=N_("How many rows to write."))
@plain_option("-o", "--output", **FILE, help=N_("File to write.  [default: NAME.review.csv]"))
@plain_option(
    "--read", "checked", **FILE, help=N_("Score the job by this file, which was corrected.")
)
@plain_option("--json", "as_json", is_flag=True, help=N_("Print the score as JSON."))
def command(
    job: str, rows: int, output: Path | None, checked: Path | None, *, as_json: bool
) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    if checked is None:
        with closing(home.open(job_id, read_only=True)) as store:
            path = output or Path(f"{store.job().spec.name}.review.csv")
            count = write_review(store, path, rows)
        told = ngettext("{count} row to check: {file}", "{count} rows to check: {file}", count)
        say(told.format(count=number(count), file=safe(str(path))))
        say(_("write + or the right answer into the last column, then:"))
        say(f"  nightshift review {job_id} --read {safe(str(path))}")
        return 0
    with closing(home.open(job_id)) as store:
        found = read_review(store, checked)
        store.trials.find(REVIEW, msgspec.json.encode(found).decode())
    if as_json:
        tell_json({"version": 1, "job": job_id, **review_json(found)})
    else:
        for line in review_lines(found):
            tell(line)
    return 0
