"""The user hears of a job: at its end, at a pause that needs them, and when they try the way."""

from __future__ import annotations

import json
from collections.abc import Callable

from scripts.simulator import Simulator
from tests.acceptance.conftest import Shell, batch_lines, cost_of
from tests.batch.servers import hook
from tests.conftest import CANARY


def test_a_webhook_hears_of_the_pause_and_of_the_end(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--null-cost-share", "0"))
    shell.write("reviews.jsonl", batch_lines(3))
    with hook() as there:
        to = ("--notify-url", f"{there.url}/hook")
        shell("run", "reviews.jsonl", "-o", "out", "--budget-rub", "0", *to, code=3)
        shell("resume", "latest", "--budget-rub", "500")

    assert [post.json["event"] for post in there.posts] == ["paused.budget_exhausted", "completed"]
    end = there.posts[1].json
    assert (end["completed"], end["left"]) == (3, 0)
    assert end["spent_rub"] == f"{cost_of(shell.folder / 'out'):f}"
    told = b"".join(post.body for post in there.posts).decode()
    assert CANARY not in told
    assert "Отзыв" not in json.loads(f"[{json.dumps(told)}]")[0]
    assert "r-0" not in told


def test_a_webhook_that_is_not_there_changes_nothing(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator())
    shell.write("reviews.jsonl", batch_lines(2))

    run = shell("run", "reviews.jsonl", "--notify-url", "http://127.0.0.1:1/hook")

    assert "2 of 2 answered" in run.err


def test_doctor_tries_the_ways(simulator: Callable[..., Simulator], shell: Shell) -> None:
    shell.point_at(simulator())
    with hook() as there:
        well = shell("doctor", "--notify", NIGHTSHIFT_NOTIFY_URL=there.url)
    ill = shell("doctor", "--notify", "--notify-telegram", "12", "--json", code=4)

    assert there.posts[0].json["event"] == "test"
    assert "a test notification was sent" in well.out
    (telegram,) = (each for each in json.loads(ill.out)["checks"] if each["what"] == "Telegram")
    assert telegram["text"] == "NIGHTSHIFT_TELEGRAM_TOKEN is not set"


def test_an_address_that_is_none_is_refused_before_anything(shell: Shell) -> None:
    shell.write("reviews.jsonl", batch_lines(2))

    run = shell("submit", "reviews.jsonl", "--notify-url", "http://example.org/hook", code=2)

    assert "--notify-url: a webhook must be https, or on this machine" in run.err
    assert shell.job_ids() == []
