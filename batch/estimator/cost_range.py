"""Low, likely, high: roubles, tokens and hours of a whole job.

Some hundreds of its requests, spread over the file, stand for all of them. How long their prompts
are, and their answers, is told by this job's own answers as far as there are any, else by those of
earlier jobs, else by what is usual; the range says how much each is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from statistics import fmean

from batch.estimator.character_counts import Shape, shape_of_text
from batch.estimator.model_statistics import Answers, Lesson
from batch.estimator.prompt_tokens import Figures, Fit
from batch.estimator.sample import Crowd, Sample
from batch.store.stored_estimate import Guess, Tokens
from jobs.job_options import Limits
from jobs.message import N_, Message
from jobs.money import ZERO, add
from jobs.prices import ModelPrice, PriceList
from jobs.request import HIDDEN_TOKENS, TOKENS_PER_MESSAGE
from jobs.usage import Usage

OUTPUT = 200.0
"""Tokens of an answer before any was seen, unless fewer are allowed."""

LATENCY_S = 20.0
AT_ONCE = 16.0
"""Seconds of a call, and calls in flight, before any was seen."""

_MANY = 40.0
"""What earlier jobs taught counts as so many answers at most: this job's text may be another."""

_MARKS, _MARKS_ANSWERED = 6, 3
"""Tokens of a row's marks in a pack: in the prompt, with quotes and a line end; in its answer."""

_SURE = 10
_FEW_CUT = 0.1
"""Of answers; where more were as long as allowed, the bound made their length."""

"""So many answers of this job, and earlier ones are not asked any more."""

_ROUND = Context(prec=28)
_KOPECKS = Decimal("0.000001")


@dataclass(frozen=True)
class Range:
    """A figure that is not known yet."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> Range:
        """The same for more or fewer."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)

    @classmethod
    def around(cls, likely: float, share: float) -> Range:
        """So much, give or take a share of it."""
        return cls(likely * max(1 - share, 0.0), likely, likely * (1 + share))


@dataclass(frozen=True)
class Packing:
    """Rows that go `rows` to a call: what they have in common is asked once for all of them."""

    rows: int
    shared: Shape

    def asks(self, alone: Range, known: _Known) -> Range:
        """Of a row that asked alone has so many tokens of prompt, with its marks."""
        saved = known.prompt(self.shared, 1.0).likely * (1 - 1 / self.rows) - _MARKS
        return Range(*(max(each - saved, 1.0) for each in _ends(alone)))

    def gets(self, alone: Range) -> Range:
        """Tokens of its part of the answer."""
        return Range(*(each + _MARKS_ANSWERED for each in _ends(alone)))


@dataclass
class Reckoning:
    """A whole job: tokens, ₽ (None where a model has no price), and where it comes from."""

    prompt: Range = field(default_factory=Range)
    output: Range = field(default_factory=Range)
    low: Decimal | None = ZERO
    likely: Decimal | None = ZERO
    high: Decimal | None = ZERO
    answers: int = 0
    learned: bool = False
    busy_s: float = 0.0
    """Seconds that all calls take, one after the other."""
    at_once: float = 0.0

    def add_cost(self, low: Decimal, likely: Decimal, high: Decimal) -> None:
        """Adds a model's part, unless another has no price."""
        if self.low is None or self.likely is None or self.high is None:
            return
        self.low, self.likely = add(self.low, low), add(self.likely, likely)
        self.high = add(self.high, high)

    @property
    def basis(self) -> str:
        """`sample`: answers of this job; `learned`: of earlier ones; `usual`: of none."""
        return "sample" if self.answers else "learned" if self.learned else "usual"


def reckon(
    crowds: dict[str, Crowd],
    samples: Iterable[Sample],
    prices: PriceList | None,
    *,
    own: dict[str, Lesson],
    earlier: dict[str, list[Lesson]],
    packing: Packing | None = None,
    choices: tuple[str, ...] = (),
) -> Reckoning:
    """Adds up all models. `own` and `earlier` are what this job's answers taught, and others'.

    An answer is one of the `choices`, if there are any.
    """
    by_model: dict[str, list[Sample]] = {}
    for sample in samples:
        by_model.setdefault(sample.model, []).append(sample)
    found = Reckoning()
    for model, crowd in crowds.items():
        if not crowd.requests:
            continue
        price = prices.models.get(model) if prices else None
        if price is None:
            found.low = found.likely = found.high = None
        known = _Known(own.get(model), earlier.get(model, []), choices)
        _add_model(found, crowd, by_model.get(model, []), price, known, packing)
    return found


def _add_model(
    found: Reckoning,
    crowd: Crowd,
    samples: list[Sample],
    price: ModelPrice | None,
    known: _Known,
    packing: Packing | None,
) -> None:
    samples = samples or [_made_up(crowd)]
    mean = fmean(sample.size for sample in samples)
    # The sample's texts may be a little shorter or longer than all: their true sum is known.
    stretch = crowd.size / crowd.requests / mean if mean else 1.0
    prompt, output, costs = Range(), Range(), [ZERO, ZERO, ZERO]
    for sample in samples:
        asks = known.prompt(sample.shape, stretch)
        gets = known.output(asks.likely, sample.max_output)
        if packing is not None:
            asks, gets = packing.asks(asks, known), packing.gets(gets)
        prompt, output = prompt + asks, output + gets
        if price is not None:
            ends = ((asks.low, gets.low), (asks.likely, gets.likely), (asks.high, gets.high))
            for place, (tokens_in, tokens_out) in enumerate(ends):
                costs[place] = add(costs[place], price.estimate(known.usage(tokens_in, tokens_out)))
    share = crowd.requests / len(samples)
    found.prompt, found.output = (
        found.prompt + prompt.times(share),
        output.times(share) + found.output,
    )
    found.answers += known.answers
    found.learned = found.learned or known.learned
    found.busy_s += known.latency_s * crowd.requests
    found.at_once = max(found.at_once, known.at_once)
    if price is not None:
        factor = Decimal(repr(known.price_factor)) * crowd.requests
        low, likely, high = (
            _ROUND.divide(_ROUND.multiply(cost, factor), Decimal(len(samples))) for cost in costs
        )
        found.add_cost(
            *(amount.quantize(_KOPECKS, context=_ROUND) for amount in (low, likely, high))
        )


def _made_up(crowd: Crowd) -> Sample:
    """A request of which only the size is known, as if it were in Latin letters."""
    size = crowd.size // crowd.requests
    shape = Shape(1, latin=max(size - HIDDEN_TOKENS - TOKENS_PER_MESSAGE, 0))
    return Sample("", None, size, shape)


class _Known:
    """What is known about a model: of this job's answers, and of earlier ones."""

    def __init__(self, own: Lesson | None, earlier: list[Lesson], choices: tuple[str, ...]) -> None:
        self._choices = choices
        self._own = own if own is not None and own.seen else None
        self._earlier = [lesson for lesson in earlier if lesson.seen]
        self.answers = int(self._own.seen) if self._own else 0
        self.learned = bool(self._earlier)
        self._figures = self._fitted()
        self._bias = self._bias_of_own()
        self._doubt = self._doubt_of_prompt()
        self._cached = self._ratio("cached", "prompt", 0.0)
        self.price_factor = min(max(self._ratio("cost", "listed", 1.0), 0.05), 20.0)
        calls = [lesson for lesson in self._lessons if lesson.latency_s]
        self.latency_s = calls[0].latency_s / calls[0].seen if calls else LATENCY_S
        self.at_once = next((each.at_once for each in self._earlier if each.at_once), 0.0)

    @property
    def _lessons(self) -> list[Lesson]:
        return ([self._own] if self._own else []) + self._earlier

    def _fitted(self) -> Figures:
        before = Fit()
        for lesson in self._earlier:
            before.add(lesson.fit)
        fit = Fit()
        fit.add(before, min(1.0, _MANY / before.seen) if before.seen else 1.0)
        if self._own:
            fit.add(self._own.fit)
        return fit.figures()

    def _bias_of_own(self) -> float:
        """What this job's prompts were billed for, in shares of what is expected of them."""
        own = self._own
        if own is None or not own.expected:
            return 1.0
        few = 3 * own.expected / own.seen
        return (own.prompt + few) / (own.expected + few)

    def _doubt_of_prompt(self) -> float:
        own = self._own
        if own is None:
            return 0.12 if self._earlier else 0.3
        scatter = max(math.sqrt(own.off / own.seen), 0.03)
        return 0.01 + 2 * scatter / math.sqrt(own.seen)

    def _ratio(self, part: str, whole: str, usual: float) -> float:
        enough = self._own is not None and self._own.seen >= _SURE
        lessons = [self._own] if enough and self._own else self._lessons
        sums = [sum(getattr(lesson, name) for lesson in lessons) for name in (part, whole)]
        return float(sums[0] / sums[1]) if sums[1] else usual

    def prompt(self, shape: Shape, stretch: float) -> Range:
        """Tokens of a prompt as billed."""
        hidden = max(self._figures.rates[0], 0.0)
        tokens = hidden + (self._figures.tokens(shape) - hidden) * stretch
        return Range.around(tokens * self._bias, self._doubt)

    def output(self, prompt: float, most: int | None) -> Range:
        """Tokens of an answer, at most so many."""
        if most == 0:
            return Range()
        key = most or 0
        lengths = self._output_of_own(prompt, key) or self._output_of_earlier(key)
        if lengths is None:
            lengths = self._output_of_none(most)
        ceiling = float(most) if most else float("inf")
        return Range(*(min(max(each, 1.0), ceiling) for each in _ends(lengths)))

    def _output_of_none(self, most: int | None) -> Range:
        """Before any was seen. Where as many are allowed as thoughts take, they may be bought."""
        usual = min(OUTPUT, most or OUTPUT)
        is_bare = bool(self._choices) and most is not None and most < OUTPUT
        likely = fmean(map(self._tokens_of, self._choices)) if is_bare else usual
        return Range(min(usual * 0.25, likely), likely, float(most or usual * 4))

    def _tokens_of(self, text: str) -> float:
        figures, nothing = self._figures, Shape()
        return max(figures.tokens(shape_of_text(text, 0)) - figures.tokens(nothing), 1.0)

    def _output_of_own(self, prompt: float, key: int) -> Range | None:
        answers = self._own.answers if self._own else {}
        found = answers.get(key) or _nearest(answers, key)
        if found is None:
            return None
        level, slope, spread = found.line()
        likely = level + slope * prompt
        error = 2 * spread / math.sqrt(found.seen) / max(found.mean, 1.0) + 0.02
        if found.seen < _SURE:
            error += 0.5 / math.sqrt(found.seen)
        return Range.around(likely, min(error, 0.9))

    def _output_of_earlier(self, key: int) -> Range | None:
        found = [
            answers
            for lesson in self._earlier
            if (answers := lesson.answers.get(key) or _nearest(lesson.answers, key))
        ]
        if not found:
            return None
        means = [_clipped_mean(answers, key) for answers in found]
        weights = [min(answers.seen, _MANY) for answers in found]
        likely = sum(map(float.__mul__, means, weights)) / sum(weights)
        return Range(min(*means, likely * 0.6), likely, max(*means, likely * 1.7))

    def usage(self, prompt: float, output: float) -> Usage:
        """Tokens as they would be billed."""
        whole = round(prompt)
        return Usage(whole, round(output), cached=min(round(prompt * self._cached), whole))


def _whole(lengths: Range) -> Tokens:
    return round(lengths.low), round(lengths.likely), round(lengths.high)


def _ends(lengths: Range) -> tuple[float, float, float]:
    return lengths.low, lengths.likely, lengths.high


def _nearest(answers: dict[int, Answers], key: int) -> Answers | None:
    """Answers under the bound that is most like this one; without one, under the loosest.

    None where a tighter bound cut them off: how long they would have been, they do not tell.
    """
    whole = {most: each for most, each in answers.items() if not _is_cut_off(each, most, key)}
    if not whole:
        return None
    loose = max(whole) + 1
    return whole[min(whole, key=lambda each: abs((each or loose) - (key or loose)))]


def _is_cut_off(answers: Answers, most: int, wanted: int) -> bool:
    is_tighter = most and (not wanted or wanted > most)
    reached = sum(point >= most for point in answers.points)
    return bool(is_tighter) and reached > _FEW_CUT * len(answers.points)


def _clipped_mean(answers: Answers, most: int) -> float:
    """The mean of these lengths, had no more than so many tokens been allowed."""
    if not most or not answers.points:
        return answers.mean
    return fmean(min(point, most) for point in answers.points)


def _pace(at_once: float, latency: float, *, is_known: bool) -> Message:
    if round(at_once) == 1:
        if is_known:
            return N_("with one call at a time, of {latency:.1f} s", latency=latency)
        return N_("assuming one call at a time, of {latency:.0f} s", latency=latency)
    if is_known:
        return N_(
            "with {at_once:.0f} concurrent calls of {latency:.1f} s each",
            at_once=at_once,
            latency=latency,
        )
    return N_(
        "assuming {at_once:.0f} concurrent calls of {latency:.0f} s",
        at_once=at_once,
        latency=latency,
    )


def hours_for(found: Reckoning, requests: int, limits: Limits) -> tuple[float, Message]:
    """Hours that the job takes, and what they rest on, as a sentence without a full stop."""
    # A few requests do not go any faster than one.
    at_once = min(limits.max_in_flight or found.at_once or AT_ONCE, max(requests, 1))
    # Of a job that stood still for hours, calls at once are less than one on average.
    at_once = max(at_once, 1.0)
    latency = found.busy_s / requests if requests else 0.0
    is_known = bool(found.at_once) and found.basis != "usual"
    ways = [(found.busy_s / at_once / 3600, _pace(at_once, latency, is_known=is_known))]
    if limits.rpm:
        text = N_("limited to {rpm:,} requests per minute", rpm=limits.rpm)
        ways.append((requests / limits.rpm / 60, text))
    if limits.tpm:
        text = N_("limited to {tpm:,} tokens per minute", tpm=limits.tpm)
        tokens = found.prompt.likely + found.output.likely
        ways.append((tokens / limits.tpm / 60, text))
    return max(ways)


def guess_of(found: Reckoning, requests: int, limits: Limits, at_most: Decimal | None) -> Guess:
    """The reckoning as it is stored with a job; nothing is above `at_most`."""
    hours, because = hours_for(found, requests, limits)
    low, likely, high = (
        amount if amount is None or at_most is None else min(amount, at_most)
        for amount in (found.low, found.likely, found.high)
    )
    return Guess(
        low=low,
        likely=likely,
        high=high,
        at_most=at_most,
        prompt=_whole(found.prompt),
        output=_whole(found.output),
        hours=round(hours, 4),
        hours_because=str(because),
        hours_data=because.data,
        basis=found.basis,
        answers=found.answers,
    )
