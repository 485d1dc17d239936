"""The command on the report that would submit the job anew."""

from __future__ import annotations

import shlex
from decimal import Decimal

from batch.commands.run import command as run
from batch.reports.command import command_of
from jobs.job_options import Spec

GIVEN = {
    "name": "reviews",
    "source": "my reviews.jsonl",
    "output_dir": "/somewhere/out",
    "base_url": "https://llm.example/v1",
    "model": "minimax/minimax-m1",
    "model_map": {"a": "b"},
    "dedupe": "all",
    "report_samples": False,
    "limits": {"rpm": 600},
    "budget": {"rub": Decimal("12.50")},
    "window": "23:00-07:00@Europe/Moscow",
    "headers": ("X-Team",),
    "notify": {"url": "https://example.org/hook/canary", "mail": "canary@example.org"},
}


def test_it_says_what_was_given_and_no_secret() -> None:
    told = command_of(Spec.model_validate(GIVEN))

    assert told == (
        "nightshift run 'my reviews.jsonl' --model minimax/minimax-m1 --model-map a=b"
        " --base-url https://llm.example/v1 --header X-Team=… --budget-rub 12.5 --dedupe-all"
        " --rpm 600 --window 23:00-07:00@Europe/Moscow --no-report-samples --notify-url …"
        " --notify-mail …"
    )


def test_each_option_of_it_is_one_of_the_command() -> None:
    told = shlex.split(command_of(Spec.model_validate(GIVEN)))
    known = {name for parameter in run.params for name in parameter.opts}

    assert {word for word in told if word.startswith("--")} <= known


def test_of_a_table_and_a_deadline_it_means_what_was_meant() -> None:
    schema = {"prompt": "x", "answer_schema": '{"type": "object"}'}
    form = {"sheet": "Q 2", "header": False, "encoding": "cp1251"}
    choices = {"prompt": "x", "choices": ("yes, of course", "no"), "form": form}
    told = [
        command_of(Spec.model_validate({**GIVEN, **each}))
        for each in (
            {"deadline": "2031-05-04T07:00+09:00"},
            {"task": choices},
            {"task": schema},
        )
    ]

    assert "--deadline 2031-05-04T07:00+09:00" in told[0]
    assert """--choices '"yes, of course",no'""" in told[1]
    assert "--no-header --sheet 'Q 2'" in told[1]
    assert "--encoding" not in told[1]
    assert "--schema … " in told[2] + " "


def test_a_long_prompt_is_cut() -> None:
    told = command_of(Spec.model_validate({**GIVEN, "task": {"prompt": "x" * 500}}))

    assert f"--prompt {'x' * 60}…" in told.replace("'", "")
