"""Whether a worker is there that may run a job, and what to do where none is."""

from __future__ import annotations

from collections.abc import Sequence

from batch.language import _, ngettext, number
from batch.store.jobstore import JobRow
from jobs.signing import key_of
from jobs.states import JobState
from jobs.worker_heartbeat import WorkerStatus


def lack_of_workers(job: JobRow, workers: Sequence[WorkerStatus], strangers: int) -> str:
    """Why no worker runs a job that is in progress, and the way out; empty where one may.

    `strangers` are workers whose words another secret signed.
    """
    if job.state is not JobState.IN_PROGRESS or any(w.target == job.spec.target for w in workers):
        return ""
    near = [worker for worker in workers if worker.base_url == job.spec.base_url]
    key = key_of(job.spec.key)
    with_key = [worker for worker in near if key in ("", key_of(worker.key))]
    if with_key and not any(worker.key.endswith(job.spec.key) for worker in with_key):
        return _lack_of_headers(job)
    if near and not key:
        return _(
            "workers with different API keys are online; choose one by running, where it is set:"
            " nightshift resume {job}"
        ).format(job=job.id)
    if near:
        told = ngettext(
            "no worker has this job's API key ({key}); {count} has another. Start one with it,"
            " or continue with the key that is set here: nightshift resume {job}",
            "no worker has this job's API key ({key}); {count} have another. Start one with it,"
            " or continue with the key that is set here: nightshift resume {job}",
            len(near),
        )
        return told.format(key=key[:8], count=number(len(near)), job=job.id)
    if strangers:
        return strangers_told(strangers)
    return _("no worker is online for {url}; start one: nightshift worker").format(
        url=job.spec.base_url
    )


def _lack_of_headers(job: JobRow) -> str:
    """Workers have the job's key, but send other headers with it."""
    if names := ", ".join(job.spec.headers):
        told = _(
            "no worker sends this job's headers ({names}). Start one with the same"
            " NIGHTSHIFT_HEADER, or pass the headers of those online:"
            " nightshift resume {job} --header NAME=…"
        )
        return told.format(names=names, job=job.id)
    return _(
        "every worker with this job's API key sends headers that the job was submitted without."
        " Start one without them, or pass the same headers: nightshift resume {job}"
        " --header NAME=…"
    ).format(job=job.id)


def strangers_told(count: int) -> str:
    """Of workers that have another secret than this home."""
    return ngettext(
        "{count} worker uses a different secret than this data directory; set the same one:"
        " NIGHTSHIFT_POST_SECRET_FILE",
        "{count} workers use a different secret than this data directory; set the same one:"
        " NIGHTSHIFT_POST_SECRET_FILE",
        count,
    ).format(count=number(count))
