"""What options of a table mean."""

from __future__ import annotations

import pytest

from batch.cli.table_options import _choices
from jobs.errors import UsageError


@pytest.mark.parametrize(
    "text", ["yes,no, maybe", "yes,\nno,\nmaybe\n", "yes\r\nno\r\nmaybe", 'yes,"no",maybe']
)
def test_choices_stand_between_commas_or_on_lines(text: str) -> None:
    assert _choices(text) == ("yes", "no", "maybe")


def test_a_choice_that_is_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="--choices: field larger than field limit"):
        _choices("yes," + "n" * 200_000)
