"""The Jobs page within Flower: its handlers, and where its templates and files come from.

    /                          leads to the jobs
    /jobs                      all of them, or those that are asked for
    /job/<job>                 one, with plots
    /job/<job>/form/<form>     what is filled in before a click
    /job/<job>/file/<file>     one of its files
    /api/jobs, /api/job/<job>  the same for programs, as JSON
    POST /api/job/<job>/pause, /resume, /cancel, /retry, /change

A page asks for itself again every two seconds with `live=1`, and gets its parts as JSON.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from flower.urls import settings as flower_settings
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import structs
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from tornado import template
from tornado.escape import xhtml_escape
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, url

from batch import language
from batch.coordinator import flower_commands
from batch.coordinator.flower_queries import Retried
from batch.flower import forms, page_texts, plots
from batch.flower.listing import Listing, Query
from batch.flower.status_reader import Desk, FileGone, Job
from batch.language import _
from batch.reports.output_files import Piece
from batch.reports.page import visible
from batch.store.events import Event
from batch.watching.time_series import Series
from jobs.errors import ServiceUnavailable
from jobs.message import N_

_MOST_TOLD = 100
"""Jobs that Prometheus is told of."""

FOLDER = Path(str(resources.files("batch.flower")))
_FLOWERS = Path(flower_settings["template_path"])

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_NAVBAR_LIST = '<ul class="app-nav navbar-nav">'
_NAVBAR_ENTRY = """
        <li class="nav-item"><a class="nav-link{{% if active_tab == 'jobs' %}} active{{% end %}}"
          href="{{{{ reverse_url('jobs') }}}}"
          {{% if active_tab == 'jobs' %}}aria-current="page"{{% end %}}>{}</a></li>"""
_STATUS = {
    flower_commands.DONE: 200,
    "unchanged": 200,
    "slow": 202,
    "bad_value": 400,
    "looking": 403,
    "nobody": 503,
    "silent": 503,
}
_REFUSED = 409
"""What is not possible as the job stands."""

_ZONE_COOKIE = "ns_zone"
_OWN_SITES = frozenset({"none", "same-origin"})
"""Where a file is asked from: no other page makes a browser fetch one."""


_SCRIPT = """<script src="{{ static_url('js/flower.js') }}"></script>"""
_OWN_SCRIPT = """
    <script src="{{ reverse_url('own', 'own.js') }}"></script>"""
_STYLE = """<link href="{{ static_url('css/flower.css') }}" rel="stylesheet">"""
_OWN_STYLE = """
    <link href="{{ reverse_url('own', 'own.css') }}" rel="stylesheet">"""
_TASK_JOB = """
      {{% if '/' in task.uuid %}}
      <div class="detail-row task-data-row">
        <dt>{}</dt>
        <dd><a href="{{{{ reverse_url('job', task.uuid.partition('/')[0]) }}}}"
          >{{{{ task.uuid.partition('/')[0] }}}}</a></dd>
      </div>
      {{% end %}}"""


def _added() -> dict[str, list[tuple[str, str]]]:
    """What Flower's own templates get, and behind which of their words: an entry for our pages, a
    way from a chunk to its job, what makes them readable.
    """
    name = xhtml_escape(_("Jobs"))
    return {
        "navbar.html": [(_NAVBAR_LIST, _NAVBAR_ENTRY.format(name))],
        "base.html": [(_STYLE, _OWN_STYLE), (_SCRIPT, _OWN_SCRIPT)],
        "task.html": [('<dl class="detail-list">', _TASK_JOB.format(xhtml_escape(_("Job"))))],
    }


class Templates(template.BaseLoader):
    """Flower's templates and our shell; its navigation bar gets one entry more."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002
        """Names are plain: no folders."""
        return name

    def _create_template(self, name: str) -> template.Template:
        ours = FOLDER / "templates" / name
        text = (ours if ours.exists() else _FLOWERS / name).read_text(encoding="utf-8")
        for place, more in _added().get(name, ()):
            text = text.replace(place, place + more, 1)
        return template.Template(text, name=name, loader=self)


@cache
def _parts() -> Environment:
    """Templates of our own kind, for what a page consists of."""
    environment = Environment(
        loader=PackageLoader("batch.flower", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["_"] = _
    environment.filters["seen"] = visible
    return environment


def prepare() -> Templates:
    """Flower's templates and ours, compiled: the first who looks need not wait for that."""
    parts = _parts()
    for name in parts.list_templates(["html"]):
        parts.get_template(name)
    flowers = Templates()
    flowers.load("shell.tornado")
    return flowers


class _Handler(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """What all of ours share."""

    @property
    def desk(self) -> Desk:
        """Where jobs are looked up."""
        desk: Desk = self.application.desk
        return desk

    async def find(self, job_id: str) -> Job:
        """The job; 404 where nobody told of it."""
        with _as_503():
            job = await self.desk.job(job_id)
        if job is None:
            raise HTTPError(404)
        return job

    def sends_files(self, job: Job) -> bool:
        """Whether its files can be had here."""
        can = job.coordinated or self.desk.is_here(job)
        return can and bool(self.application.downloads)

    async def listing(self) -> Listing:
        """The jobs that are asked for."""
        with _as_503():
            jobs = await self.desk.jobs()
        return Listing(jobs, Query.of(self.get_argument))

    async def events(self, job: Job) -> list[Event]:
        """What happened to it, the last first."""
        with _as_503():
            return await self.desk.events(job.job)

    async def series(self, job: Job) -> Series:
        """How it went."""
        with _as_503():
            return await self.desk.series(job.job) or Series()

    def prepare(self) -> None:
        """Times are those of whoever looks, whose browser tells its zone."""
        super().prepare()
        language.use_zone(unquote(self.get_cookie(_ZONE_COOKIE, "")))

    def set_default_headers(self) -> None:
        """Nothing from elsewhere is loaded, and nothing is kept."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

    def check_xsrf_cookie(self) -> None:
        """Flower is content with where a request comes from; here the token is asked for too."""
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    def write_error(self, status_code: int, **__: Any) -> None:
        """A sentence. Not what went wrong in detail: that may quote what is secret."""
        known = {404: page_texts.answer("no_job"), 503: page_texts.answer("away")}
        text = known.get(status_code) or str(self._reason)
        if self.wants_json:
            self.json({"error": text})
        else:
            self.shell(text, self.part("trouble", text=text, up=self.reverse_url("jobs")))

    @property
    def wants_json(self) -> bool:
        """Whether a program asks, or a page for its parts."""
        return "/api/" in self.request.path or bool(self.get_argument("live", ""))

    def json(self, data: object) -> None:
        """Answers with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(msgspec.json.encode(data))

    def own_url(self, name: str) -> str:
        """Where one of our files is."""
        mark = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:10]
        return f"{self.reverse_url('own', name)}?v={mark}"

    def shell(self, title: str, body: str) -> None:
        """A page of Flower's look."""
        what = {"title": title, "body": body, "skip": _("Skip to the content")}
        self.render("shell.tornado", own_url=self.own_url, language=language.code(), **what)

    def part(self, name: str, **what: Any) -> str:
        """A part of a page."""
        return (
            _parts()
            .get_template(f"{name}.html")
            .render(
                words=page_texts,
                look_only=self.application.look_only,
                jobs_url=self.reverse_url("jobs"),
                tasks_url=self.reverse_url("tasks"),
                job_url=lambda job: self.reverse_url("job", job),
                click_url=lambda job, wish: self.reverse_url("click", job, wish),
                form_url=lambda job, form: self.reverse_url("form", job, form),
                file_url=lambda job, name: self.reverse_url("file", job, name),
                **what,
            )
        )

    def show(
        self, title: str, names: tuple[str, ...], up: str = "", tools: str = "", **what: Any
    ) -> None:
        """A page of these parts, or the parts alone where a page asks for itself again.

        `up` leads to all jobs; `tools` stay as they are.
        """
        parts = {name: self.part(name, **what) for name in (*names, "zone")}
        if self.wants_json:
            self.json(parts)
            return
        query = f"{self.request.query}&live=1" if self.request.query else "live=1"
        frame = {"live": f"{self.request.path}?{query}", "parts": list(parts.items())}
        self.shell(title, self.part("page", up=up, tools=tools, **frame))


class MainPage(_Handler):
    """Where one comes first. Not the page itself: Flower's script takes it for that of workers."""

    def get(self) -> None:
        """Leads to the jobs."""
        self.redirect(self.reverse_url("jobs"))


class JobsPage(_Handler):
    """All jobs."""

    async def get(self) -> None:
        """The page, or its parts."""
        listing = await self.listing()
        tools = "" if self.wants_json else self.part("jobs-tools", listing=listing)
        self.show(_("Jobs"), ("jobs-summary", "jobs-list"), tools=tools, listing=listing)


class JobPage(_Handler):
    """One job."""

    async def get(self, job_id: str) -> None:
        """The page, or its parts."""
        job = await self.find(job_id)
        series = await self.series(job)
        budget = None if job.budget_rub is None else float(job.budget_rub)
        self.show(
            visible(job.name),
            ("job-head", "job-figures", "job-plots", "job-errors", "job-more"),
            up=self.reverse_url("jobs"),
            job=job,
            series=series,
            events=await self.events(job),
            charts=plots.charts(
                series, job.ended_at or time.time(), budget, runs=job.moves, unset=job.unset
            ),
            sends_files=self.sends_files(job),
        )


class JobsApi(_Handler):
    """All jobs, for programs."""

    async def get(self) -> None:
        """`{"jobs": [...], "page", "pages", "counts"}`."""
        listing = await self.listing()
        self.json(
            {
                "jobs": listing.shown,
                "page": listing.page,
                "pages": listing.pages,
                "counts": listing.counts,
            }
        )


class JobApi(_Handler):
    """One job, for programs."""

    async def get(self, job_id: str) -> None:
        """`{"job": {...}, "series": {...}}`; the shapes are those of `Job` and `Series`."""
        job = await self.find(job_id)
        self.json({"job": job, "series": await self.series(job)})


class MetricsPage(Metrics):  # type: ignore[misc]  # Flower has no types
    """Flower's metrics, and which jobs stand still: a coordinator that is gone cannot tell it."""

    async def get(self) -> None:
        """Prometheus's text."""
        await super().get()
        with suppress(ServiceUnavailable):
            self.write(generate_latest(_Stalled(await self.application.desk.jobs())))


class _Stalled(CollectorRegistry):
    """What Prometheus is told of these jobs."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__()
        self._found = [(job.job, job.stall.reason.value) for job in jobs if job.stall]

    def collect(self) -> Iterator[Metric]:
        """The same as the coordinator's metric of this name."""
        text = N_("Why a job stands still.")
        family = GaugeMetricFamily("nightshift_job_stalled", text, labels=["job_id", "reason"])
        for labels in self._found[:_MOST_TOLD]:
            family.add_metric(labels, 1)
        yield family


class ClickApi(_Handler):
    """A click."""

    async def post(self, job_id: str, wish: str) -> None:
        """`{"done", "code", "text"}`; 409 where it is not possible, 503 where nobody hears it."""
        job = await self.find(job_id)
        code = await self._asked(job, wish)
        if code == flower_commands.DONE:
            job = structs.replace(await self.find(job_id), reason=job.reason)
        status = _STATUS.get(code, _REFUSED)
        self.set_status(status)
        told = page_texts.answer(code, job, wish)
        self.json({"done": status == HTTPStatus.OK, "code": code, "text": told})

    async def _asked(self, job: Job, wish: str) -> str:
        if self.application.look_only:
            return "looking"
        figures = (
            forms.figures(job, self.get_body_argument) if wish == flower_commands.CHANGE else {}
        )
        try:
            flower_commands.change_of(figures)
        except ValueError:
            return "bad_value"
        if wish == flower_commands.CHANGE and not figures:
            return "unchanged"
        codes = tuple(self.get_body_arguments("code"))
        with _as_503():
            return await self.desk.ask(job, wish, codes=codes, figures=figures)


class FormPage(_Handler):
    """What is filled in before a click."""

    async def get(self, job_id: str, form: str) -> None:
        """A form, to be put into a page."""
        job = await self.find(job_id)
        retried: list[Retried] | None = []
        if form == "retry":
            with _as_503():
                retried = await self.desk.retries(job)
        if retried is None:
            self.set_status(503)
            self.json({"error": page_texts.answer("silent" if job.coordinated else "nobody")})
            return
        what = {"retried": forms.retried(retried), "stands": forms.current(job)}
        self.finish(self.part(f"form-{form}", job=job, **what))


class FilePage(_Handler):
    """One of a job's files."""

    async def get(self, job_id: str, name: str) -> None:
        """The file, piece by piece as the reader takes it; never shown as a page of ours."""
        job = await self.find(job_id)
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        if not self.application.downloads or name not in job.files or site not in _OWN_SITES:
            self._refuse(404, "unknown_file", job)
            return
        pieces = self.desk.pieces(job, name)
        try:
            with _as_503():
                first = await anext(pieces)
        except FileGone:
            self._refuse(503, "no_file", job)
            return
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
        self.set_header("Content-Length", first.size)
        await self._send(first, pieces)

    def _refuse(self, status: int, code: str, job: Job) -> None:
        self.set_status(status)
        up = self.reverse_url("job", job.job)
        self.shell(visible(job.name), self.part("trouble", text=page_texts.answer(code), up=up))

    async def _send(self, first: Piece, pieces: AsyncIterator[Piece]) -> None:
        """Who gets less than was announced knows that it is not whole: the connection is cut."""
        try:
            self.write(first.data)
            await self.flush()
            async for piece in pieces:
                self.write(piece.data)
                await self.flush()
        except (FileGone, ServiceUnavailable):
            self.detach().close()
        except StreamClosedError:
            return


@contextmanager
def _as_503() -> Iterator[None]:
    try:
        yield
    except ServiceUnavailable as error:
        raise HTTPError(503) from error


_JOB = r"(job_[0-9a-z]{26})"
ROUTES = [
    url(r"/metrics", MetricsPage, name="metrics"),
    url(r"/", MainPage, name="main"),
    url(r"/jobs", JobsPage, name="jobs"),
    url(rf"/job/{_JOB}", JobPage, name="job"),
    url(r"/api/jobs", JobsApi, name="api-jobs"),
    url(rf"/api/job/{_JOB}", JobApi, name="api-job"),
    url(rf"/api/job/{_JOB}/(pause|resume|cancel|retry|change)", ClickApi, name="click"),
    url(rf"/job/{_JOB}/form/(retry|budget|settings)", FormPage, name="form"),
    url(rf"/job/{_JOB}/file/([^/]+)", FilePage, name="file"),
    url(r"/own/([a-z.]+)", StaticFileHandler, {"path": str(FOLDER / "static")}, name="own"),
]
