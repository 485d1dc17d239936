"""Estimates, a sample that is bought first, copies that are not bought, deadlines, cheap hours."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from scripts.auditor import audit
from scripts.simulator import Simulator
from tests.acceptance.conftest import (
    MODEL,
    Shell,
    batch_lines,
    cost_of,
    ids,
    read_lines,
)
from tests.texts import lines


def test_a_sample_is_bought_first_and_the_likely_cost_is_near_what_all_come_to(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--null-cost-share", "0")
    shell.point_at(endpoint)
    source = shell.write("texts.jsonl", lines("descriptions", 200))

    told = shell("estimate", source, "-o", "out", "--sample", "20", "--json")

    found = json.loads(told.out)
    assert (found["basis"], found["answers"], found["requests"]) == ("sample", 20, 200)
    asked = len(endpoint.book().chats())
    assert asked == 20
    assert not (shell.folder / "out").exists()

    done = shell("resume", found["job"])

    book = endpoint.book()
    assert len(book.billed()) == 200, done
    likely = Decimal(found["rub"]["likely"])
    assert abs(likely / book.total_billed() - 1) < Decimal("0.15")
    assert ids(shell.folder / "out" / "output.jsonl") == [f"line-{n}" for n in range(1, 201)]
    scored = json.loads((shell.folder / "out" / "cost.json").read_text())["estimate"]
    assert Decimal(scored["outcome_rub"]) == book.total_billed()
    assert 0.85 < scored["ratio"] < 1.15
    assert "the estimate (" in done.err or "as estimated" in done.err


def test_a_run_with_a_sample_tells_what_it_measured_and_goes_on(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)

    done = shell("run", shell.write("in.jsonl", batch_lines(40)), "-o", "out", "--sample", "10")

    assert "based on" in done.err
    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(40)]
    assert len(endpoint.book().billed()) == 40


def test_what_one_job_taught_the_next_estimate_knows(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--answer-tokens", "300")
    shell.point_at(endpoint)
    before = json.loads(shell("estimate", shell.write("a", batch_lines(30)), "--json").out)

    shell("run", "a", "-o", "out")
    after = json.loads(shell("estimate", "a", "--json").out)

    came_to = cost_of(shell.folder / "out")
    assert (before["basis"], after["basis"]) == ("usual", "learned")
    assert abs(Decimal(after["rub"]["likely"]) / came_to - 1) < Decimal("0.1")


def test_identical_requests_are_bought_once_and_every_line_gets_the_answer(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--null-cost-share", "0")
    shell.point_at(endpoint)
    source = shell.write("in.jsonl", _alike(30, different=10))

    done = shell("run", source, "-o", "out", "--dedupe")

    assert "20 of them are duplicates" in done.err
    assert len(endpoint.book().billed()) == 10
    output = read_lines(shell.folder / "out" / "output.jsonl")
    assert [line["custom_id"] for line in output] == [f"r-{number}" for number in range(30)]
    assert [line["nightshift"].get("copy_of") for line in output[8:13]] == [
        *(None, None),
        *("r-0", "r-1", "r-2"),
    ]
    assert output[10]["response"] == output[0]["response"]
    assert output[10]["nightshift"]["cost_rub"] == "0"
    assert output[10]["nightshift"]["cost_source"] == "copy"
    saved = json.loads((shell.folder / "out" / "cost.json").read_text())["copies"]
    assert saved == {
        "requests": 20,
        "saved_rub": f"{2 * cost_of(shell.folder / 'out'):f}".rstrip("0"),
    }
    (job,) = shell.job_ids()
    found = audit(
        endpoint.book_path,
        Path(shell.environ["NIGHTSHIFT_HOME"]) / "jobs" / job,
        source,
        shell.folder / "out",
    )
    assert found.broken == []
    assert found.copies == 20


def test_copies_of_a_failed_request_fail_with_it_and_are_tried_again_with_it(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--fault", "400:row=Отзыв 1,times=1")
    shell.point_at(endpoint)

    shell("run", shell.write("in.jsonl", _alike(9, different=3)), "-o", "out", "--dedupe", code=1)
    assert ids(shell.folder / "out" / "errors.jsonl") == ["r-1", "r-4", "r-7"]

    shell("resume", "latest", "--retry-failed")

    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(9)]
    assert (shell.folder / "out" / "errors.jsonl").read_bytes() == b""
    assert len(endpoint.book().billed()) == 3


def test_requests_that_ask_for_chance_are_bought_each_unless_all_are_to_be_deduped(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    source = shell.write("in.jsonl", _alike(4, different=2, temperature=0.7))

    shell("run", source, "-o", "each", "--dedupe")
    assert len(endpoint.book().billed()) == 4
    shell("run", source, "-o", "once", "--dedupe-all")
    assert len(endpoint.book().billed()) == 6


def test_prompts_with_one_beginning_are_sent_so_that_the_cache_serves_them(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--cache-prefixes", "--latency", "constant:0.2", "--null-cost-share", "0")
    shell.point_at(endpoint)
    # Ten roles, ten lines each: in the file's order, concurrent calls would find the cache cold.
    source = shell.write("in.jsonl", "".join(map(_in_a_role, range(100))))

    shell("run", source, "-o", "out", "--max-in-flight", "40")

    output = read_lines(shell.folder / "out" / "output.jsonl")
    assert [line["custom_id"] for line in output] == [f"line-{n}" for n in range(1, 101)]
    usages = [line["response"]["body"]["usage"] for line in output]
    cold = [usage for usage in usages if not usage["prompt_tokens_details"]["cached_tokens"]]
    assert len(cold) == 10


def test_after_the_deadline_nothing_new_is_sent_and_the_rest_is_reported(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator("--latency", "constant:1")
    shell.point_at(endpoint)
    source = shell.write("in.jsonl", batch_lines(60))
    soon = datetime.now(UTC) + timedelta(seconds=8)

    done = shell(
        *("run", source, "-o", "out", "--max-in-flight", "2"),
        *("--deadline", soon.isoformat()),
        code=1,
    )

    assert "the deadline has passed" in done.err
    output = ids(shell.folder / "out" / "output.jsonl")
    errors = read_lines(shell.folder / "out" / "errors.jsonl")
    assert sorted(output + [line["custom_id"] for line in errors]) == sorted(
        f"r-{number}" for number in range(60)
    )
    assert {line["error"]["code"] for line in errors} == {"not_run.deadline"}
    assert len(endpoint.book().billed()) == len(output)
    assert shell.jobs()[0]["state"] == "expired"

    refused = shell("resume", "latest", code=2)
    assert "has passed" in refused.err
    endpoint.control("latency", {"latency": "none"})
    shell("resume", "latest", "--deadline", "", "--max-in-flight", "50")
    assert ids(shell.folder / "out" / "output.jsonl") == [f"r-{number}" for number in range(60)]
    assert len(endpoint.book().billed()) == 60


def test_off_peak_hours_are_those_of_the_catalogue(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator())
    by_hour = shell.write("in.jsonl", batch_lines(2, model="deepseek/deepseek-chat"))

    shell("submit", by_hour, "--off-peak", "-o", "out")
    assert "16:30-00:30@UTC" in shell("estimate", by_hour, "--off-peak").err + _window(shell)

    never = shell.write("never.jsonl", batch_lines(2, model=MODEL))
    refused = shell("submit", never, "--off-peak", code=2)
    assert f"no off-peak hours are known for {MODEL}" in refused.err


def _window(shell: Shell) -> str:
    from batch.store.home import Home

    (job,) = shell.job_ids()
    store = Home(Path(shell.environ["NIGHTSHIFT_HOME"])).open(job, read_only=True)
    try:
        return store.job().spec.window or ""
    finally:
        store.close()


def _in_a_role(number: int) -> str:
    """A line with one of ten long beginnings."""
    role = f"You are clerk number {number // 10}. " + "Answer briefly and to the point. " * 150
    messages = [{"role": "system", "content": role}, {"role": "user", "content": str(number)}]
    return json.dumps({"model": MODEL, "max_tokens": 50, "messages": messages}) + "\n"


def _alike(count: int, *, different: int, temperature: float | None = None) -> str:
    """Lines of which only so many ask for something of their own."""
    found = []
    for number, line in enumerate(batch_lines(count).splitlines()):
        request = json.loads(line)
        body = request["body"]
        body["messages"][0]["content"] = f"Отзыв {number % different}"
        if temperature is not None:
            body["temperature"] = temperature
        if number >= different:
            request["body"] = dict(reversed(body.items()))
        found.append(json.dumps(request, ensure_ascii=False))
    return "\n".join(found) + "\n"


def test_an_account_that_will_not_bear_the_job_is_told_before_the_night(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--balance", "0.05"))
    source = shell.write("reviews.jsonl", batch_lines(50))

    told = shell("estimate", source).out

    assert "the account holds 0.05 ₽, less than the" in told
