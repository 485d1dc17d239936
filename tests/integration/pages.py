"""Flower's pages in a real browser: every width, light and dark, keyboard alone, every action.

    scripts/pages [arguments of pytest]

Not a part of the suite: it needs Chromium, and axe-core, whose path is in `AXE`. Pictures are put
into `PICTURES`, if it is set.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batch.coordinator.redis.coordinator_redis import CoordinatorRedis
from scripts.torturing.installation import Installation
from tests.conftest import SEAL
from tests.integration.browser import Browser
from tests.integration.test_flower_jobs import PASSWORD, Flowers, Site, tell, wait_for

WIDTHS = (360, 840, 900, 1400, 2560)
_AXE = Path(os.environ["AXE"])
_PICTURES = Path(os.environ.get("PICTURES", ""))
_ENDPOINT = (
    *("--latency", "uniform:0.5:1.5", "--max-in-flight", "16"),
    *("--fault", "400:row=broken"),
)

_CUT = """(() => {
  const told = [], wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) { told.push(`the page is ${wide} wide`); }
  const controls = "main :is(a, button, input:not([type=hidden]), select)";
  for (const each of document.querySelectorAll(controls)) {
    if (!each.checkVisibility() || each.closest(".ns-scroll")) { continue; }
    const name = each.ariaLabel || each.innerText || each.name;
    const box = each.getBoundingClientRect();
    if (box.left < 0 || box.right > innerWidth + 0.5) { told.push(`${name} is cut off`); continue; }
    each.scrollIntoView({ block: "center", behavior: "instant" });
    const first = each.getClientRects()[0];
    const on = document.elementFromPoint(first.x + first.width / 2, first.y + first.height / 2);
    const free = on === each || each.contains(on) || on?.contains(each);
    if (!free) { told.push(`${name} is covered`); }
  }
  const title = document.querySelector("main .ns-title")?.getBoundingClientRect();
  if (title && title.height > title.width) { told.push("the title is crushed"); }
  scrollTo({ top: 0, behavior: "instant" });
  return told;
})()"""

_GRAVE = """axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => each.id + ": " + each.nodes.map((node) => node.html.slice(0, 160) + " " +
    (node.any[0]?.message ?? "")).join(" | ")))"""


class Place(NamedTuple):
    """A house with jobs of all kinds, a Flower and a browser."""

    house: Installation
    flowers: Flowers
    site: Site
    browser: Browser
    jobs: dict[str, str]

    def open(self, path: str) -> None:
        self.browser.open(self.site.url(path))
        self.browser.wait("!!document.querySelector('[data-live]')", path)

    def page(self, name: str) -> str:
        return f"/job/{self.jobs[name]}"

    def facts(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.site.json(f"/api/job/{self.jobs[name]}")["job"]
        return found

    def toast(self, part: str) -> None:
        self.browser.wait(f"document.body.innerText.includes({part!r})", part)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pages")
    flowers = Flowers(folder)
    with (
        Installation(folder, workers=1, endpoint=_ENDPOINT) as house,
        Browser(folder / "browser", ("nightshift", PASSWORD)) as browser,
    ):
        jobs = {
            "done": house.submit("done", 12),
            "broken": house.submit("broken", 9, "--max-refusals", "0"),
        }
        house.wait("done")
        jobs["dear"] = house.submit("dear", 40, "--budget-rub", "0.4")
        jobs["long"] = house.submit("long", 2000, "--budget-rub", "900", "--max-in-flight", "12")
        jobs["spare"] = house.submit("a job whose name is longer than others have", 3000)
        site = flowers.start(house.redis_url("flower"))
        place = Place(house, flowers, site, browser, jobs)
        wait_for(lambda: place.facts("dear")["state"] == "paused", "the budget", 120)
        wait_for(lambda: place.facts("broken")["failed"] == 9, "failures", 120)
        wait_for(lambda: place.facts("long")["completed"], "results", 120)
        try:
            yield place
        finally:
            flowers.end()


def _look(browser: Browser, width: int, *, dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.tell("Emulation.setEmulatedMedia", features=[scheme])
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.tell("Emulation.setDeviceMetricsOverride", **size)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", ["jobs", "long", "broken", "dear", "form"])
def test_nothing_is_cut_covered_or_hard_to_read(place: Place, which: str, dark: bool) -> None:
    found = {}
    place.open("/" if which == "jobs" else place.page("long" if which == "form" else which))
    place.browser.ask(_AXE.read_text("utf-8") + ";0")
    if which == "form":
        place.browser.click("[data-form$=settings]")
        place.browser.wait("!!document.querySelector('[data-filled][open]')", "the form")
    for width in WIDTHS:
        _look(place.browser, width, dark=dark)
        place.browser.ask("new Promise((done) => setTimeout(done, 300))")
        told = [*([] if which == "form" else place.browser.ask(_CUT)), *place.browser.ask(_GRAVE)]
        if told:
            found[width] = told
        if _PICTURES.name:
            name = f"{which}-{width}-{'dark' if dark else 'light'}.png"
            place.browser.picture(_PICTURES / name, width, dark=dark)
    assert found == {}


def test_every_task_can_be_reached_and_told_apart(place: Place) -> None:
    _look(place.browser, 1400, dark=False)
    wait_for(lambda: place.site.json("/api/tasks"), "a chunk")
    place.browser.open(place.site.url("/tasks"))
    link = "#tasks-table tbody td:first-child a[href*='/task/']"
    place.browser.wait(f"!!document.querySelector({link!r})", "a chunk")
    told = place.browser.ask(
        f"Array.from(document.querySelectorAll({link!r}), (each) => each.innerText)"
    )
    assert len(set(told)) == len(told)
    assert place.browser.ask("document.documentElement.scrollWidth <= innerWidth")
    if _PICTURES.name:
        place.browser.picture(_PICTURES / "tasks-1400.png", 1400)

    loaded = place.browser.loaded
    place.browser.click(link)
    place.browser.wait(lambda: place.browser.loaded > loaded, "the chunk's page")
    loaded = place.browser.loaded
    place.browser.click("dd a[href*='/job/job_']")
    place.browser.wait(lambda: place.browser.loaded > loaded, "the job's page")
    assert place.browser.ask("location.pathname.startsWith('/job/job_')")

    place.open(place.page("long"))
    loaded = place.browser.loaded
    place.browser.click(".ns-chunks a")
    place.browser.wait(lambda: place.browser.loaded > loaded, "its chunks")
    place.browser.wait(f"!!document.querySelector({link!r})", "one of them")
    told = place.browser.ask(
        f"Array.from(document.querySelectorAll({link!r}), (each) => each.innerText)"
    )
    assert {each.partition("/")[0] for each in told} == {place.jobs["long"][-6:]}


@pytest.mark.parametrize("path", ["tasks", "workers", "broker"])
def test_flowers_own_pages_fit_and_can_be_read(place: Place, path: str) -> None:
    browser, found = place.browser, {}
    for dark in (False, True):
        _look(browser, 1400, dark=dark)
        browser.open(place.site.url(f"/{path}"))
        browser.wait("!document.querySelector('.dataTables_processing:not([style*=none])')", path)
        browser.ask(_AXE.read_text("utf-8") + ";0")
        for width in WIDTHS:
            _look(browser, width, dark=dark)
            browser.ask("new Promise((done) => setTimeout(done, 300))")
            told = [*browser.ask(_CUT), *browser.ask(_GRAVE)]
            if told:
                found[width, dark] = told
            if _PICTURES.name:
                look = "dark" if dark else "light"
                browser.picture(_PICTURES / f"{path}-{width}-{look}.png", width, dark=dark)
    assert found == {}


def _press(browser: Browser, key: str, code: int) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        more = text if kind == "keyDown" else {}
        browser.tell(
            "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
        )


def test_the_keyboard_alone_suffices(place: Place) -> None:
    """Each control has the focus in turn; a question's answer is no unless somebody says yes."""
    browser = place.browser
    _look(browser, 1400, dark=False)
    place.open(place.page("spare"))
    focused = "document.activeElement?.ariaLabel || document.activeElement?.innerText || ''"
    seen = []
    for _ in range(60):
        _press(browser, "Tab", 9)
        seen.append(browser.ask(focused))
        if str(seen[-1]).startswith("Cancel: a job"):
            break
    name = "a job whose name is longer than others have"
    assert f"Pause: {name}" in seen
    assert seen[-1] == f"Cancel: {name}"
    _press(browser, "Enter", 13)
    browser.wait("document.querySelector('[data-question]').open", "the question")
    assert browser.ask("document.activeElement.value") == "no"
    _press(browser, "Enter", 13)
    browser.wait("!document.querySelector('[data-question]').open", "the question to go")
    assert browser.ask(focused) == f"Cancel: {name}"
    assert place.facts("spare")["state"] in ("in_progress", "validating")


def test_focus_stays_where_somebody_works(place: Place) -> None:
    browser = place.browser
    place.open(place.page("spare"))
    browser.ask("document.querySelector('[data-click$=pause]').focus()")
    _press(browser, "Enter", 13)
    browser.wait("!!document.querySelector('.ns-head [data-click$=resume]')", "the pause")
    browser.wait("!document.querySelector('.ns-head [data-click$=pause]')", "the button to go")
    assert browser.ask("!!document.activeElement.closest('.ns-head')")
    place.toast("Paus")


def test_a_page_says_of_when_it_is_while_nothing_new_comes(place: Place) -> None:
    browser, redis = place.browser, place.house.redis_url("flower")
    site = place.flowers.start(redis)
    browser.open(site.url(place.page("done")))
    word = "document.querySelector('[data-live-word]').innerText"
    same = browser.ask(
        "(async () => { const url = document.querySelector('[data-live]').dataset.live;"
        " const mark = (await fetch(url)).headers.get('ETag');"
        " return (await fetch(url, {headers: {'If-None-Match': mark}})).status; })()"
    )
    assert same == 304

    place.flowers.end_last()
    browser.wait(f"{word}.startsWith('Disconnected (as of ')", "the loss to be told")
    place.flowers.start(redis, "--port", str(site.port))
    browser.wait(f"{word} === 'Live'", "the page to come back")
    assert not browser.ask("!!document.querySelector('.ns-lost')")
    browser.messages.clear()  # of connections that were refused


def test_a_budget_is_raised_with_the_figure_that_is_offered(place: Place) -> None:
    place.open(place.page("dear"))
    place.browser.click("[data-form$=budget]")
    place.browser.wait("!!document.querySelector('[data-filled][open]')", "the form")
    place.browser.click("[data-filled] .btn-primary")
    place.toast("Saved; a job that waited for its budget continues.")
    wait_for(lambda: place.facts("dear")["state"] == "completed", "its end", 120)


def test_settings_are_changed(place: Place) -> None:
    place.open(place.page("long"))
    place.browser.click("[data-form$=settings]")
    place.browser.wait("!!document.querySelector('[data-filled][open]')", "the form")
    place.browser.ask(
        "document.querySelector('[name=max_in_flight]').value = 5;"
        "document.querySelector('[name=priority]').value = 'high';"
        "document.querySelector('[name=window]').value = '00:00-23:59'"
    )
    place.browser.click("[data-filled] .btn-primary")
    place.toast("Saved; it applies to everything not sent yet.")
    wait_for(lambda: place.facts("long")["max_in_flight"] == 5, "the limit")
    assert place.facts("long")["priority"] == 100.0
    assert place.facts("long")["window"].startswith("00:00-23:59@")


def test_failures_are_retried_by_cause(place: Place) -> None:
    place.open(place.page("broken"))
    place.browser.click("[data-form$=retry]")
    place.browser.wait("!!document.querySelector('[data-filled][open]')", "the form")
    assert "₽" in place.browser.text("[data-filled] tbody")
    assert not place.browser.ask("document.querySelector('[name=code]').checked")
    if _PICTURES.name:
        place.browser.picture(_PICTURES / "retry-1400.png", 1400, 900)
    place.browser.click("[name=code]")
    place.browser.click("[data-filled] .btn-primary")
    place.toast("The failed requests are being sent again.")
    wait_for(lambda: "retried" in str(place.site.ask(place.page("broken"))), "its history")


def test_files_are_downloaded_whole(place: Place) -> None:
    place.open(place.page("done"))
    names = place.browser.ask(
        "Array.from(document.querySelectorAll('.ns-files a'), (each) => each.download)"
    )
    assert names == ["output.jsonl", "errors.jsonl", "cost.json", "report.html"]
    for name in names:
        digest = place.browser.ask(
            f"fetch(document.querySelector('.ns-files a[download=\"{name}\"]').href)"
            ".then((answer) => answer.arrayBuffer())"
            ".then((bytes) => crypto.subtle.digest('SHA-256', bytes))"
            ".then((found) => Array.from(new Uint8Array(found), (b) =>"
            " b.toString(16).padStart(2, '0')).join(''))"
        )
        written = (place.house.output("done") / name).read_bytes()
        assert digest == hashlib.sha256(written).hexdigest(), name


def test_a_command_is_copied_as_it_can_be_run(place: Place) -> None:
    place.open(place.page("done"))
    origin = place.site.url("")
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    place.browser.tell("Browser.grantPermissions", origin=origin, permissions=permissions)
    place.browser.click(".ns-head [data-copy]")
    place.toast("Copied.")
    assert place.browser.ask("navigator.clipboard.readText()") == place.jobs["done"]


def test_the_list_is_searched_sorted_and_steered_for_several_jobs(place: Place) -> None:
    browser = place.browser
    _look(browser, 1400, dark=False)
    place.open("/jobs")
    loaded = browser.loaded
    browser.ask("document.querySelector('[name=q]').value = 'o'")
    browser.click("[data-tools] button")
    browser.wait(lambda: browser.loaded > loaded, "what was found")
    names = "Array.from(document.querySelectorAll('.ns-name a'), (each) => each.innerText)"
    assert set(browser.ask(names)) == {
        "done",
        "broken",
        "long",
        "a job whose name is longer than others have",
    }
    loaded = browser.loaded
    browser.click(".ns-jobs thead a")
    browser.wait(lambda: browser.loaded > loaded, "the order")
    assert browser.ask(names) == sorted(browser.ask(names))

    browser.click("[data-choose=all]")
    assert browser.text("[data-bulk-count]") == "4"
    browser.click("[data-bulk-wish=pause]")
    place.toast("Jobs being paused: ")
    browser.wait(lambda: place.facts("long")["state"] == "paused", "the pause")
    browser.wait("!document.querySelector('[data-bulk-wish=cancel]').hidden", "the rows")
    browser.click("[data-bulk-wish=cancel]")
    browser.wait("document.querySelector('[data-question]').open", "the question")
    browser.click("[data-question] [value=yes]")
    browser.wait(lambda: place.facts("long")["state"] == "cancelled", "the end of one")
    browser.wait(lambda: place.facts("spare")["state"] == "cancelled", "the end of the other")


def test_the_first_paint_of_a_thousand_jobs_takes_less_than_a_second(place: Place) -> None:
    painted = []
    with closing(CoordinatorRedis(place.house.redis_url("test"), SEAL)) as post:
        for number in range(1000):
            tell(post, number)
    for _ in range(5):
        place.open("/jobs")
        entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        place.browser.wait(f"{entry} > 0", "the paint")
        painted.append(place.browser.ask(entry))
        time.sleep(0.2)
    print("first contentful paint, ms:", painted)
    assert place.browser.text(".ns-filter.active").endswith("1,000")
    assert place.browser.messages == []
