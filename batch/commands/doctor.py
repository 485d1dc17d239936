"""nightshift doctor"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import click

from batch import embedded_redis
from batch.child_processes import environment, program
from batch.cli.click_help import Command
from batch.cli.click_options import endpoint_options, notify_options
from batch.cli.job_snapshot import Glance, worst
from batch.cli.missing_workers import lack_of_workers, strangers_told
from batch.cli.progress_text import stall_line, standing, way_out
from batch.cli.shared_options import (
    color_option,
    insecure_option,
    option,
    plain_option,
)
from batch.cli.spec_builder import notify_of
from batch.cli.terminal import colored, safe, tell, tell_json
from batch.coordinator.coordinator_heartbeat import Sign, board_name
from batch.coordinator.redis import redis_client
from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from batch.coordinator.redis.redis_client import LOOK_S
from batch.credentials import post_seal
from batch.language import _, decimal, ngettext, number, use
from batch.notifications import channels, http_post
from batch.notifications.notification import TEST
from batch.settings import Settings, read_settings
from batch.store.home import Home
from jobs.address import DEFAULT_BASE_URL
from jobs.errors import NightshiftError, UsageError
from jobs.message import N_, NOTHING, Message, message_of
from jobs.redis_url import parse_redis_url

HELP = N_("""\
Check the setup: data directory, Redis, workers, endpoint, key and balance.

Each problem comes with a suggested fix. Nothing is spent.

\b
  nightshift doctor
  nightshift doctor --notify --notify-url https://example.org/hook
""")

_PATIENCE_S = 60.0
_LEAST_FREE = 2**30
_PROBE = 64 * 1024
_PACKAGES = ("celery", "redis", "openai", "flower")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was seen, whether that is well, and the way out."""

    what: str
    text: str
    ok: bool = True
    cure: str = ""


@click.command("doctor", cls=Command, help=HELP)
@option("--base-url", metavar="URL", default=DEFAULT_BASE_URL, show_default=True)
@endpoint_options
@plain_option("--notify", is_flag=True, help=N_("Send a test notification."))
@notify_options
@plain_option("--json", "as_json", is_flag=True, help=N_("Print JSON."))
@color_option
@insecure_option
def command(
    base_url: str, *, insecure_http: bool, notify: bool, as_json: bool, **options: Any
) -> int:
    """See HELP."""
    if as_json:
        use("en")  # programs read English
    findings = list(_findings(base_url, insecure=insecure_http))
    if notify:
        findings += _tried(options)
    if as_json:
        told = [
            {"what": each.what, "ok": each.ok, "text": each.text, "cure": each.cure}
            for each in findings
        ]
        ok = all(each.ok for each in findings)
        tell_json({"version": 1, "ok": ok, "checks": told})
        return 0 if all(each.ok for each in findings) else 4
    fine, wrong = _("ok"), _("no")
    marked = max(len(fine), len(wrong))
    wide = max(9, *(len(finding.what) for finding in findings))
    margin = marked + wide + 5
    for finding in findings:
        mark, color = (fine, "green") if finding.ok else (wrong, "red")
        mark = colored(f"{mark:<{marked}}", color)
        tell(f"  {mark}  {finding.what:<{wide}} {safe(finding.text)}", margin)
        if finding.cure and not finding.ok:
            tell(f"{'':<{margin}}{safe(_(finding.cure))}", margin)
    return 0 if all(finding.ok for finding in findings) else 4


def _tried(options: dict[str, Any]) -> Iterator[Finding]:
    """A word on each way that is set up."""
    found = channels.ways_of(notify_of(options))
    names = {"url": _("webhook"), "telegram": "Telegram", "mail": _("mail")}
    for way, address in found.items():
        try:
            channels.send(
                way, address, {"event": TEST, "job": ""}, secrets.token_hex(8), os.environ
            )
        except http_post.Undelivered as error:
            cure = _("check the address and the secrets in the environment")
            yield Finding(names[way], _(message_of(error)), ok=False, cure=cure)
        else:
            yield Finding(names[way], _("a test notification was sent"))
    if not found:
        cure = _("give --notify-url, --notify-telegram or --notify-mail")
        yield Finding(_("notifications"), _("not configured"), ok=False, cure=cure)


def _findings(base_url: str, *, insecure: bool) -> Iterator[Finding]:
    # The endpoint is asked meanwhile.
    with _asking(base_url, insecure=insecure) as process:
        yield _versions()
        try:
            settings = read_settings(os.environ)
        except NightshiftError as error:
            yield Finding(_("settings"), _(error.message), ok=False, cure=error.hint)
        else:
            yield _home(settings)
            redis, wrong = _redis(settings)
            yield redis
            if not wrong:
                yield from _workers(settings)
            yield from _jobs(settings, wrong)
        yield from _endpoint(base_url, process)


def _versions() -> Finding:
    parts = [f"nightshift {version('nightshift')}", f"Python {platform.python_version()}"]
    return Finding(_("versions"), ", ".join(parts + [f"{p} {version(p)}" for p in _PACKAGES]))


def _home(settings: Settings) -> Finding:
    try:
        home = Home(settings.home)
    except NightshiftError as error:
        return Finding(_("data directory"), _(error.message), ok=False, cure=error.hint)
    free = shutil.disk_usage(home.folder).free
    jobs = len(home.job_ids())
    told = ngettext(
        "{folder}: {count} job, {free} GiB free", "{folder}: {count} jobs, {free} GiB free", jobs
    )
    text = told.format(folder=home.folder, count=number(jobs), free=decimal(free / 2**30, 1))
    try:
        _write_something(home)
    except OSError as error:
        text += ", " + _("cannot be written: {why}").format(why=error.strerror)
        return Finding(_("data directory"), text, ok=False, cure=N_("free up space on this disk"))
    if home.is_coordinated():
        text += ", " + _("a coordinator is running")
    return Finding(
        _("data directory"), text, ok=free > _LEAST_FREE, cure=N_("free up space on this disk")
    )


def _write_something(home: Home) -> None:
    with tempfile.TemporaryFile(dir=home.folder) as probe:
        probe.write(bytes(_PROBE))
        probe.flush()


def _jobs(settings: Settings, wrong: Message) -> Iterator[Finding]:
    """What keeps jobs that should go on, each trouble once; `wrong` is that of Redis."""
    try:
        home = Home(settings.home)
        with closing(Glance(home, settings, wrong)) as glance:
            jobs = list(glance.each(lambda store: glance.at(store.job()), lambda found: found))
    except NightshiftError:
        return  # of the home or the secret, which is told
    for job in worst(jobs):
        text = _("stalled: {trouble}").format(trouble=stall_line(job))
        yield Finding(job.job, text, ok=False, cure=way_out(job))
    for job in jobs:
        if job.needs_action and not job.stall:
            text = f"{standing(job.state, job.reason)}; {_(job.reason_text)}"
            yield Finding(job.job, text)


def _redis(settings: Settings) -> tuple[Finding, Message]:
    """What is to be said of it, and what is wrong with it."""
    url = settings.redis_url
    try:
        if url is None:
            embedded_redis.binary()
            if Home(settings.home).is_coordinated():
                redis_client.check(embedded_redis.address(settings.home), LOOK_S)
            return Finding("redis", _("embedded, started on demand")), NOTHING
        told = _("answers, version {version}").format(version=redis_client.check(url, LOOK_S))
        return Finding("redis", told + _exposure(url)), NOTHING
    except NightshiftError as error:
        found = Finding("redis", _(error.message), ok=False, cure=error.hint)
        return found, error.message


def _exposure(url: str) -> str:
    """What others may do there, as far as the address tells."""
    redis = parse_redis_url(url)
    if not redis.is_safe:
        return "; " + _("insecure, as requested: others may read and write there")
    if redis.is_remote and redis.is_plain:
        return "; " + _(
            "not encrypted: prompts cross the network in plain text unless this is a tunnel"
        )
    return ""


def _workers(settings: Settings) -> Iterator[Finding]:
    """Who is there, and the jobs that nobody there may run. Whether Redis is well was told."""
    if settings.redis_url is None:
        return
    try:
        home = Home(settings.home)
        with closing(
            CoordinatorRedis(settings.redis_url, post_seal(settings, home.folder), LOOK_S)
        ) as redis:
            workers, strangers = redis.status.workers(), redis.status.strangers
    except UsageError as error:
        yield Finding(_("secret"), _(error.message), ok=False, cure=error.hint)
        return
    except NightshiftError:
        return
    calls = sum(worker.in_flight for worker in workers)
    text = _("{count} online, calls in flight: {calls}").format(count=len(workers), calls=calls)
    yield Finding(_("workers"), text, ok=bool(workers), cure=N_("start one: nightshift worker"))
    if strangers:
        yield Finding(_("workers"), strangers_told(strangers), ok=False)
    if workers:
        for store in home.stores():
            if lack := lack_of_workers(store.job(), workers, 0):
                yield Finding(store.job().id, lack, ok=False)


@contextmanager
def _asking(base_url: str, *, insecure: bool) -> Iterator[subprocess.Popen[bytes]]:
    more = {"NIGHTSHIFT_BASE_URL": base_url, "NIGHTSHIFT_INSECURE_HTTP": "1" if insecure else ""}
    with subprocess.Popen(
        program("workers.key_check"),
        env=environment("workers.key_check", more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _endpoint(base_url: str, process: subprocess.Popen[bytes]) -> Iterator[Finding]:
    try:
        told, _nothing = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        text = f"{base_url}: " + _("timed out")
        yield Finding(_("endpoint"), text, ok=False, cure=_("check --base-url and the network"))
        return
    names = {"endpoint": _("endpoint"), "key": _("key")}
    cures = {
        "endpoint": _("check --base-url and the network"),
        "key": _("check ROUTERAI_API_KEY and top up the account"),
    }
    for what, found in json.loads(told or b"{}").items():
        text = _(Message.read(found["text"], found["text_data"]))
        cure = Message.read(found["cure"], found["cure_data"])
        if what == "endpoint":
            text = f"{base_url} {text}"
        yield Finding(names[what], text, ok=found["ok"], cure=cure or cures[what])
        if found.get("locked") and _coordinator_lacks_key(base_url):
            yield Finding(
                _("prices"),
                _(
                    "the catalogue needs a key, which the running coordinator does not have: it"
                    " uses the prices of submission. To follow changes, start it with"
                    " NIGHTSHIFT_CATALOG_KEY_FILE and NIGHTSHIFT_BASE_URL"
                ),
            )


def _coordinator_lacks_key(base_url: str) -> bool:
    """Whether a coordinator for all jobs is there that may not open this endpoint's catalogue."""
    with suppress(NightshiftError):
        settings = read_settings(os.environ)
        home = Home(settings.home)
        if url := settings.redis_url or embedded_redis.find(home.folder):
            with closing(CoordinatorRedis(url, post_seal(settings, home.folder), LOOK_S)) as redis:
                sign = redis.status.present(board_name(home), Sign)
            return sign is not None and not sign.only and sign.catalog != base_url.rstrip("/")
    return False
