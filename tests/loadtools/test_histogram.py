"""A histogram is the sorted list that it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.loadtools.histogram import Histogram
from pytest_staging.stats.summary import percentile

PAIRS = st.dictionaries(st.floats(0, 1e6), st.integers(0, 5), max_size=12).map(lambda one: sorted(one.items()))


@given(PAIRS)
def test_it_is_a_list(pairs: list[tuple[float, int]]) -> None:
    """SM-08: length, every place from both ends, slices, order, and percentiles."""
    found, whole = Histogram(pairs), [value for value, times in pairs for _ in range(times)]
    assert list(found) == whole
    assert found == whole
    assert [found[place] for place in range(-len(whole), len(whole))] == whole + whole
    assert found[1:-1] == whole[1:-1]
    assert len(found) == len(whole)
    if whole:
        assert percentile(found, 95.0) == percentile(whole, 95.0)
    with pytest.raises(IndexError):
        found[len(whole)]


def test_it_refuses_values_that_do_not_rise() -> None:
    with pytest.raises(ValueError, match="do not rise"):
        Histogram([(2.0, 1), (2.0, 1)])
    assert list(Histogram([(2.0, 0), (2.0, 1)])) == [2.0]
    assert Histogram([(1.0, 1)]) != [2.0]
    assert Histogram([]) != 3
