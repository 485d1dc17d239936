"""What options of a table mean."""

from __future__ import annotations

import csv

import pytest

from batch.cli.table_options import _choices
from jobs.errors import UsageError


@pytest.mark.parametrize(
    "text", ["yes,no, maybe", "yes,\nno,\nmaybe\n", "yes\r\nno\r\nmaybe", 'yes,"no",maybe']
)
def test_choices_stand_between_commas_or_on_lines(text: str) -> None:
    assert _choices(text) == ("yes", "no", "maybe")


def test_a_choice_that_is_too_long_is_refused() -> None:
    # The limit is the process's, and reading a table raises it.
    before = csv.field_size_limit(131_072)
    try:
        with pytest.raises(UsageError, match="--choices: field larger than field limit"):
            _choices("yes," + "n" * 200_000)
    finally:
        csv.field_size_limit(before)
