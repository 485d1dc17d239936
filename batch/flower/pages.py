"""The Jobs page within Flower: its handlers, and where its templates and files come from.

    /jobs                      all jobs
    /job/<job>                 one, with plots
    /api/jobs, /api/job/<job>  the same for programs, as JSON
    POST /api/job/<job>/pause, /resume, /cancel

A page asks for itself again every two seconds with `live=1`, and gets its parts as JSON.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from flower.urls import settings as flower_settings
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from tornado import template
from tornado.escape import xhtml_escape
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, url

from batch.coordinator import clicks
from batch.flower import plots, texts
from batch.flower.status_reader import Desk, Job
from batch.language import _
from batch.reports.page import visible
from batch.watching.series import Series
from jobs.errors import ServiceUnavailable
from jobs.money import ZERO, total

PAGE_SIZE = 50
_MOST_TOLD = 100
"""Jobs that Prometheus is told of."""

FOLDER = Path(str(resources.files("batch.flower")))
_FLOWERS = Path(flower_settings["template_path"])

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_NAVBAR_LIST = '<ul class="app-nav navbar-nav">'
_NAVBAR_ENTRY = """
        <li class="nav-item"><a class="nav-link{{% if active_tab == 'jobs' %}} active{{% end %}}"
          href="{{{{ reverse_url('jobs') }}}}"
          {{% if active_tab == 'jobs' %}}aria-current="page"{{% end %}}>{}</a></li>"""
_STATUS = {clicks.DONE: 200, "looking": 403, "slow": 202, "nobody": 503, "silent": 503}
_REFUSED = 409
"""What is not possible as the job stands."""


class Templates(template.BaseLoader):
    """Flower's templates and our shell; its navigation bar gets one entry more."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002
        """Names are plain: no folders."""
        return name

    def _create_template(self, name: str) -> template.Template:
        ours = FOLDER / "templates" / name
        text = (ours if ours.exists() else _FLOWERS / name).read_text(encoding="utf-8")
        if name == "navbar.html":
            entry = _NAVBAR_ENTRY.format(xhtml_escape(_("Jobs")))
            text = text.replace(_NAVBAR_LIST, _NAVBAR_LIST + entry, 1)
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

    async def series(self, job: Job) -> Series:
        """How it went."""
        with _as_503():
            return await self.desk.series(job.job) or Series()

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
        known = {404: texts.answer("no_job"), 503: texts.answer("away")}
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
        self.render("shell.tornado", title=title, body=body, own_url=self.own_url)

    def part(self, name: str, **what: Any) -> str:
        """A part of a page."""
        return (
            _parts()
            .get_template(f"{name}.html")
            .render(
                words=texts,
                look_only=self.application.look_only,
                jobs_url=self.reverse_url("jobs"),
                job_url=lambda job: self.reverse_url("job", job),
                click_url=lambda job, wish: self.reverse_url("click", job, wish),
                **what,
            )
        )

    def show(self, title: str, names: tuple[str, ...], up: str = "", **what: Any) -> None:
        """A page of these parts, or the parts alone where a page asks for itself again.

        `up` leads to all jobs.
        """
        parts = {name: self.part(name, **what) for name in names}
        if self.wants_json:
            self.json(parts)
            return
        query = f"{self.request.query}&live=1" if self.request.query else "live=1"
        frame = {"live": f"{self.request.path}?{query}", "parts": list(parts.items())}
        self.shell(title, self.part("page", up=up, **frame))


class JobsPage(_Handler):
    """All jobs."""

    async def get(self) -> None:
        """The page, or its parts."""
        with _as_503():
            jobs = await self.desk.jobs()
        listing = Listing(jobs, self.get_argument("state", "all"), self.get_argument("page", "1"))
        self.show(_("Jobs"), ("jobs-summary", "jobs-list"), listing=listing)


class JobPage(_Handler):
    """One job."""

    async def get(self, job_id: str) -> None:
        """The page, or its parts."""
        job = await self.find(job_id)
        series = await self.series(job)
        budget = None if job.budget_rub is None else float(job.budget_rub)
        self.show(
            visible(job.name),
            ("job-head", "job-figures", "job-plots", "job-errors"),
            up=self.reverse_url("jobs"),
            job=job,
            series=series,
            charts=plots.charts(series, job.ended_at or time.time(), budget),
        )


class JobsApi(_Handler):
    """All jobs, for programs."""

    async def get(self) -> None:
        """`{"jobs": [...], "page", "pages", "counts"}`."""
        with _as_503():
            jobs = await self.desk.jobs()
        listing = Listing(jobs, self.get_argument("state", "all"), self.get_argument("page", "1"))
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
        text = "Why a job stands still."
        family = GaugeMetricFamily("nightshift_job_stalled", text, labels=["job_id", "reason"])
        for labels in self._found[:_MOST_TOLD]:
            family.add_metric(labels, 1)
        yield family


class ClickApi(_Handler):
    """A click."""

    async def post(self, job_id: str, wish: str) -> None:
        """`{"done", "code", "text"}`; 409 where it is not possible, 503 where nobody hears it."""
        job = await self.find(job_id)
        if self.application.look_only:
            code = "looking"
        else:
            with _as_503():
                code = await self.desk.ask(job, wish)
        self.set_status(_STATUS.get(code, _REFUSED))
        self.json({"done": code == clicks.DONE, "code": code, "text": texts.answer(code, job)})


class Listing:
    """The jobs of one page of one kind, and figures of all of them."""

    KINDS = ("all", "running", "paused", "ended")

    def __init__(self, jobs: list[Job], state: str, page: str) -> None:
        of = {
            "all": jobs,
            "running": [job for job in jobs if job.runs],
            "paused": [job for job in jobs if job.rests],
            "ended": [job for job in jobs if job.ended],
        }
        self.state = state if state in of else "all"
        chosen = of[self.state]
        self.counts = {kind: len(some) for kind, some in of.items()}
        self.pages = max(-(-len(chosen) // PAGE_SIZE), 1)
        self.page = min(max(int(page) if page.isdecimal() else 1, 1), self.pages)
        self.shown = chosen[(self.page - 1) * PAGE_SIZE : self.page * PAGE_SIZE]
        running = of["running"]
        self.rate = sum(job.rate for job in running)
        self.in_flight = sum(job.in_flight for job in running)
        self.workers = max((job.workers or 0 for job in running), default=0)
        self.needy = sum(job.needs_action for job in jobs)
        self.spent = total([ZERO, *(job.spent_rub for job in jobs if not job.ended)])


@contextmanager
def _as_503() -> Iterator[None]:
    try:
        yield
    except ServiceUnavailable as error:
        raise HTTPError(503) from error


_JOB = r"(job_[0-9a-z]{26})"
ROUTES = [
    url(r"/metrics", MetricsPage, name="metrics"),
    url(r"/jobs", JobsPage, name="jobs"),
    url(rf"/job/{_JOB}", JobPage, name="job"),
    url(r"/api/jobs", JobsApi, name="api-jobs"),
    url(rf"/api/job/{_JOB}", JobApi, name="api-job"),
    url(rf"/api/job/{_JOB}/(pause|resume|cancel)", ClickApi, name="click"),
    url(r"/own/([a-z.]+)", StaticFileHandler, {"path": str(FOLDER / "static")}, name="own"),
]
