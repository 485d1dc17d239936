"""Latencies in classes on a logarithmic scale."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.latencies import Scale

SECONDS = st.floats(0.001, 1e6)


@pytest.mark.parametrize("ratio", [1.01, 1.1])
@given(latencies=st.lists(SECONDS, min_size=1), share=st.floats(0.01, 1))
def test_a_quantile_is_true_to_half_a_class(
    ratio: float, latencies: list[float], share: float
) -> None:
    scale = Scale(ratio)
    found = scale.quantile(Counter(map(scale.class_of, latencies)), share)
    true = sorted(latencies)[math.ceil(share * len(latencies)) - 1]

    assert found == pytest.approx(true, rel=math.sqrt(ratio) - 1 + 1e-6)


def test_nothing_has_no_quantile() -> None:
    assert Scale(1.1).quantile({}, 0.5) is None


@pytest.mark.parametrize(("seconds", "counts_as"), [(0.0, 0.001), (-1.0, 0.001), (1e9, 1e6)])
def test_what_is_beyond_the_scale_counts_as_its_end(seconds: float, counts_as: float) -> None:
    assert Scale(1.1).class_of(seconds) == Scale(1.1).class_of(counts_as)


def test_a_position_and_its_seconds_are_each_others_inverse() -> None:
    scale = Scale(1.01)

    assert scale.seconds(scale.position(2.5)) == pytest.approx(2.5)
    assert scale.class_of(2.5) <= scale.position(2.5) < scale.class_of(2.5) + 1
