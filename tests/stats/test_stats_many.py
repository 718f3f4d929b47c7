"""Many blocks: the listed averages and the exact null give way to selection and the normal approximation."""

from __future__ import annotations

import random

import pytest
from scipy import stats as scipy_stats

from pytest_staging.stats import compare, signed_rank


def draw(n: int, shift: float = 0.0, digits: int = 12) -> list[float]:
    """Normal values, rounded so that `digits` decides how many tie."""
    generator = random.Random(7)
    return [round(generator.gauss(shift, 1.0), digits) for _ in range(n)]


@pytest.mark.parametrize("digits", [12, 1])
def test_selected_walsh_averages_equal_listed_ones(digits: int) -> None:
    """XP-01: element by element, also with ties."""
    values = draw(40, digits=digits)
    listed, selected = signed_rank.walsh_averages(values), signed_rank.WalshAverages(values)
    assert len(selected) == len(listed)
    assert [selected[index] for index in range(len(listed))] == pytest.approx(list(listed), abs=1e-12)
    assert selected[-3] == pytest.approx(listed[-3])
    with pytest.raises(IndexError):
        selected[len(listed)]


@pytest.mark.parametrize("shift", [0.0, 0.1, -0.2])
def test_large_p_values_agree_with_scipy(shift: float) -> None:
    """XP-01: above the limit the approximation is the one of the reference."""
    values = draw(signed_rank.EXACT_LIMIT + 50, shift, digits=2)
    nonzero = [value for value in values if value]
    expected = scipy_stats.wilcoxon(nonzero, alternative="greater", correction=True, method="approx").pvalue
    assert signed_rank.p_greater(values) == pytest.approx(expected, rel=1e-6)


def test_exact_and_approximate_agree_at_the_limit() -> None:
    """XP-01: crossing the limit changes no verdict: both give the same p within .0005 and the same rank within 1."""
    n = signed_rank.EXACT_LIMIT
    exact = signed_rank.p_greater(draw(n, 0.15))
    extended = scipy_stats.wilcoxon(draw(n, 0.15), alternative="greater", correction=True, method="approx").pvalue
    assert exact == pytest.approx(extended, abs=5e-4)
    assert 0 < signed_rank.critical_rank(n + 1, 0.025) - signed_rank.critical_rank(n, 0.025) < n


def test_thousands_of_blocks_of_bytes_are_compared() -> None:
    """XP-01: large values in absolute units stay exact integers, whatever their size."""
    base = [1e9 + value * 1e6 for value in draw(3000)]
    result = compare(base, [value + 5e5 for value in base], tolerance=1e6, absolute=True)
    assert result.difference == pytest.approx(5e5)
    assert result.p_pass is not None
    assert result.p_pass < 1e-6
