"""The published figures of the method: levels, vectors and critical ranks, with scipy as the oracle."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats as oracle

from pytest_staging.stats import Comparison, Verdict, compare, judge
from pytest_staging.stats.signed_rank import (
    critical_rank,
    hodges_lehmann,
    interval,
    p_greater,
    p_two_sided,
    walsh_averages,
)

BASELINE = [201, 214, 198, 220, 205, 211, 199, 230, 207, 203]
CANDIDATE = [212, 219, 209, 236, 207, 226, 205, 229, 221, 214]
TIED = [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 0.0, 1.0, -1.0, 4.0]


@pytest.fixture
def golden() -> Comparison:
    return compare(BASELINE, CANDIDATE, tolerance=0.05)


@pytest.mark.parametrize(
    ("n", "level"), [(5, 0.0), (6, 0.03125), (8, 0.03906), (9, 0.03906), (10, 0.04883), (20, 0.04844)]
)
def test_the_exact_two_sided_level(n: int, level: float) -> None:
    """XP-01: the largest attainable two-sided p not above .05."""
    total = n * (n + 1) // 2
    reached = [2.0 * p_greater(_with_rank_sum(n, total - low)) for low in range(total // 2)]
    assert max((p for p in reached if p <= 0.05), default=0.0) == pytest.approx(level, abs=5e-6)


def _with_rank_sum(n: int, target: int) -> list[float]:
    """Untied differences of ranks 1 to n whose positive ranks add up to the target."""
    signs: dict[int, int] = {}
    for rank in range(n, 0, -1):
        signs[rank] = 1 if rank <= target else -1
        target -= rank if rank <= target else 0
    assert target == 0
    return [float(sign * rank) for rank, sign in signs.items()]


@pytest.mark.parametrize(("n", "k"), [(1, 0), (5, 0), (6, 1), (8, 4), (10, 9), (12, 14), (20, 53), (30, 138)])
def test_the_critical_rank_of_the_interval(n: int, k: int) -> None:
    """XP-01: the k table of the 95 % interval."""
    assert critical_rank(n, 0.025) == k


def test_the_critical_rank_of_the_one_sided_bound() -> None:
    """XP-01: one-sided 95 % at 10 blocks."""
    assert critical_rank(10, 0.05) == 11


def test_a_tail_that_is_just_reached_is_used() -> None:
    """XP-01: "at most" includes equality."""
    assert (critical_rank(5, 2.0**-5), critical_rank(5, 2.0**-5 - 1e-9)) == (1, 0)


def test_the_golden_vector(golden: Comparison) -> None:
    """XP-01: estimate, interval and p-values of the published example."""
    assert golden.ratio == pytest.approx(1.042776, abs=5e-7)
    assert (golden.ci_low, golden.ci_high) == pytest.approx((1.024502, 1.063417), abs=5e-7)
    assert golden.p_two_sided == 0.00390625
    assert golden.p_regression == 0.001953125
    assert golden.p_pass == 0.34765625
    assert (golden.baseline_median, golden.candidate_median) == (206.0, 216.5)
    assert (golden.n, golden.difference, golden.absolute) == (10, None, False)


def test_the_golden_vector_is_inconclusive(golden: Comparison) -> None:
    """XP-01: a real change of 4 % is neither a pass nor a regression at a tolerance of 5 %."""
    judgement = judge({"p95_ms": golden})
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "worse by 4.28 %" in judgement.verdicts["p95_ms"].reason
    assert "real change" in judgement.verdicts["p95_ms"].reason


def test_the_one_sided_bounds_of_the_golden_vector() -> None:
    """XP-01: the interval with .05 in each tail."""
    logs = [round(math.log(after / before), 12) for before, after in zip(BASELINE, CANDIDATE, strict=True)]
    bounds = interval(walsh_averages(logs), 10, tail=0.05)
    assert [math.exp(bound or 0.0) for bound in bounds] == pytest.approx([1.025166, 1.062877], abs=5e-7)


def test_zeros_and_ties() -> None:
    """XP-01: the exact conditional null of the tied vector."""
    assert p_greater(TIED) == 0.0390625
    assert p_greater([2.0 * value for value in TIED]) == 0.0390625


def test_only_zeros_show_nothing() -> None:
    """XP-01: all zeros give p = 1, and so does nothing at all."""
    assert p_greater([0.0] * 10) == p_two_sided([0.0] * 10) == p_greater([]) == 1.0


def test_ties_by_enumeration() -> None:
    """XP-01: the packed dynamic programme agrees with all sign patterns counted one by one."""
    draw = random.Random(7)
    for _ in range(40):
        values = [float(draw.randint(-4, 4)) for _ in range(draw.randint(1, 9))]
        assert p_greater(values) == pytest.approx(_p_by_enumeration(values), abs=1e-15)


def _p_by_enumeration(values: list[float]) -> float:
    nonzero = [value for value in values if value]
    if not nonzero:
        return 1.0
    ranks = oracle.rankdata([abs(value) for value in nonzero])
    observed = sum(rank for rank, value in zip(ranks, nonzero, strict=True) if value > 0)
    sums = [sum(rank for i, rank in enumerate(ranks) if pattern >> i & 1) for pattern in range(1 << len(ranks))]
    return float(sum(total >= observed for total in sums) / len(sums))


@pytest.mark.parametrize("n", [1, 2, 5, 7, 10, 13, 20, 30, 45])
def test_scipy_agrees_without_ties_and_zeros(n: int) -> None:
    """XP-01: scipy's exact test is the oracle."""
    draw = random.Random(n)
    for _ in range(10):
        values = [draw.gauss(0.3, 1.0) for _ in range(n)]
        expected = oracle.wilcoxon(values, method="exact", alternative="greater").pvalue
        assert p_greater(values) == pytest.approx(expected, rel=1e-9, abs=1e-15)
        both = oracle.wilcoxon(values, method="exact").pvalue
        assert p_two_sided(values) == pytest.approx(both, rel=1e-9, abs=1e-15)


def test_many_blocks_are_no_trouble() -> None:
    """XP-01: a hundred blocks stay exact, hundreds give a small p that is not 0; no float overflows on the way."""
    assert p_greater([float(i + 1) for i in range(100)]) == 0.5**100
    assert 0.0 < p_greater([float(i + 1) for i in range(300)]) < 1e-40


def test_hodges_lehmann_of_an_even_and_an_odd_number_of_averages() -> None:
    """XP-01: three values give six averages, two values three."""
    assert hodges_lehmann(walsh_averages([1.0, 2.0, 6.0])) == 2.75
    assert hodges_lehmann(walsh_averages([1.0, 2.0])) == 1.5
    with pytest.raises(ValueError, match="at least one value"):
        hodges_lehmann([])
