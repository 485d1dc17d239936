"""The command in Russian: people read it, programs do not."""

from __future__ import annotations

from collections.abc import Callable

from scripts.simulator import Simulator
from tests.acceptance.conftest import Shell, batch_lines, cost_of


def test_a_run_speaks_russian_to_people_and_english_to_programs(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    shell.point_at(simulator("--fault", "400:row=Отзыв 1", "--null-cost-share", "0"))
    shell.environ["NIGHTSHIFT_LANG"] = "ru"
    shell.write("reviews.jsonl", batch_lines(5))

    run = shell("run", "reviews.jsonl", "-o", "out", code=1)
    table = shell("status").out
    cost = shell("cost", "latest").out
    (job,) = shell.jobs()

    spent = f"{cost_of(shell.folder / 'out'):f}".replace(".", ",")
    assert "ответов 4 из 5, 1 ошибка за" in run.err
    assert f"точно {spent} ₽" in run.err
    assert "готово" in table
    assert f"точно {spent} ₽) за 5 вызовов" in cost or f"точно {spent} ₽) за 4 вызова" in cost
    assert job["state"] == "completed"
    assert b"endpoint" in (shell.folder / "out" / "errors.jsonl").read_bytes()


def test_errors_and_helps_are_told_in_russian(shell: Shell) -> None:
    shell.environ["NIGHTSHIFT_LANG"] = "ru"
    shell.write("reviews.jsonl", batch_lines(1) + "[]\n")

    faulty = shell(
        "run", "reviews.jsonl", "--yes", code=2, NIGHTSHIFT_BASE_URL="http://127.0.0.1:1/v1"
    )
    unknown = shell("rnu", code=2)
    told = shell("run", "--help").out

    assert "строка 2, байт 0: строка файла — список" in faulty.err
    assert "негодных строк: 1; ничего не отправлено" in faulty.err
    assert "Нет команды 'rnu'. Может быть, run?" in unknown.err
    assert "Не тратить больше." in told
    assert "Показать эту справку и выйти." in told
