"""Commands that only look: each tells the same truth, data on standard output and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from batch.main import COMMANDS
from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines
from tests.conftest import CANARY


def test_every_view_of_a_finished_job_tells_the_same(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator(
        *("--fault", "400:row=Отзыв 1", "--answer-tokens", "9000", "--null-cost-share", "0")
    )
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(4, max_tokens=9999))
    shell("run", "reviews.jsonl", "-o", "out", "--name", "Отзывы", code=1)
    (job,) = shell.jobs()
    spent = endpoint.book().total_billed()

    assert (job["state"], job["completed"], job["failed"]) == ("completed", 3, 1)
    assert Decimal(job["spent_rub"]) == spent
    assert json.loads(shell("status", job["job"][:12], "--json").out)["completed"] == 3
    table = shell("status")
    assert "Отзывы" in table.out
    assert "4/4" in table.out
    assert table.err == ""
    assert "4 of 4, 1 failed" in shell("status", "latest").out

    told = shell("cost", "latest", "--json").out
    assert json.loads(told) == json.loads((shell.folder / "out" / "cost.json").read_text())
    assert Decimal(json.loads(told)["cost_rub"]) == spent
    assert f"exactly {spent.normalize():f} ₽" in shell("cost", "latest").out

    lines = [json.loads(line) for line in shell("results", "latest").out.splitlines()]
    assert [line["custom_id"] for line in lines] == ["r-0", "r-1", "r-2", "r-3"]
    again = shell("results", "latest", "-o", "again")
    assert again.out == ""
    for name in ("output.jsonl", "errors.jsonl", "cost.json"):
        files = [shell.folder / folder / name for folder in ("out", "again")]
        assert files[0].read_bytes() == files[1].read_bytes(), again
    assert shell("watch", "latest", code=1).out == ""
    nothing = shell("resume", "latest", code=1)
    assert "there is nothing left to send" in nothing.err
    assert len(endpoint.book().billed()) == 3
    assert nobody_reads("results", shell) == (0, b"")


def test_jobs_are_listed_newest_first_by_state_and_number_and_completed_by_the_shell(
    shell: Shell,
) -> None:
    shell.environ["NIGHTSHIFT_BASE_URL"] = "http://127.0.0.1:1/v1"
    for name in ("first", "second", "third"):
        shell.write("reviews.jsonl", batch_lines(2))
        shell("submit", "reviews.jsonl", "--name", name)
    shell("pause", "second")
    third, second, first = (job["job"] for job in shell.jobs())

    table = shell("status", "--limit", "2")
    paused = json.loads(shell("status", "--state", "paused", "--json").out)
    shell.environ |= {"COMP_WORDS": "nightshift watch ", "COMP_CWORD": "2"}
    offered = shell("status", _NIGHTSHIFT_COMPLETE="bash_complete").out
    script = shell("completion", "bash").out

    assert [line.split()[0] for line in table.out.splitlines()[1:]] == [third, second]
    assert "1 more job; --limit 0 lists all" in table.err
    assert "\x1b" not in table.out
    assert "\x1b[33mpaused (by the user)\x1b[0m" in shell("status", "--color", "always").out
    assert [job["job"] for job in paused["jobs"]] == [second]
    shell("submit", "reviews.jsonl", "--base-url", "https://127.0.0.2:1/v1", "--max-tokens", "9")
    assert "stdin is not a terminal" in shell("resume", "latest", code=2).err
    assert json.loads(shell("watch", second[-6:], "--json", code=3).out)["name"] == "second"
    assert [line.split(",")[1] for line in offered.splitlines()] == [third, second, first]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def nobody_reads(command: str, shell: Shell) -> tuple[int, bytes]:
    """The exit code and the words of a command whose reader goes away."""
    process = subprocess.Popen(
        [sys.executable, "-m", "batch", command, "latest"],
        cwd=shell.folder,
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    with process, process.stderr as words:
        process.stdout.read(10)
        process.stdout.close()
        return process.wait(60), words.read()


def test_validate_lists_faults_on_standard_output_and_keeps_nothing(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("bad.jsonl", batch_lines(2) + "[]\n" + batch_lines(1))

    bad = shell("validate", "bad.jsonl", code=2)
    shell("validate", "bad.jsonl", "--skip-invalid")
    good = shell("validate", shell.write("good.jsonl", batch_lines(2)))

    assert [line.strip()[:7] for line in bad.out.splitlines()[:2]] == ["line 3,", "line 4:"]
    assert bad.out.splitlines()[-1] == "2 valid requests, 2 invalid lines"
    assert good.out == "2 valid requests, 0 invalid lines\n"
    assert shell.jobs() == []
    assert len(endpoint.book()) == 0


def test_validate_and_watch_tell_programs_the_same(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator())
    shell.write("bad.jsonl", batch_lines(2) + "[]\n")
    shell("run", "bad.jsonl", "--skip-invalid", code=1)

    bad = json.loads(shell("validate", "bad.jsonl", "--json", code=2).out)
    watch = shell("watch", "latest", "--json", code=1)

    assert (bad["requests"], bad["invalid"]) == (2, 1)
    assert [(fault["line"], fault["code"]) for fault in bad["faults"]] == [(3, "input.json")]
    (line,) = watch.out.splitlines()
    assert json.loads(line)["completed"] == 2


def test_every_command_that_changes_a_job_tells_programs_how_it_stands_then(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--fault", "400:row=Отзыв 1"))
    shell.write("reviews.jsonl", batch_lines(3))

    run = shell("run", "reviews.jsonl", "--json", code=1)
    said = [shell(*words, "--json") for words in (["submit", "reviews.jsonl"], ["pause", "latest"])]
    said.append(shell("cancel", "latest", "--json"))
    told = [json.loads(each.out) for each in (run, *said)]

    assert [each["state"] for each in told] == ["completed", "in_progress", "paused", "cancelled"]
    assert (told[0]["completed"], told[0]["failed"]) == (2, 1)
    assert told[0] == json.loads(shell("status", told[0]["job"], "--json").out)
    assert "2 of 3 answered" in run.err

    happened = json.loads(shell("history", "--json").out)["events"]
    states = ["paused", "cancelling", "cancelled"]
    assert [each.get("state") for each in happened] == [None, *states]
    assert [each.get("by_user", False) for each in happened] == [True, True, True, False]
    lines = shell("history", "latest").out.splitlines()
    assert lines[2].endswith("paused (by the user)")


def test_estimate_tells_what_it_will_cost_and_at_most(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(5))

    told = shell("estimate", "reviews.jsonl")

    assert f"5 requests to {MODEL}" in told.out
    likely, highest = (
        Decimal(told.out.split(word)[1].split(" ₽")[0]) for word in ("estimated cost ", "at most ")
    )
    assert 0 < likely < highest
    assert told.err == ""
    assert not endpoint.book().chats()


def test_doctor_finds_all_well_and_names_a_cure_for_what_is_not(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--balance", "12.5")
    shell.point_at(endpoint)

    well = shell("doctor")
    endpoint.control("keys", {"allow": ["another"]})
    ill = shell("doctor", code=4, NIGHTSHIFT_REDIS_URL="redis://:a-password@127.0.0.1:1/0")

    assert {line.split()[0] for line in well.out.splitlines()} == {"ok"}
    assert "balance 12.5" in well.out
    assert "the endpoint rejects the key" in ill.out
    assert "check ROUTERAI_API_KEY" in ill.out
    assert "fix NIGHTSHIFT_REDIS_URL" in ill.out
    assert "a-password" not in ill.out
    assert not endpoint.book().chats()


def test_an_env_file_is_read_and_the_environment_goes_before_it(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--key", CANARY))
    key = shell.environ.pop("ROUTERAI_API_KEY")
    shell.write(
        ".env",
        f"ROUTERAI_API_KEY={key}\nNIGHTSHIFT_OUTPUT_DIR=from-file\nNIGHTSHIFT_MODEL={MODEL}\n"
        "NIGHTSHIFT_NAME=file\n",
    )
    shell.write("reviews.jsonl", '{"messages": [{"role": "user", "content": "да?"}]}\n')

    shell("submit", "reviews.jsonl", NIGHTSHIFT_NAME="environment")
    # A job waits, and no coordinator is there.
    doctor = shell("doctor", code=4)

    job = json.loads(shell("status", "latest", "--json").out)
    assert job["name"] == "environment"
    assert Path(job["output_dir"]).name == "from-file"
    assert "accepted; balance" in doctor.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_teaches_with_an_example(command: str, shell: Shell) -> None:
    told = shell(command, "--help").out

    assert f"nightshift {command}" in told.split("Options:")[0].split("\n", 1)[1], told
    assert max(len(line) for line in told.splitlines()) <= 88


def test_a_long_help_comes_in_sections_and_fits_a_narrow_window(shell: Shell) -> None:
    told = shell("run", "--help", COLUMNS="50", NIGHTSHIFT_LANG="ru").out
    options = told.split("jq -r .spent_rub")[1]

    assert [line for line in options.splitlines() if line and line[0] != " "] == [
        *("Параметры:", "Таблицы:", "Деньги:", "Оценка:", "Темп:", "Часы:", "Уведомления:"),
    ]
    assert max(map(len, options.splitlines())) <= 50
    assert "https://routerai.ru/api/v1" in options
    assert "[сначала: Europe/Moscow]" in " ".join(options.split())
