"""What a person sees on a terminal, wide and narrow, with and without colour."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from batch.cli.terminal import cells, fitted, folded
from scripts.simulator import Simulator
from tests.acceptance.conftest import Shell, Terminal, batch_lines, wait_until

NARROWEST, NARROW, WIDE = 40, 60, 120
COLOURED = re.compile(rb"\x1b\[(?:3[0-9]|4[0-9]|9[0-9])")


@pytest.mark.parametrize(("columns", "no_colour"), [(NARROWEST, ""), (NARROW, ""), (WIDE, "1")])
def test_a_run_shows_a_bar_that_fits_and_is_gone_at_the_end(
    columns: int, no_colour: str, simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--latency", "uniform:0.2:0.4"))
    shell.write("reviews.jsonl", batch_lines(12))

    run = shell.terminal("run", "reviews.jsonl", columns=columns, NO_COLOR=no_colour)
    run.shows("in_progress")
    run.press(b"typed\n")
    run.shows("/12 ·")
    text = run.ends(0)

    assert "━" in text
    assert "typed" not in text
    bars = [line for line in run.lines if "━" in line]
    assert max(len(line) for line in bars) <= columns
    assert any("12 of 12 answered" in line for line in run.lines[-6:])
    assert "━" not in run.lines[-1]
    assert bool(COLOURED.search(run.raw)) != bool(no_colour)


def test_how_far_a_long_file_is_read_is_shown_in_one_place(shell: Shell) -> None:
    shell.write("long.jsonl", batch_lines(45_000))

    checked = shell.terminal("validate", "long.jsonl", columns=NARROW)
    checked.ends(0)

    for count in (b"20,000", b"40,000"):
        assert b"\r  " + count + b" lines\x1b[K" in b"\r" + checked.raw
    assert checked.raw.count(b"\n") == 1
    assert checked.lines[-1] == "45,000 valid requests, 0 invalid lines"
    assert shell("validate", "long.jsonl").err == ""


def test_without_colour_doctor_is_not_coloured(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator())

    doctor = shell.terminal("doctor", columns=WIDE, NO_COLOR="1")
    doctor.ends(0)

    assert not COLOURED.search(doctor.raw)


def test_a_dumb_terminal_gets_plain_lines(shell: Shell) -> None:
    shell.environ["NIGHTSHIFT_BASE_URL"] = "http://127.0.0.1:1/v1"
    shell("submit", shell.write("reviews.jsonl", batch_lines(2)))
    shell("pause", "latest")

    watch = shell.terminal("watch", "latest", columns=WIDE, TERM="dumb")
    watch.ends(3)

    assert b"\x1b" not in watch.raw
    assert "paused: 0/2 · paused by the user" in watch.plain


@pytest.mark.parametrize("columns", [NARROWEST, NARROW, WIDE])
def test_status_fits_the_terminal_whatever_a_job_is_called(columns: int, shell: Shell) -> None:
    shell.environ["NIGHTSHIFT_BASE_URL"] = "http://127.0.0.1:1/v1"
    shell.write("reviews.jsonl", batch_lines(2))
    shell("submit", "reviews.jsonl", "--name", "\x1b[31mочень красное\nимя " + "x" * 80)

    status = shell.terminal("status", columns=columns)
    status.ends(0)

    assert "0/2" in status.plain
    assert b"\x1b[31m" not in status.raw
    assert max(len(line) for line in status.lines if "nightshift" not in line) <= columns


def test_money_is_spent_only_after_a_yes_and_a_no_keeps_the_job_at_rest(shell: Shell) -> None:
    shell.write("reviews.jsonl", batch_lines(2))

    run = shell.terminal("run", "reviews.jsonl", "--base-url", "https://127.0.0.2:1/v1", columns=90)
    run.shows("Send 2 requests to https://127.0.0.2:1/v1? [y/N]")
    run.press(b"n\n")
    text = run.ends(130)

    (job,) = shell.jobs()
    assert (job["state"], job["reason"]) == ("paused", "user")
    assert "nothing was sent; the job is saved" in text
    assert f"nightshift resume {job['job']}" in text


def test_ctrl_c_stops_the_watching_and_not_the_job(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:300")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(3))
    run = shell.start("run", "reviews.jsonl", "-o", "out")
    wait_until("calls are in flight", lambda: len(endpoint.book().in_flight()) == 3)

    watch = shell.terminal("watch", "latest", columns=NARROW)
    watch.shows("3 in flight")
    watch.press(b"\x03")
    text = watch.ends(130)

    assert "the job keeps running" in text
    assert run.process.poll() is None
    assert max(len(line) for line in watch.lines if "nightshift" not in line) <= NARROW


def test_names_in_any_script_stand_in_straight_columns(shell: Shell) -> None:
    shell.environ["NIGHTSHIFT_BASE_URL"] = "http://127.0.0.1:1/v1"
    names = ["Отзывы о приложениях", "評論と意見", "e\u0301te\u0301 🎉", "plain"]
    for name in names:
        shell.write("reviews.jsonl", batch_lines(2))
        shell("submit", "reviews.jsonl", "--name", name)
    shell("pause", "latest")

    table = shell("status", NIGHTSHIFT_LANG="ru").out
    rows = [line for line in table.splitlines() if "job_" in line]

    assert "на паузе (пользователем)" in table
    assert [row.split(" с ")[1].strip() for row in rows] == names[::-1]
    assert len({row.index("0,00 ₽") for row in rows}) == 1


@pytest.mark.parametrize(
    ("name", "longest", "shown"),
    [
        ("評論と意見", 10, "評論と意見"),
        ("評論と意見", 9, "評論と意…"),
        ("Отзывы", 5, "Отзы…"),
        ("a", 0, "a"),
    ],
)
def test_a_name_is_cut_by_columns_and_not_by_characters(
    name: str, longest: int, shown: str
) -> None:
    assert fitted(name, longest) == shown
    assert cells(shown) <= max(longest, 1)


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        (
            "  estimated cost 3.11 ₽, at most 60.79 ₽",
            24,
            ["  estimated cost 3.11 ₽,", "    at most 60.79 ₽"],
        ),
        ("cost 3,11 ₽", 9, ["cost", "  3,11 ₽"]),
        ("評論と意見 評論", 12, ["評論と意見", "  評論"]),
        ("resume with: nightshift resume job_x", 30, ["resume with:", "  nightshift resume job_x"]),
        ("  nightshift resume job_x", 12, ["  nightshift resume job_x"]),
        ("results  /a/very/long/path", 12, ["results  /a/very/long/path"]),
        ("it fits", 7, ["it fits"]),
    ],
)
def test_long_lines_break_between_words_and_never_in_an_amount_or_a_command(
    text: str, columns: int, shown: list[str]
) -> None:
    assert folded(text, columns).split("\n") == shown


def test_nothing_is_left_out_where_the_window_is_narrow(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--latency", "uniform:0.2:0.4"))
    shell.write("reviews.jsonl", batch_lines(12))

    run = shell.terminal("run", "reviews.jsonl", "--budget-rub", "50", columns=NARROWEST)
    run.shows("₽ of 50.00 ₽")
    run.shows("projected total")
    run.ends(0)

    assert max(len(line) for line in run.lines if "job_" not in line) <= NARROWEST


@dataclass
class UnderWay:
    """A run on a terminal with five calls in flight."""

    run: Terminal
    endpoint: Simulator
    shell: Shell

    def ended_in_order(self) -> None:
        """No call was cut, and each answer is in the home."""
        calls = self.endpoint.book().chats()
        assert all(call.delivery == "full" for call in calls)
        assert self.shell.jobs()[0]["completed"] == len(calls)


@pytest.fixture
def under_way(simulator: Callable[..., Simulator], shell: Shell) -> UnderWay:
    endpoint = simulator("--latency", "uniform:0.5:1")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(40))
    run = shell.terminal("run", "reviews.jsonl", "--max-in-flight", "5", columns=NARROW)
    run.shows("in_progress")
    wait_until("calls are in flight", lambda: len(endpoint.book().in_flight()) == 5)
    return UnderWay(run, endpoint, shell)


def test_a_terminal_that_goes_away_stops_a_run_in_order(under_way: UnderWay) -> None:
    under_way.run.hang_up(130)

    under_way.ended_in_order()


def test_ctrl_c_on_a_terminal_stops_a_run_in_order(under_way: UnderWay) -> None:
    under_way.run.press(b"\x03")
    under_way.run.shows("stopping")
    text = under_way.run.ends(130)

    assert "nightshift resume job_" in text
    under_way.ended_in_order()


def test_the_last_trouble_stands_below_the_bar_and_in_every_other_view(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:300", "--fault", "429:row=Отзыв 1,times=1")
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(3))
    told = "rate limited (HTTP 429)"

    run = shell.terminal("run", "reviews.jsonl", columns=NARROW)
    run.shows(f"last problem: {told}")
    status = shell("status", "latest").out
    watch = shell.start("watch", "latest")
    watch.says(f"  last problem: {told}")
    trouble = json.loads(shell("status", "latest", "--json").out)["trouble"]
    run.press(b"\x03")
    run.shows("stopping ")
    run.press(b"\x03")
    run.ends(130)

    assert f"last problem  {told}, " in status
    assert (trouble["code"], trouble["times"]) == ("endpoint.rate_limited", 1)
    assert max(len(line) for line in run.lines if "last problem" in line) <= NARROW
