"""Estimates against an endpoint: by this job's answers, by those of earlier ones, by none."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from batch.estimator.character_counts import Shape, shape_of, shape_of_text
from batch.estimator.cost_range import OUTPUT, Packing, Reckoning, hours_for, reckon
from batch.estimator.estimate import by_length
from batch.estimator.model_statistics import Lesson, Seen, lessons_of, recall, remember
from batch.estimator.prompt_tokens import Figures, Fit
from batch.estimator.sample import MOST, Crowd, Sample, Sampler
from jobs.job_options import Limits
from jobs.names import LESSONS
from jobs.usage import Usage
from scripts.simulator.answer_text import Style, compose
from scripts.simulator.body import read_chat
from scripts.simulator.tokens import prompt_tokens
from tests.batch.making import MODEL, prices, publish, request
from tests.texts import KINDS, bodies

HIDDEN = 447
PRICES = prices("0.0001")


def billed(body: bytes, style: Style) -> Usage:
    """What the simulated endpoint counts for a request."""
    chat = read_chat(body)
    answer = compose(chat, style, random.Random(body), reasons=True)
    prompt = HIDDEN + prompt_tokens(chat.messages, chat.fields)
    return Usage(prompt, answer.completion_tokens, cached=prompt // 4)


def seen(every: Iterable[bytes], style: Style) -> list[Seen]:
    """These requests, answered."""
    found = []
    for body in every:
        usage = billed(body, style)
        cost = PRICES.models[MODEL].estimate(usage)
        found.append(Seen(shape_of(body), MODEL, 600, usage, cost, "", 2.0))
    return found


def reckoned(
    every: list[bytes], own: dict[str, Lesson], earlier: list[Lesson] | None = None
) -> Reckoning:
    """The estimate of these requests as a job."""
    samples = [Sample(MODEL, 600, len(body), shape_of(body)) for body in every]
    crowds = {MODEL: Crowd(len(every), sum(map(len, every)))}
    return reckon(crowds, samples, PRICES, own=own, earlier={MODEL: earlier or []})


def outcome(every: Iterable[bytes], style: Style) -> Decimal:
    """What they cost in the end."""
    return sum((each.cost or Decimal(0) for each in seen(every, style)), Decimal(0))


# ── Against what came of it ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["prose", "echo", "label"])
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_sample_of_twenty_the_likely_cost_is_near_what_it_comes_to(
    kind: str, mode: str
) -> None:
    every, style = bodies(kind), Style(mode)
    sample = every[:: len(every) // 20][:20]

    found = reckoned(every, lessons_of(seen(sample, style), PRICES))

    came_to = outcome(every, style)
    assert found.likely is not None
    assert found.low is not None
    assert found.high is not None
    assert abs(found.likely / came_to - 1) < Decimal("0.15"), (found.likely, came_to)
    assert found.low < came_to < found.high
    assert found.basis == "sample"


@pytest.mark.parametrize("kind", KINDS)
def test_before_any_answer_the_range_holds_what_it_comes_to(kind: str) -> None:
    every = bodies(kind)

    found = reckoned(every, {})

    assert found.low is not None
    assert found.high is not None
    assert found.low < outcome(every, Style()) < found.high
    assert found.basis == "usual"


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_earlier_job_taught_serves_the_next_one(kind: str) -> None:
    every = bodies(kind, 600)
    before, now = every[:300], every[300:]
    lesson = lessons_of(seen(before, Style()), PRICES)[MODEL]

    found = reckoned(now, {}, [lesson])

    came_to = outcome(now, Style())
    assert found.likely is not None
    assert abs(found.likely / came_to - 1) < Decimal("0.15"), (found.likely, came_to)
    assert found.basis == "learned"


def test_a_price_that_is_billed_higher_than_listed_is_learned() -> None:
    every = bodies("descriptions", 100)
    dearer = [
        msgspec.structs.replace(each, cost=(each.cost or Decimal(0)) * 3)
        for each in seen(every[::5], Style())
    ]

    found = reckoned(every, lessons_of(dearer, PRICES))

    assert found.likely is not None
    assert abs(found.likely / (3 * outcome(every, Style())) - 1) < Decimal("0.15")


def test_answers_are_never_expected_to_be_longer_than_allowed() -> None:
    answers = [Seen(Shape(1), MODEL, 0, Usage(500, 4000), None, "", 1.0)] * 30
    samples = [Sample(MODEL, 50, 100, Shape(1))]

    found = reckon(
        {MODEL: Crowd(10, 1000)},
        samples,
        PRICES,
        own={},
        earlier={MODEL: [lessons_of(answers, PRICES)[MODEL]]},
    )

    assert found.output.high == found.output.likely == 500


@pytest.mark.parametrize(("most", "likely"), [(50, 10 * 50), (0, 10 * OUTPUT)])
def test_answers_that_were_cut_off_do_not_tell_how_long_they_are(most: int, likely: int) -> None:
    cut = lessons_of([Seen(Shape(1), MODEL, 20, Usage(500, 20), None, "", 1.0)] * 30, PRICES)
    crowds, samples = {MODEL: Crowd(10, 1000)}, [Sample(MODEL, most or None, 100, Shape(1))]

    found = reckon(crowds, samples, PRICES, own={}, earlier={MODEL: [cut[MODEL]]})

    assert found.output.likely == likely


def test_a_model_without_a_price_leaves_the_whole_without_one() -> None:
    crowds = {MODEL: Crowd(1, 100), "un/known": Crowd(1, 100)}
    samples = [Sample(model, 50, 100, Shape(1)) for model in crowds]

    found = reckon(crowds, samples, PRICES, own={}, earlier={})

    assert (found.low, found.likely, found.high) == (None, None, None)
    assert found.prompt.likely > 800


def test_packs_save_less_of_rows_that_are_longer_than_those_of_the_sample() -> None:
    def likely(crowds: dict[str, Crowd], packing: Packing | None = None) -> Reckoning:
        # What rows share costs ten, and a tenth of it in packs.
        (crowd,) = crowds.values()
        return Reckoning(likely=Decimal(crowd.size + crowd.requests * (1 if packing else 10)))

    packing = Packing(10, Shape(1))
    tried, longer = {MODEL: Crowd(5, 50)}, {MODEL: Crowd(100, 10_000)}
    measured = 11 / 20
    assert measured * by_length(likely, tried, tried, packing) == pytest.approx(11 / 20)
    assert measured * by_length(likely, longer, tried, packing) == pytest.approx(101 / 110)
    assert by_length(lambda *_: Reckoning(likely=None), longer, tried, packing) == 1.0


def test_the_hours_are_those_of_the_narrowest_limit() -> None:
    found = reckoned(bodies("descriptions", 100), {})

    assert hours_for(found, 6000, Limits(rpm=100)) == (1.0, "limited to 100 requests per minute")
    assert hours_for(found, 100, Limits(max_in_flight=1))[1].startswith(
        "assuming one call at a time, of 20"
    )
    tokens = found.prompt.likely + found.output.likely
    assert hours_for(found, 100, Limits(tpm=10))[0] == pytest.approx(tokens / 10 / 60)


def test_no_job_has_no_call_at_once() -> None:
    found = reckoned(bodies("descriptions", 100), {})
    found.at_once, found.learned, found.busy_s = 0.28, True, 210.0

    hours, why = hours_for(found, 100, Limits())

    assert hours == pytest.approx(210 / 3600)
    assert why == "with one call at a time, of 2.1 s"


def test_a_few_requests_take_no_less_time_than_one() -> None:
    one = hours_for(reckoned(bodies("descriptions", 1), {}), 1, Limits())[0]

    assert hours_for(reckoned(bodies("descriptions", 2), {}), 2, Limits())[0] == pytest.approx(one)
    assert one > 10 / 3600


# ── Shapes and rates ─────────────────────────────────────────────────────────────────────────────


def test_a_shape_counts_characters_by_script() -> None:
    assert shape_of_text("Ночь, night 7夜é🌙\n", 2) == Shape(2, 6, 4, 3, 1, 1)


def test_escaped_text_has_the_shape_of_what_it_says() -> None:
    plain = '{"messages":[{"role":"user","content":"Ночь 夜"}]}'
    escaped = plain.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")

    assert shape_of(escaped) == shape_of(plain.encode()) == Shape(1, 0, 4, 0, 1)


def test_tools_and_parts_count_and_pictures_do_not() -> None:
    parts = [
        {"type": "text", "text": "aa"},
        {"type": "image_url", "image_url": {"url": "data:abcdef"}},
    ]
    body = {"messages": [{"role": "user", "content": parts}, {"role": "assistant"}]}

    bare = shape_of(msgspec.json.encode(body))
    assert (bare.messages, bare.latin) == (2, 2)
    assert shape_of(msgspec.json.encode({**body, "tools": [{"a": 1}]})).latin == 3


def test_rates_start_at_what_is_usual_and_go_to_what_is_seen() -> None:
    true = Figures((30.0, 7.0, 0.3, 0.5, 0.7, 1.0, 2.0))
    dice, fit = random.Random(1), Fit()
    assert Fit().figures().rates == pytest.approx(Figures().rates)
    for _ in range(400):
        shape = Shape(dice.randrange(1, 9), *(dice.randrange(900) for _ in range(5)))
        fit.learn(shape, round(true.tokens(shape)))

    found = fit.figures().rates
    assert found[0] == pytest.approx(30, abs=20)  # from 447
    assert found[2:] == pytest.approx(true.rates[2:], rel=0.05)


# ── Samples and the file of lessons ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 5000])
def test_samples_are_spread_evenly_over_a_file_of_any_length(count: int) -> None:
    sampler = Sampler()
    for place in range(count):
        sampler.see(place, request(place + 1, body=b'{"messages":[]}'))

    kept = sorted(sampler.samples)
    gaps = {after - before for before, after in itertools.pairwise(kept)}
    assert len(gaps) <= 1
    assert min(count, MOST // 2) <= len(kept) <= MOST


def test_a_job_is_remembered_once_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    job = publish(tmp_path, 1).job()
    lesson = lessons_of(seen(bodies("mixed", 5), Style()), PRICES)

    for number in range(40):
        for _ in range(2):
            remember(tmp_path, replace(job, id=f"job_{number:026}"), lesson)

    found = recall(tmp_path, job.spec.base_url, MODEL)
    assert len(found) == 30
    assert found[0].seen == 5
    assert len(recall(tmp_path, job.spec.base_url, MODEL, but=f"job_{39:026}")) == 29
    assert recall(tmp_path, "https://other.example/v1", MODEL) == []


def test_a_file_of_lessons_that_is_of_no_use_is_no_failure(tmp_path: Path) -> None:
    job = publish(tmp_path, 1).job()
    (tmp_path / LESSONS).write_bytes(b"no database" * 100)

    remember(tmp_path, job, {MODEL: Lesson()})

    assert recall(tmp_path, job.spec.base_url, MODEL) == []
