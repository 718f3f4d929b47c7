"""Error rates and power of the whole comparison, by simulation: the figures the method was chosen by."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from pytest_staging.stats import Comparison, compare

REPETITIONS = 10_000
BLOCKS = 10
CV = 0.05
CORRELATION = 0.5


@cache
def _simulated(change: float) -> list[Comparison]:
    """Comparisons of log-normal series with a common block effect, the candidate worse by `change`."""
    sigma = math.sqrt(math.log(1.0 + CV**2))
    draw = np.random.default_rng(1)
    block = draw.normal(size=(REPETITIONS, 1, BLOCKS))
    own = draw.normal(size=(REPETITIONS, 2, BLOCKS))
    logs = sigma * (math.sqrt(CORRELATION) * block + math.sqrt(1.0 - CORRELATION) * own)
    values = 200.0 * np.exp(logs)
    values[:, 1] *= 1.0 + change
    return [compare(baseline, candidate, tolerance=0.05) for baseline, candidate in values.tolist()]


def _share_below(change: float, name: str) -> float:
    return sum(bool(getattr(comparison, name) <= 0.05) for comparison in _simulated(change)) / REPETITIONS


def test_false_positives() -> None:
    """XP-01: the two-sided test finds a change where there is none in .049 of the campaigns."""
    assert _share_below(0.0, "p_two_sided") == pytest.approx(0.049, abs=0.0065)


@pytest.mark.parametrize(("change", "power"), [(0.02, 0.196), (0.05, 0.767), (0.10, 0.999)])
def test_power(change: float, power: float) -> None:
    """XP-01: how often a change is found."""
    assert _share_below(change, "p_two_sided") == pytest.approx(power, abs=0.015)


def test_passes_without_a_change() -> None:
    """XP-01: how often an unchanged version passes at a tolerance of 5 %."""
    assert _share_below(0.0, "p_pass") == pytest.approx(0.847, abs=0.015)


def test_false_passes() -> None:
    """XP-01: a version worse by exactly the tolerance passes in .042 of the campaigns."""
    assert _share_below(0.05, "p_pass") == pytest.approx(0.042, abs=0.006)


def test_coverage() -> None:
    """XP-01: the 95 % interval holds the true ratio in at least about 95 %."""
    held = sum((c.ci_low or 0.0) <= 1.05 <= (c.ci_high or 0.0) for c in _simulated(0.05)) / REPETITIONS
    assert held == pytest.approx(0.951, abs=0.0065)


def test_the_estimate_is_unbiased() -> None:
    """XP-01: the median ratio over all campaigns is the true one."""
    ratios = [comparison.ratio or 0.0 for comparison in _simulated(0.05)]
    assert float(np.median(ratios)) == pytest.approx(1.05, abs=0.001)
