"""nightshift history"""

from __future__ import annotations

from contextlib import closing

import click

from batch.cli.click_help import Command
from batch.cli.progress_text import standing
from batch.cli.shared_options import job_argument, open_home, plain_option
from batch.cli.terminal import safe, tell, tell_json
from batch.language import _, local, moment, zone_name
from batch.store.events import history
from batch.watching.event_text import told
from jobs.message import N_

HELP = N_("""Show what happened to JOB: submitted, paused and why, resumed, changed, ended.

\b
  nightshift history latest
  nightshift history latest --json | jq .events
""")


@click.command("history", cls=Command, help=HELP)
@job_argument
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
def command(job: str, *, as_json: bool) -> int:
    """See HELP."""
    home = open_home()
    job_id = home.find(job)
    with closing(home.open(job_id, read_only=True)) as store:
        events = history(store.db)
    if as_json:
        document = {"version": 1, "job": job_id, "events": [event.as_json() for event in events]}
        tell_json(document)
        return 0
    tell(_("times in {zone}").format(zone=zone_name()))
    for event in events:
        at = moment(local(event.at))
        tell(f"{at}  {safe(', '.join(told(event, standing)))}", len(at) + 2)
    return 0
