"""nightshift failures"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing

import click

from batch.cli.click_help import Command
from batch.cli.exit_summary import skipped
from batch.cli.failure_text import cause_lines, ways_out
from batch.cli.shared_options import job_argument, open_home, plain_option
from batch.cli.terminal import output, say, tell, tell_json
from batch.language import ngettext, number
from batch.reports.output_lines import input_line
from batch.resume_plan import codes_like, failures
from batch.store.failure_causes import failed_lines
from batch.store.jobstore import JobStore
from jobs.message import N_

HELP = N_("""\
Show why requests of JOB failed, grouped by cause, and which answers need a review.

A cause is a code, the HTTP status and the endpoint's message, with the number of requests and the
first lines. --input prints the failed requests as an input file that can be corrected and
submitted, each body byte for byte as it was sent. Skipped lines are not included.

\b
  nightshift failures latest
  nightshift failures latest --json | jq .failures
  nightshift failures latest --code endpoint.context_length --input > long.jsonl
""")


@click.command("failures", cls=Command, help=HELP)
@job_argument
@plain_option(
    "--input", "as_input", is_flag=True, help=N_("Print the failed requests as an input file.")
)
@plain_option(
    "--code", "codes", multiple=True, metavar="CODES", help=N_("With --input: only these codes.")
)
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(job: str, codes: tuple[str, ...], *, as_input: bool, as_json: bool) -> int:
    """See HELP."""
    home = open_home()
    with closing(home.open(home.find(job), read_only=True)) as store:
        if as_input:
            _print(store, codes)
        elif as_json:
            row, why = store.job(), store.why()
            told = {"version": 1, "job": row.id, "requests": row.requests, "failed": row.failed}
            tell_json({**told, "invalid": row.invalid, **why.as_json()})
        else:
            _tell(store)
    return 0


def _tell(store: JobStore) -> None:
    job, why = store.job(), store.why()
    told = ngettext(
        "{failed} of {requests} request failed",
        "{failed} of {requests} requests failed",
        job.requests,
    )
    parts = [told.format(failed=number(job.failed), requests=number(job.requests))]
    tell(", ".join([*parts, *([skipped(job.invalid)] if job.invalid else [])]))
    for line in cause_lines(why, job.id):
        tell(line, 4)
    for words, way in ways_out(why, job.id):
        say(words)
        say(f"  {way}")


def _print(store: JobStore, codes: tuple[str, ...]) -> None:
    wanted = set(codes_like(codes or ("*",), failures(store)))
    count, to = 0, output()
    for count, line in enumerate(_lines(store, wanted), start=1):  # noqa: B007
        to.write(line)
    sys.stdout.flush()
    told = ngettext("{count} request printed", "{count} requests printed", count)
    say(told.format(count=number(count)))
    if count := store.job().invalid:
        told = ngettext(
            "{count} skipped line is not included; see the input",
            "{count} skipped lines are not included; see the input",
            count,
        )
        say(told.format(count=number(count)))


def _lines(store: JobStore, codes: Iterable[str]) -> Iterator[bytes]:
    with store.snapshot():
        for custom_id, code, ordinal in failed_lines(store.db):
            if code in codes:
                body, _ = store.queue.original(ordinal)
                yield input_line(custom_id, body, store.queue.kind(ordinal))
