"""Summaries and percentiles, with numpy as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_staging.stats import Summary, percentile, summarise

FINITE = st.floats(min_value=-1e12, max_value=1e12)


def test_nothing_has_no_summary() -> None:
    """XP-01: an absent metric is None, not 0."""
    assert summarise([]) is None
    assert summarise(iter(())) is None


def test_a_summary() -> None:
    """XP-01: median, mean, range and number, from any iterable."""
    assert summarise(iter([4.0, 1.0, 3.0, 2.0])) == Summary(median=2.5, mean=2.5, min=1.0, max=4.0, n=4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_summary_of_what_is_no_number(bad: float) -> None:
    """XP-01: a NaN would sort anywhere and make the median arbitrary."""
    with pytest.raises(ValueError, match="finite"):
        summarise([1.0, bad])


@pytest.mark.parametrize("q", [-0.1, 100.1, math.nan])
def test_percentiles_out_of_range(q: float) -> None:
    """XP-01: a fraction passed as a percentage is not caught, a percentage above 100 is."""
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], q)


def test_a_percentile_of_nothing() -> None:
    """XP-01: no samples, no percentile."""
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50.0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(FINITE, min_size=1, max_size=40), st.floats(min_value=0.0, max_value=100.0))
def test_percentiles_are_numpys(values: list[float], q: float) -> None:
    """XP-01: the rule is numpy's default, and stays within the values."""
    ordered = sorted(values)
    result = percentile(ordered, q)
    assert result == pytest.approx(float(np.percentile(ordered, q)), rel=1e-12, abs=1e-3)
    assert ordered[0] <= result <= ordered[-1]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(FINITE, min_size=1, max_size=40))
def test_a_summary_is_in_range(values: list[float]) -> None:
    """XP-01: mean and median lie between the extremes."""
    summary = summarise(values)
    assert summary is not None
    assert summary.min <= summary.mean <= summary.max
    assert summary.min <= summary.median <= summary.max
    assert summary.median == pytest.approx(float(np.median(values)), rel=1e-12, abs=1e-3)
