"""From a file to a job: all of it is checked before anything is kept, let alone sent."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from batch.estimator.estimate import Estimate, Size, estimate
from batch.money.caps import Caps, read_caps, write_caps
from batch.store import database, staged_job
from batch.store.home import Home
from batch.submission import pricing
from batch.submission.report import MOST_FAULTS, Refused, Report
from batch.submission.submit import new_job_id, submit, validate
from jobs.errors import InvalidInput, ServiceUnavailable, StorageUnavailable, UsageError
from jobs.ids import check_job_id
from jobs.job_options import Budget
from jobs.message import Message
from jobs.names import COST, ERRORS, OUTPUT, REPORT
from jobs.prices import PriceList
from jobs.request import Fault
from jobs.table_task import Task
from tests.batch.making import JOB, MODEL, prices, spec

CAP = Budget(rub=Decimal(100))
IMAGE = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "https://x/y"}}]


def lines(*changes: dict[str, Any]) -> BytesIO:
    """An input, one line for each change of a fine one."""
    found = []
    for number, change in enumerate(changes, start=1):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "max_tokens": 100}
        fields = {"custom_id": f"r-{number}", **body, **change}
        found.append(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return BytesIO("\n".join(found).encode())


class Desk:
    """Where jobs are submitted; the endpoint's prices are at hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")

    def submit(self, source: Path | BytesIO, **wish: Any) -> Report:
        return submit(self.home, JOB, spec(self.folder, **wish), source)

    def refuses(self, error: type[BaseException], source: Path | BytesIO, **wish: Any) -> Any:
        """Nothing of it stays."""
        before = sorted(self.folder.iterdir())
        with pytest.raises(error) as refusal:
            self.submit(source, **wish)
        assert list(self.home.jobs_folder.iterdir()) == []
        assert sorted(self.folder.iterdir()) == before
        return refusal.value


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    def read(_url: str, models: list[str], *, now: float, **_: object) -> PriceList:
        assert now > 0
        return prices("0.001", *(model for model in models if not model.startswith("un/")))

    monkeypatch.setattr(pricing, "read_prices", read)
    return Desk(tmp_path)


# ── Taken ────────────────────────────────────────────────────────────────────────────────────────


def test_a_fine_file_becomes_a_job(desk: Desk) -> None:
    report = desk.submit(lines({}, {}, {"model": "b/n"}), budget=CAP)

    job = desk.home.open(JOB).job()
    assert (report.requests, report.invalid, report.models) == (3, 0, [MODEL, "b/n"])
    assert (job.requests, job.spec.budget) == (3, CAP)
    assert job.guess.at_most == report.estimate.highest
    assert report.estimate.highest is not None
    assert report.estimate.highest > 3


def test_an_estimate_of_packs_counts_their_comparison_as_the_job_does(desk: Desk) -> None:
    task = Task(prompt="Tone: {{ a }}", choices=("good", "bad"), auto_pack=True)
    wish: dict[str, Any] = {"task": task, "model": MODEL, "max_tokens": 20}
    rows = b'{"a": "text"}\n' * 30

    told = validate(desk.home, spec(desk.folder, **wish), BytesIO(rows), priced=True)

    assert told.estimate.highest == desk.submit(BytesIO(rows), **wish).estimate.highest


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf\r\n"])
def test_a_file_without_lines_is_refused_i15(data: bytes, desk: Desk) -> None:
    assert "contains no requests" in desk.refuses(InvalidInput, BytesIO(data), budget=CAP).message


def test_a_file_of_which_nothing_is_left_is_refused(desk: Desk) -> None:
    refusal = desk.refuses(Refused, BytesIO(b"{}\n{broken\n"), skip_invalid=True)

    assert "2 lines cannot be sent; nothing was sent" in refusal.message
    assert "--skip-invalid" not in refusal.hint


def test_ids_sort_by_their_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000])
    monkeypatch.setattr("ulid.time.time_ns", lambda: next(moments) * 10**6)

    ids = [new_job_id() for _ in range(3)]

    assert ids == sorted(ids)
    assert [check_job_id(each) for each in ids] == ids


# ── Refused for its lines ────────────────────────────────────────────────────────────────────────


def test_all_faults_are_listed_and_nothing_stays(desk: Desk) -> None:
    source = BytesIO(
        lines({}).getvalue() + b"\nnull\n{broken\n" + lines({}, {"messages": None}).getvalue()
    )

    refusal = desk.refuses(Refused, source)

    assert [(fault.line, fault.code) for fault in refusal.report.faults] == [
        (2, "input.json"),
        (3, "input.json"),
        (5, "input.field"),
        (4, "input.duplicate_id"),
    ]
    assert "4 lines cannot be sent; nothing was sent" in refusal.message


def test_of_very_many_faults_the_first_are_listed_and_all_are_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is stored of an input that no job comes of."""
    stored: list[Fault] = []
    monkeypatch.setattr(staged_job.Draft, "refuse", lambda _, fault: stored.append(fault))

    refusal = desk.refuses(Refused, BytesIO(b"[]\n" * (MOST_FAULTS + 50)))

    assert len(refusal.report.faults) == MOST_FAULTS
    assert stored == []
    assert refusal.report.invalid == MOST_FAULTS + 50


def test_faulty_lines_are_skipped_if_that_is_wished(desk: Desk) -> None:
    source = BytesIO(lines({}).getvalue() + b"\n[]\n" + lines({}, {}).getvalue())

    report = desk.submit(source, skip_invalid=True)

    store = desk.home.open(JOB)
    assert (report.requests, report.invalid) == (2, 2)
    assert (store.job().requests, store.job().invalid) == (2, 2)
    assert [(fault["line"], fault["code"]) for fault in store.faults()] == [
        (2, "input.json"),
        (3, "input.duplicate_id"),
    ]
    assert json.loads(store.queue.body(2))["model"] == MODEL
    assert [each.ordinal for each in store.queue.waiting(9)] == [0, 2]


# ── Refused for its cap (FAULTS I20 to I22) ──────────────────────────────────────────────────────


@pytest.mark.parametrize("cap", [CAP, Budget(tokens=10**6)])
@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": IMAGE}]},
        {"plugins": [{"id": "web"}]},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=["image", "plugin", "search"],
)
def test_what_costs_what_it_costs_is_refused_under_a_cap_i22(
    desk: Desk, cap: Budget, change: dict[str, Any]
) -> None:
    refusal = desk.refuses(Refused, lines({}, change), budget=cap)

    assert [(fault.line, fault.code) for fault in refusal.report.faults] == [(2, "input.unbounded")]


def test_what_costs_what_it_costs_is_taken_under_a_cap_if_somebody_answers_for_it(
    desk: Desk,
) -> None:
    image = {"messages": [{"role": "user", "content": IMAGE}]}
    bound = {"request_bound_rub": Decimal(3)}

    desk.refuses(Refused, lines({}, image), budget=Budget(tokens=10**6), **bound)
    desk.submit(lines({}, image, {"model": "un/known"}), budget=CAP, **bound)

    assert [each.bounded for each in desk.home.open(JOB).queue.waiting(9)] == [True, False, True]


def test_prices_from_a_file_come_before_those_of_the_catalogue(desk: Desk) -> None:
    path = desk.folder / "prices.toml"
    path.write_text('[models."un/known"]\nprompt = "10"\ncompletion = "20"\n')

    desk.submit(lines({}, {"model": "un/known"}), budget=CAP, price_file=str(path))

    found = desk.home.open(JOB).prices()
    assert found is not None
    assert {name: price.by_hand for name, price in found.models.items()} == {
        MODEL: False,
        "un/known": True,
    }


def test_where_the_file_prices_every_model_the_endpoint_is_not_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> PriceList:
        raise ServiceUnavailable(Message("there is no catalogue"))

    monkeypatch.setattr(pricing, "read_prices", away)
    path = desk.folder / "prices.json"
    path.write_text(json.dumps({"models": {MODEL: {"prompt": "10", "completion": 20}}}))

    desk.submit(lines({}), budget=CAP, price_file=str(path))

    found = desk.home.open(JOB).prices()
    assert found is not None
    assert found.source == str(path)


def test_an_endpoint_that_counts_in_dollars_is_refused_without_a_rate(desk: Desk) -> None:
    url = {"base_url": "https://openrouter.ai/api/v1"}

    refusal = desk.refuses(UsageError, lines({}), **url)

    assert "are in dollars" in str(refusal)
    assert "--usd-rate" in refusal.hint
    desk.submit(lines({}), usd_rate=Decimal("90.5"), **url)


def test_the_caps_of_the_home_refuse_what_nobody_can_bound_too(desk: Desk) -> None:
    write_caps(desk.home.folder, Caps(rub_per_month=Decimal(100)))

    image = {"messages": [{"role": "user", "content": IMAGE}]}
    assert desk.refuses(Refused, lines({}, image)).report.faults[0].code == "input.unbounded"
    refusal = desk.refuses(UsageError, lines({}, {"model": "un/known"}))
    assert "no cap in roubles can be kept" in str(refusal)
    desk.submit(lines({}))


def test_caps_that_come_with_a_job_are_heeded_at_once_and_stored_only_with_it(desk: Desk) -> None:
    old, new = Caps(rub_per_month=Decimal(100)), {"rub_per_day": Decimal(5)}
    write_caps(desk.home.folder, old)

    def submitted(source: BytesIO) -> Report:
        return submit(desk.home, JOB, spec(desk.folder), source, new_caps=new)

    for error, source in ((Refused, BytesIO(b"{\n")), (UsageError, lines({"model": "un/known"}))):
        with pytest.raises(error):
            submitted(source)
        assert read_caps(desk.home.folder) == old
    submitted(lines({}))
    assert read_caps(desk.home.folder) == Caps(Decimal(5), Decimal(100))


def test_what_costs_what_it_costs_is_taken_without_a_cap_and_known_as_such(desk: Desk) -> None:
    desk.submit(lines({"messages": [{"role": "user", "content": IMAGE}]}, {}))

    assert [each.bounded for each in desk.home.open(JOB).queue.waiting(9)] == [False, True]


def test_a_model_without_a_price_is_refused_under_a_cap_i20(desk: Desk) -> None:
    refusal = desk.refuses(UsageError, lines({}, {"model": "un/known"}), budget=CAP)

    assert "tells no price for un/known" in refusal.message


def test_a_model_without_a_price_is_taken_without_a_cap(desk: Desk) -> None:
    report = desk.submit(lines({"model": "un/known"}))

    assert report.estimate.unpriced == ("un/known",)
    assert desk.home.open(JOB).job().guess.at_most is None


@pytest.mark.parametrize("cap", [CAP, Budget(tokens=10**6)])
def test_an_answer_that_nothing_bounds_is_refused_under_a_cap_i21(desk: Desk, cap: Budget) -> None:
    refusal = desk.refuses(UsageError, lines({"max_tokens": None}), budget=cap)

    assert "--max-tokens" in refusal.hint
    desk.submit(lines({"max_tokens": None}), budget=cap, max_tokens=50)


def test_without_prices_no_cap_in_roubles_can_be_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> PriceList:
        raise ServiceUnavailable(Message("the endpoint does not answer"))

    monkeypatch.setattr(pricing, "read_prices", away)

    desk.refuses(ServiceUnavailable, lines({}), budget=CAP)
    assert desk.submit(lines({}), budget=Budget(tokens=10**6)).estimate.guess.likely is None


# ── Refused for where its results would go (FAULTS F5 to F7) ─────────────────────────────────────


@pytest.mark.parametrize("name", [OUTPUT, ERRORS, COST, REPORT])
@pytest.mark.parametrize("there", ["file", "link to nowhere", "folder"])
def test_results_that_are_there_already_are_never_overwritten_f6(
    desk: Desk, name: str, there: str
) -> None:
    out = desk.folder / "out"
    out.mkdir()
    if there == "file":
        (out / name).write_text("mine")
    elif there == "folder":
        (out / name).mkdir()
    else:
        (out / name).symlink_to(out / "nowhere")

    refusal = desk.refuses(UsageError, lines({}))

    assert f"{name} already exists" in refusal.message
    assert "--output-dir" in refusal.hint


def _link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, _link, lambda path: path.symlink_to("nowhere")],
    ids=["file", "fifo", "link", "link to nowhere"],
)
def test_what_is_no_folder_takes_no_results_f7(desk: Desk, make: Callable[[Path], object]) -> None:
    make(desk.folder / "out")

    refusal = desk.refuses(UsageError, lines({}))

    assert "is not a directory" in refusal.message


def test_a_device_takes_no_results_f7(desk: Desk) -> None:
    assert (
        "is not a directory" in desk.refuses(UsageError, lines({}), output_dir="/dev/null").message
    )


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "x" * 300 + "/b"])
def test_a_name_that_is_too_long_is_told_in_a_sentence_f15(desk: Desk, name: str) -> None:
    refusal = desk.refuses(UsageError, lines({}), output_dir=str(desk.folder / name))

    assert "cannot be created" in refusal.message


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_paid_f5(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != desk.folder and real(path, mode))

    refusal = desk.refuses(StorageUnavailable, lines({}))

    assert "cannot be written" in refusal.message
    assert refusal.exit_code == 4


def test_an_empty_folder_is_as_good_as_none(desk: Desk) -> None:
    (desk.folder / "out").mkdir()

    assert desk.submit(lines({})).requests == 1


# ── Refused by the disk (FAULTS F1) ──────────────────────────────────────────────────────────────


def test_a_disk_that_is_full_leaves_no_job_and_is_told_in_a_sentence_f1(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(staged_job, "sync_folder", full)

    refusal = desk.refuses(StorageUnavailable, lines({}))

    assert "No space left on device" in refusal.message
    assert refusal.exit_code == 4


def test_a_database_that_cannot_grow_is_told_in_a_sentence_f1(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = database.create

    def small(path: Path) -> Any:
        db = create(path)
        db.execute("PRAGMA max_page_count = 40")
        return db

    monkeypatch.setattr(database, "create", small)

    refusal = desk.refuses(StorageUnavailable, lines(*[{}] * 3000))

    assert "full" in refusal.message


def test_a_submitter_that_is_interrupted_leaves_nothing(desk: Desk) -> None:
    def interrupted() -> Iterator[bytes]:
        yield lines({}).getvalue() + b"\n"
        raise KeyboardInterrupt

    class Source(BytesIO):
        parts = interrupted()

        def read(self, _size: int | None = -1) -> bytes:
            return next(self.parts)

    desk.refuses(KeyboardInterrupt, Source())


# ── The same check without a job ─────────────────────────────────────────────────────────────────


def test_a_validated_file_leaves_nothing(desk: Desk) -> None:
    report = validate(desk.home, spec(desk.folder), lines({}, {"max_tokens": -1}))

    assert (report.requests, report.invalid) == (1, 1)
    assert list(desk.home.jobs_folder.iterdir()) == []


def test_an_estimate_asks_for_prices_and_leaves_nothing(desk: Desk) -> None:
    report = validate(desk.home, spec(desk.folder), lines({}, {}), priced=True)

    assert report.estimate.guess.likely is not None
    assert report.estimate.highest is not None
    assert 0 < report.estimate.guess.likely < report.estimate.highest
    assert desk.home.job_ids() == []


# ── The estimate ─────────────────────────────────────────────────────────────────────────────────


def test_an_estimate_adds_up_bounds_exactly() -> None:
    found = estimate(
        [Size(900, MODEL, 1090, 100), Size(100, MODEL, 1090, 100)], prices("0.0000522948192")
    )

    assert found.highest == 1000 * Decimal("0.074677001818")  # each rounded up at 1e-12
    assert (found.requests, found.unpriced, found.unbounded) == (1000, (), 0)


def test_an_estimate_of_nothing_is_nothing() -> None:
    assert estimate([], None) == Estimate()


def test_one_request_without_a_bound_leaves_the_whole_without_one() -> None:
    sizes = [Size(1, MODEL, 1090, 100), Size(1, MODEL, 1090, None), Size(1, "un/known", 1090, 5)]

    found = estimate(sizes, prices())

    assert (found.highest, found.unbounded, found.unpriced) == (None, 1, ("un/known",))


def test_what_somebody_answers_for_is_at_most_what_was_said_and_else_unknown(desk: Desk) -> None:
    image = {"messages": [{"role": "user", "content": IMAGE}]}
    some: tuple[dict[str, Any], ...] = ({}, image, {"model": "un/known"})
    text = desk.submit(lines({})).estimate.highest
    assert text is not None

    found = validate(desk.home, spec(desk.folder), lines(*some), priced=True)
    assert found.estimate.highest is None

    answering = spec(desk.folder, request_bound_rub=Decimal(3))
    found = validate(desk.home, answering, lines(*some), priced=True)
    assert found.estimate.highest == text + 3 + 3
