"""A model that the endpoint does not list is told before anything is sent, and can be mended."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines, ids

OTHER = "minimax/minimax-m2"


def asked(endpoint: Simulator) -> set[str | None]:
    """The models that calls were for."""
    return {chat.model for chat in endpoint.book().chats()}


def test_a_model_that_is_not_listed_is_told_with_near_names_and_can_be_mapped(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(3, model="minimax-m1"))

    for command in (("run", "--yes"), ("submit",), ("estimate",)):
        refused = shell(command[0], "reviews.jsonl", *command[1:], code=2)
        assert "minimax-m1: it lists no such model" in refused.err
        assert f"--model-map minimax-m1={MODEL}" in refused.err
    assert shell.job_ids() == []

    shell("run", "reviews.jsonl", "-o", "out", "--model-map", f"minimax-m1={MODEL}")
    shell("run", "reviews.jsonl", "-o", "all", "--override-model", OTHER)

    assert asked(endpoint) == {MODEL, OTHER}
    assert ids(shell.folder / "out" / "output.jsonl") == ["r-0", "r-1", "r-2"]


def test_a_job_whose_model_went_away_goes_on_with_another(
    simulator: Callable[..., Simulator], shell: Shell
) -> None:
    endpoint = simulator()
    shell.point_at(endpoint)
    shell.write("reviews.jsonl", batch_lines(12, model="gone"))

    # A name that is mapped to itself is right, says the user.
    paused = shell("run", "reviews.jsonl", "-o", "out", "--model-map", "gone=gone", code=3)

    (way,) = (line for line in paused.err.splitlines() if "nightshift resume" in line)
    assert "--model-map OLD=NEW" in way
    assert "lists no such model" in shell("resume", "latest", "--model-map", "gone=m9", code=2).err
    told = json.loads(
        shell("resume", "latest", "--dry-run", "--json", "--model-map", f"gone={MODEL}").out
    )
    assert told["total"]["requests"] == 12
    assert told["total"]["at_most_rub"] is not None

    shell("resume", "latest", "--yes", "--model-map", f"gone={MODEL}")

    out = shell.folder / "out"
    assert ids(out / "output.jsonl") == [f"r-{n}" for n in range(12)]
    assert (out / "errors.jsonl").read_bytes() == b""
    assert {chat.model for chat in endpoint.book().billed()} == {MODEL}


@pytest.mark.parametrize("text", ["minimax", "=x", "x="])
def test_a_map_that_is_none_is_told(text: str, shell: Shell) -> None:
    assert "OLD=NEW" in shell("run", "x.jsonl", "--model-map", text, code=2).err
