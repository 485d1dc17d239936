"""A guess of a job's cost in words, and how it is held against what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from typing import Any

from batch.cli.terminal import duration, safe
from batch.language import _, decimal, money, ngettext, number
from batch.store.stored_estimate import Guess, Tokens
from jobs.money import plain

_MILLION, _THOUSAND = 1_000_000, 1_000


def guess_lines(
    guess: Guess,
    unpriced: Iterable[str] = (),
    *,
    unread: bool = False,
    in_flex: Decimal | None = None,
) -> Iterator[str]:
    """What a job will cost, how many tokens it takes and how long, as far as that is known.

    `unread`: nothing is said of prices, since they could not be read now. `in_flex`: ₽ that it
    would likely cost in the endpoint's cheaper lane.
    """
    models = ", ".join(map(safe, unpriced))
    if guess.likely is not None:
        yield _roubles(guess)
        if in_flex is not None:
            yield _("with --service-tier flex about {rub}; it may take longer").format(
                rub=money(in_flex)
            )
    elif models and not unread:
        yield _("no price is known for {models}").format(models=models)
    elif not unread:
        yield _("no price is known for it")
    if any(guess.prompt):
        yield _("tokens: {prompt} input, {output} output").format(
            prompt=_tokens(guess.prompt), output=_tokens(guess.output)
        )
        yield basis(guess)
        yield _("takes about {time}, {because}").format(
            time=duration(guess.hours * 3600), because=_(guess.hours_told)
        )


def _roubles(guess: Guess) -> str:
    likely = _("estimated cost {rub}").format(rub=money(guess.likely or Decimal(0)))
    span = ""
    if guess.low is not None and guess.high is not None:
        span = " " + _("({low} to {high})").format(low=money(guess.low), high=money(guess.high))
    if guess.at_most is None:
        return f"{likely}{span}, " + _("no upper bound (set --max-tokens or --request-bound-rub)")
    return f"{likely}{span}, " + _("at most {highest}").format(highest=money(guess.at_most))


def basis(guess: Guess) -> str:
    """What a guess rests on."""
    if guess.basis == "sample":
        told = ngettext(
            "based on {count} sampled answer", "based on {count} sampled answers", guess.answers
        )
        return told.format(count=number(guess.answers))
    if guess.basis == "learned":
        return _("based on answers of earlier jobs")
    return _("rough estimate; --sample 20 measures it")


def _tokens(tokens: Tokens) -> str:
    low, likely, high = map(_short, tokens)
    return f"{likely} " + _("({low} to {high})").format(low=low, high=high)


def _short(count: int) -> str:
    if count >= _MILLION:
        return _("{count}M").format(count=decimal(count / _MILLION, 1))
    if count >= 10 * _THOUSAND:
        return _("{count}k").format(count=number(round(count / _THOUSAND)))
    return number(count)


def guess_json(guess: Guess) -> dict[str, Any]:
    """For programs: ₽ as exact strings, tokens as whole numbers, low, likely and high of each."""
    return {
        "rub": {
            "low": _plain(guess.low),
            "likely": _plain(guess.likely),
            "high": _plain(guess.high),
            "at_most": _plain(guess.at_most),
        },
        "prompt_tokens": dict(zip(("low", "likely", "high"), guess.prompt, strict=True)),
        "output_tokens": dict(zip(("low", "likely", "high"), guess.output, strict=True)),
        "hours": guess.hours,
        "hours_because": guess.hours_because,
        "basis": guess.basis,
        "answers": guess.answers,
    }


def score(guess: Guess, outcome: Decimal) -> str:
    """How the guess did, in words; empty without one."""
    if not guess.likely or guess.low is None or guess.high is None:
        return ""
    off = Context(prec=6).divide(outcome, guess.likely) - 1
    percent, likely = number(round(abs(off) * 100)), money(guess.likely)
    if percent == "0":
        told = _("as estimated ({rub})").format(rub=likely)
    elif off > 0:
        told = _("{percent} % above the estimate ({rub})").format(percent=percent, rub=likely)
    else:
        told = _("{percent} % below the estimate ({rub})").format(percent=percent, rub=likely)
    if guess.low <= outcome <= guess.high:
        return told
    span = _("outside the estimated range of {low} to {high}").format(
        low=money(guess.low), high=money(guess.high)
    )
    return f"{told}, {span}"


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)
