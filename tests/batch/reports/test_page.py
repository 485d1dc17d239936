"""report.html: what it tells, that nothing gets out of its text, and that it stays small."""

from __future__ import annotations

import math
import re
import socket
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from importlib.metadata import version
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import language
from batch.reports.aggregates import Load
from batch.reports.charts import MOST_LAYERS, Growth, Spread, Timeline
from batch.reports.page import visible, write_page
from batch.store import delivery_ledger
from batch.store.billed import Billed
from batch.store.failure_causes import Causes
from batch.store.jobstore import JobStore
from batch.store.staged_job import Draft
from jobs.budget import Amount
from jobs.chunk import DONE, ChunkClosed
from jobs.job_options import Budget, Limits, Spec
from jobs.message import Message
from jobs.outcome import Billing
from jobs.pause_reasons import PauseReason
from jobs.request import Fault, Request
from jobs.result import Call, Result, ResultState
from jobs.states import JobState
from jobs.usage import Usage
from jobs.wire import Delivery

JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
START = datetime(2026, 7, 1, 20, 0, tzinfo=UTC).timestamp()
NO_TEXT = "harm less"

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "]]>--><!--<svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&#x3c;",
    "\x1b[31mred\x1b[0m\x07\r\n\x00\x9b2J",
    "\u202egpj.exe\u2066\u200f\ufeff\u200b\u2028\U000e0041",
    "=cmd|' /C calc'!A0",
    "javascript:alert(1)",
]


class Job:
    """A job made by the store's own means, one request after the other."""

    def __init__(
        self,
        folder: Path,
        requests: list[Request],
        *,
        faults: list[Fault] | None = None,
        **wish: object,
    ) -> None:
        draft = Draft(folder, JOB)
        for request in requests:
            draft.add(request)
        for fault in faults or []:
            draft.refuse(fault)
        draft.publish(spec(**wish), None, START - 60)
        self.store = JobStore(folder / JOB)
        self.store.chunks.grant(self.store.queue.waiting(10_000), Amount(), START)

    def deliver(
        self, calls: list[Call], results: list[Result], refusals: dict[str, int] | None = None
    ) -> None:
        closed = [ChunkClosed(1, DONE, [], refusals)] if refusals else []
        delivery_ledger.apply(self.store, [Delivery("box", 1, JOB, calls, results, closed, [])])

    def page(self) -> str:
        file = BytesIO()
        write_page(self.store, file)
        return file.getvalue().decode()


def spec(**wish: object) -> Spec:
    return Spec.model_validate(
        {
            "name": "reviews",
            "source": "reviews.jsonl",
            "output_dir": "out",
            "base_url": "https://routerai.ru/api/v1",
            "window": "23:00-07:00@Europe/Moscow",
            **wish,
        }
    )


def request(line: int, custom_id: str = "", model: str = "m") -> Request:
    return Request(line, custom_id or f"id-{line}", model, b"{}", 1, 100)


def call(ordinal: int, cost: str, *, name: str = "final", attempt: int = 1) -> Call:
    return Call(
        f"{name}-{ordinal}",
        ordinal,
        1,
        attempt,
        START,
        1.0,
        200,
        "",
        Billing.KNOWN,
        Decimal(cost),
        Decimal(1),
        100,
        Usage(1000, 200, 30, 0, 50),
    )


def lost_call(ordinal: int, bound: str | None) -> Call:
    return Call(
        f"lost-{ordinal}",
        ordinal,
        1,
        1,
        START,
        1.0,
        None,
        "endpoint.cut",
        Billing.UNKNOWN,
        None,
        None if bound is None else Decimal(bound),
        100,
    )


def completed(ordinal: int, *, latency_s: float = 1.0, flags: tuple[str, ...] = ()) -> Result:
    return Result(
        ordinal,
        ResultState.COMPLETED,
        "",
        "",
        200,
        1,
        f"final-{ordinal}",
        latency_s,
        START + 60 * (ordinal + 1),
        "request",
        flags,
    )


def failed(ordinal: int, code: str, message: str = "no") -> Result:
    return Result(
        ordinal,
        ResultState.FAILED,
        code,
        message,
        400,
        1,
        f"final-{ordinal}",
        1.0,
        START + 60 * (ordinal + 1),
    )


class Skeleton(HTMLParser):
    """The page without its text: tags in order, with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def words(page: str) -> str:
    """The page's text as a reader sees it, without its style."""
    without_style = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(" ".join(Skeleton(without_style).text).split())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(
        tmp_path,
        [request(line, model="large" if line == 1 else "small") for line in range(1, 7)],
        faults=[
            Fault(7, "input.json", Message("the line is not JSON")),
            Fault(9, "input.json", Message("the line is not JSON")),
        ],
        limits=Limits(rpm=1200, max_in_flight=64),
        budget=Budget(rub=Decimal(100)),
    )
    job.deliver(
        [
            call(0, "12.3456789012345"),
            call(1, "0.5"),
            call(1, "0.25", name="first"),
            call(3, "0.125"),
            lost_call(4, "0.75"),
            lost_call(5, None),
        ],
        [
            completed(0, latency_s=75),
            completed(1, latency_s=2, flags=("truncated",)),
            completed(2),
            failed(3, "endpoint.moderation", "flagged"),
            failed(4, "endpoint.timeout", "silence"),
            failed(5, "endpoint.timeout", "silence"),
        ],
        {"endpoint.rate_limited": 1234},
    )
    job.store.set_state(JobState.FINALIZING)
    return job


# ---- what it tells ------------------------------------------------------------------------------


def test_it_tells_what_came(job: Job) -> None:
    text = words(job.page())

    assert "3 completed of 6 requests" in text
    assert "3 failed of 6 requests" in text
    assert "2 skipped" in text
    assert "6 min duration" in text
    assert "1.0 requests per minute" in text


def test_it_tells_what_it_cost_rounded_and_to_the_last_digit(job: Job) -> None:
    text = words(job.page())

    assert "Total at least 13.22 ₽" in text
    assert "Exact total 13.2206789012345 ₽" in text
    assert "Budget 100.00 ₽, 13.2 % used" in text


def test_it_tells_what_failed_and_repeated_calls_cost(job: Job) -> None:
    text = words(job.page())

    assert "For failed requests at least 0.125 ₽" in text
    assert "For retried calls 0.25 ₽" in text


def test_it_tells_what_copies_saved(tmp_path: Path) -> None:
    draft = Draft(tmp_path, JOB, dedupe="all")
    for line in (1, 2, 3):
        draft.add(request(line))
    draft.drop_copies()
    draft.publish(spec(), None, START - 60)
    store = JobStore(tmp_path / JOB)
    store.chunks.grant(store.queue.waiting(10), Amount(), START)
    delivery_ledger.apply(
        store, [Delivery("box", 1, JOB, [call(0, "0.25")], [completed(0)], [], [])]
    )
    file = BytesIO()

    write_page(store, file)

    saved = "Saved by deduplication 0.50 ₽: 2 requests got a copied answer"
    assert saved in words(file.getvalue().decode())


def test_it_tells_the_most_that_uncertain_calls_can_cost(job: Job) -> None:
    text = words(job.page())

    told = "2 calls of unknown cost, at most 0.75 ₽ for 1 of them, no upper bound for the others"
    assert f"{told} ; not in the total" in text.replace("others;", "others ;")


def test_it_tells_the_cost_by_model_the_dearest_first(job: Job) -> None:
    text = words(job.page())

    assert (
        "large 1 1 1,000 200 12.35 ₽ 12.3456789012345 small 5 5 3,000 600 at least 0.875 ₽ –"
        in text
    )


def test_it_tells_the_cost_by_source_and_the_tokens(job: Job) -> None:
    text = words(job.page())

    assert "reported by the endpoint with the answer 13.22 ₽ 13.2206789012345" in text
    assert "In 4,000, of these 120 read from the cache" in text
    assert "Out 800, of these 200 for reasoning" in text


def test_errors_stand_by_code_with_their_lines_the_most_frequent_first(job: Job) -> None:
    text = words(job.page())

    again = f"nightshift resume {JOB} --retry"
    assert f"endpoint.timeout HTTP 400 2 silence lines 5, 6 {again} endpoint.timeout" in text
    assert "endpoint.moderation HTTP 400 1 flagged line 4" in text
    assert text.index("silence lines") < text.index("flagged line")


def test_no_retry_is_advised_of_what_would_fail_again(job: Job) -> None:
    text = words(job.page())

    told = "flagged line 4 A retry would fail again; print their input lines, correct them and"
    assert told in text
    assert f"nightshift failures {JOB} --code endpoint.moderation --input > failed.jsonl" in text
    assert "--retry endpoint.moderation" not in text
    assert "--retry failed" not in text


def test_it_gives_the_exact_command_to_retry_all(job: Job) -> None:
    sql = "UPDATE results SET code = 'endpoint.5xx' WHERE code = 'endpoint.moderation'"
    with job.store.db:
        job.store.db.execute(sql)

    assert f"nightshift resume {JOB} --retry failed" in words(job.page())


def test_skipped_lines_and_answers_worth_a_look_are_listed(job: Job) -> None:
    text = words(job.page())

    assert "input.json 2 the line is not JSON lines 7, 9" in text
    assert "truncated 1 cut off at the token limit line 2" in text


def test_refusals_that_cost_nothing_are_counted(job: Job) -> None:
    assert "endpoint.rate_limited 1,234" in words(job.page())


def test_requests_worth_a_look_are_listed_once_each_and_can_be_filtered(job: Job) -> None:
    page = job.page()
    noted = page[page.index('class="filter"') :].split("</section>")[0]

    told = "All 6 Failed 3 Needs review 1 Slowest 3 Most expensive 3 Line"
    assert told in words(noted)
    rows = re.findall(r'<tr class="([^"]*?) ?"><td [^>]*>(\d+)<', noted)
    failed = [("is-dear is-failed", "4"), ("is-failed", "5"), ("is-failed", "6")]
    others = [("is-dear is-flagged is-slow", "2"), ("is-dear is-slow", "1"), ("is-slow", "3")]
    assert rows == [*failed, *others]


def test_it_tells_what_was_asked_in_the_time_of_the_jobs_window(job: Job) -> None:
    text = words(job.page())

    assert "Input reviews.jsonl Endpoint routerai.ru/api/v1 Model large , small" in text
    assert "1,200 requests per minute; 64 concurrent calls; at most 5 attempts per request" in text
    assert "Budget 100.00 ₽ Hours 23:00-07:00@Europe/Moscow Submitted 2026-07-01 22:59:00" in text


def test_both_plots_draw_every_result_once(job: Job) -> None:
    page = job.page()
    over_time = re.findall(r"<title>[^<]*: (\d+) completed, (\d+) failed</title>", page)
    by_latency = re.findall(r"<title>[^<]* s: (\d+)</title>", page)

    assert sum(int(good) for good, _ in over_time) == 3
    assert sum(int(bad) for _, bad in over_time) == 3
    assert sum(map(int, by_latency)) == 3


def test_a_job_without_any_result_has_a_page_without_plots(tmp_path: Path) -> None:
    page = Job(tmp_path, [request(1)]).page()

    assert "<svg" not in page
    assert "1 not run" in words(page)
    assert "--retry-failed" not in page


def test_a_paused_job_tells_why_and_how_to_go_on(tmp_path: Path) -> None:
    job = Job(tmp_path, [request(1), request(2)])
    job.deliver([call(0, "1")], [completed(0)])
    job.store.set_state(
        JobState.PAUSED, reason=PauseReason.BUDGET_EXHAUSTED, text=Message("no more fits")
    )

    page = job.page()

    assert "1 request was not run. The budget is used up. no more fits" in words(page)
    assert f"nightshift resume {JOB} --budget-rub RUB" in words(page)


@pytest.mark.parametrize("reason", list(PauseReason))
def test_every_reason_has_its_words(tmp_path: Path, reason: PauseReason) -> None:
    job = Job(tmp_path, [request(1)])
    job.store.set_state(JobState.PAUSED, reason=reason)

    assert reason.value.capitalize() not in words(job.page())


def test_it_tells_how_near_to_its_limits_it_ran(job: Job) -> None:
    text = words(job.page())

    assert "Requests in the busiest minute 6 of 1,200 (0 %)" in text
    assert "Tokens in the busiest minute 4,800, no limit was set" in text
    assert "In flight, average of a minute 0.1 of 64 (0 %)" in text


def test_it_speaks_russian_to_who_reads_russian(job: Job) -> None:
    language.use("ru")
    try:
        page = job.page()
    finally:
        language.use("en")
    text = words(page)

    assert '<html lang="ru">' in page
    assert "3 готово из 6 запросов" in text
    assert "Всего не меньше 13,22 ₽ Точная сумма 13,2206789012345 ₽" in text
    assert "2 вызова неизвестной стоимости, не больше 0,75 ₽ за 1 из них" in text
    assert "Подано 01.07.2026 22:59:00" in text
    assert not set(re.findall("[A-Za-z]+", words_of_ours(text))) - {
        "rpm",
        "custom",
        "id",
        "p",
        *re.findall("[A-Za-z]+", socket.gethostname()),
    }


def words_of_ours(text: str) -> str:
    """Without names, codes, commands and what came from outside."""
    return re.sub(
        r"nightshift run [^С]*|nightshift resume \S+(?: --retry \S+| --max-tokens \d+)*|"
        r"nightshift failures .*? > |"
        r"[\w.]+\.(?:jsonl?|html)|--no-report-samples|p\d\d|"
        r"(?:endpoint|input)\.\w+|Nightshift|Europe/Moscow|routerai\S+|job_\w+|reviews|large|small|"
        r"id-\d|flagged|(?:more )?silence|truncated|the line is not JSON|HTTP",
        "",
        text,
    )


# ---- nothing gets out ---------------------------------------------------------------------------


def job_that_says(text: str, folder: Path) -> Job:
    """A job where everything that comes from outside is this text."""
    job = Job(
        folder,
        [request(1, f"{text}-1", text), request(2, f"{text}-2", text)],
        faults=[Fault(3, text, Message(text))],
        name=text,
        source=text,
    )
    job.deliver(
        [call(0, "1"), call(1, "1")],
        [completed(0, flags=(text,)), failed(1, text, text)],
        {text: 2},
    )
    job.store.set_state(JobState.PAUSED, reason=PauseReason.USER, text=Message(text))
    return job


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_tag_and_no_attribute(tmp_path: Path, text: str) -> None:
    harmless = Skeleton(job_that_says(NO_TEXT, tmp_path / "harmless").page())
    hostile = Skeleton(job_that_says(text, tmp_path / "hostile").page())

    assert hostile.tags == harmless.tags


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_not_followed(tmp_path: Path, text: str) -> None:
    shown = words(job_that_says(text, tmp_path).page())

    assert shown.count(" ".join(visible(text).split())) >= 10


def test_no_character_of_the_page_controls_or_reorders(tmp_path: Path) -> None:
    page = job_that_says("".join(HOSTILE), tmp_path).page()

    assert {category(character) for character in page if character != "\n"}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_shown_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = visible(text)

    assert len(shown.encode()) <= 10 * 241
    assert all(category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egpj", r"\u202egpj"),
        ("\ud800", r"\ud800"),
        ("цена 5\u00a0₽ 🎉", "цена 5\u00a0₽ 🎉"),
    ],
)
def test_what_cannot_be_seen_is_shown_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


# ---- one page by itself -------------------------------------------------------------------------


def test_the_policy_allows_the_pages_own_style_and_nothing_else(job: Job) -> None:
    page = job.page()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()

    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_the_policy_stands_before_anything_it_governs(job: Job) -> None:
    page = job.page()

    assert page.startswith("<!DOCTYPE html>")
    assert page.index("Content-Security-Policy") < page.index("<style")


def test_what_failed_comes_before_what_it_cost(job: Job) -> None:
    heads = re.findall(r"<h2>(.*?)</h2>", job.page())

    first = ["Failures", "Skipped lines", "Completed, needs review", "Unconfirmed cost", "Cost"]
    assert heads[:5] == first


def test_on_a_phone_each_cell_has_the_name_of_its_column(job: Job) -> None:
    for table in re.findall(r"<table.*?</table>", job.page(), re.DOTALL):
        heads = re.findall(r"<th\b.*?>(.*?)</th>", table)
        names = re.findall(r"<td[^>]* data-name=\"(.*?)\"", table)
        assert names == heads * (table.count("<tr") - 1)


def test_it_refers_to_nothing_outside_itself(job: Job) -> None:
    page = job.page()
    names = {name for _, attributes in Skeleton(page).tags for name in attributes}

    assert not re.search(r"https?:|//|url\(|@import", re.sub("'sha256-[^']*'", "", page))
    assert names.isdisjoint({"href", "src", "srcset", "style", "action", "data", "xlink:href"})
    assert not {name for name in names if name.startswith("on")}
    assert "<script" not in page


def test_the_same_job_gives_the_same_bytes(job: Job) -> None:
    assert job.page() == job.page()


def test_the_page_is_the_same_before_and_after_the_job_is_called_completed(job: Job) -> None:
    before = job.page()
    job.store.set_state(JobState.COMPLETED, now=START + 9999)

    assert job.page() == before


# ---- small, whatever the job --------------------------------------------------------------------


def test_the_page_stays_under_a_megabyte_at_its_worst(tmp_path: Path) -> None:
    rude = "\U000e0041" * 500
    many = range(1000)
    job = Job(
        tmp_path,
        [request(n + 1, f"{n}{rude}", f"{n}{rude}") for n in many],
        faults=[Fault(2000 + n, f"{n}{rude}", Message(rude)) for n in many],
        name=rude,
        source=rude,
    )
    job.deliver(
        [call(n, "0.1234567890123") for n in many],
        [
            failed(n, f"{n}{rude}", rude) if n % 2 else completed(n, flags=(f"{n}{rude}",))
            for n in many
        ],
        {f"{n}{rude}": n for n in many},
    )

    assert len(job.page().encode()) < 1_000_000


def test_codes_without_end_share_one_group_and_are_all_counted() -> None:
    groups = Causes()
    for line in range(1, 5001):
        groups.add(f"code-{line}", line)

    assert len(groups) < 50
    assert groups.count == 5000
    assert next(iter(groups)).code == ""


@given(st.lists(st.floats(0.001, 1e5), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_of_latency_is_true_to_half_a_percent(
    latencies: list[float], share: float
) -> None:
    spread = Spread()
    for latency in latencies:
        spread.add(latency)

    truth = sorted(latencies)[math.ceil(share * len(latencies)) - 1]

    assert spread.at(share) == pytest.approx(truth, rel=0.0051)


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_every_latency_is_in_one_bar_of_the_chart(latencies: list[float]) -> None:
    spread = Spread()
    for latency in latencies:
        spread.add(latency)

    chart = spread.chart()

    assert sum(bar.completed for bar in chart.bars) == len(latencies)
    assert len(chart.bars) <= 80
    assert chart.ticks


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghi"), st.decimals(0, 100, places=4), st.floats(0, 1e5)),
        min_size=1,
    )
)
def test_the_highest_outline_of_what_grew_is_the_whole(
    amounts: list[tuple[str, Decimal, float]],
) -> None:
    growth = Growth(Timeline(START, START + 1e5, in_zone_of_hours(0)), 7)
    for name, amount, seconds in amounts:
        growth.add(name, amount, START + seconds)

    stack, whole = growth.stack(), sum(amount for _, amount, _ in amounts)

    if not whole:
        assert stack is None
        return
    assert stack
    assert sum(layer.total for layer in stack.layers) == whole
    assert len(stack.layers) <= MOST_LAYERS + 1
    assert stack.top >= whole
    heights = [
        [1000 - float(point.split()[1]) for point in layer.path[8:-6].split("L")]
        for layer in stack.layers
    ]
    assert all(upper >= lower for upper, lower in pairwise(heights))
    assert heights[0] == sorted(heights[0])
    assert heights[0][-1] == pytest.approx(1000 * float(whole / stack.top), abs=0.06)


def billed(sent_at: float, latency_s: float) -> Billed:
    known = ("known", "0.5", "endpoint", None)
    return Billed(0, "box-1", sent_at, latency_s, *known, 3, None, None, None, None, "")


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.01, 900)), min_size=1, max_size=50))
def test_the_load_counts_every_call_and_every_second_of_it(
    calls: list[tuple[float, float]],
) -> None:
    timeline = Timeline(START, START + 1e4, in_zone_of_hours(0))
    load = Load(timeline)
    for after, took in calls:
        load.add(billed(START + after, took))

    busiest, bars = load.busiest, load.chart().bars

    assert 1 <= busiest.calls <= len(calls)
    assert busiest.tokens == 3 * busiest.calls
    assert busiest.busy_s <= 60 * len(calls) + 0.01
    seconds = sum(took for _, took in calls)
    assert sum(bar.completed for bar in bars) * timeline.width >= seconds - 0.01


@given(st.floats(0, 4e9), st.lists(st.floats(0, 1e8), min_size=1))
def test_every_result_is_in_one_bar_of_the_timeline(first: float, after: list[float]) -> None:
    timeline = Timeline(first, first + max(after), in_zone_of_hours(0))
    for seconds in after:
        timeline.add(first + seconds, failed=False)

    chart = timeline.chart()

    assert sum(bar.completed for bar in chart.bars) == len(after)
    assert len(chart.bars) <= 80
    assert len(chart.ticks) <= 7
    assert chart.top >= chart.highest


def test_bars_and_ticks_start_at_round_local_times() -> None:
    clock = in_zone_of_hours(5.5)
    timeline = Timeline(START + 1234, START + 8 * 3600, clock)

    chart = timeline.chart()

    assert all(clock(bar.start).minute % 10 == 0 for bar in chart.bars)
    assert all(clock(time).minute == 0 for _, time in chart.ticks)


def in_zone_of_hours(hours: float) -> Callable[[float], datetime]:
    zone = timezone(timedelta(hours=hours))
    return lambda seconds: datetime.fromtimestamp(seconds, zone)


def test_the_night_is_told_what_was_waited_for_what_happened_and_by_whom(job: Job) -> None:
    job.store.keep_waits(START, {"rpm": 90.0, "retry_after": 30.0})

    text = words(job.page())

    assert "The job's limit of requests per minute 1 min 30 s · 75 %" in text
    assert "A pause that the endpoint asked for 30 s · 25 %" in text
    assert "2026-07-01 22:59:00 submitted" in text
    assert f"Written by Nightshift {version('nightshift')} on {socket.gethostname()}." in text
