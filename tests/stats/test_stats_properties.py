"""Properties of every comparison, on drawn data."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_staging.stats import Verdict, compare, judge

QUICK = settings(max_examples=120, deadline=None, derandomize=True)
# Whole numbers tie often; floats almost never do.
POSITIVE = st.one_of(st.integers(1, 30).map(float), st.floats(min_value=1e-3, max_value=1e6))
ANY = st.one_of(st.integers(-5, 5).map(float), st.floats(min_value=-1e6, max_value=1e6)).filter(
    lambda value: value == 0.0 or abs(value) > 1e-9
)
TOLERANCE = st.floats(min_value=0.0, max_value=1.0)


def _pairs(values: Any = POSITIVE, least: int = 1, most: int = 14) -> Any:
    return st.lists(st.tuples(values, values), min_size=least, max_size=most)


def _split(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@QUICK
@given(_pairs(), TOLERANCE, st.booleans())
def test_p_values_are_probabilities(pairs: Any, tolerance: float, higher: bool) -> None:
    """XP-01: every p is in 2**-n to 1, and the two-sided one is twice the smaller side."""
    result = compare(*_split(pairs), tolerance=tolerance, higher_is_better=higher)
    other = compare(*_split(pairs), tolerance=tolerance, higher_is_better=not higher)
    for p in (result.p_two_sided, result.p_regression, result.p_pass):
        assert p is not None
        assert 2.0**-result.n <= p <= 1.0
    assert result.p_regression is not None
    assert other.p_regression is not None
    assert result.p_two_sided == min(1.0, 2.0 * min(result.p_regression, other.p_regression))


@QUICK
@given(_pairs(least=6))
def test_the_interval_holds_the_ratio(pairs: Any) -> None:
    """XP-01: ci_low <= ratio <= ci_high, with ties too."""
    result = compare(*_split(pairs), tolerance=0.05)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert result.ratio is not None
    assert result.ci_low <= result.ratio <= result.ci_high


@QUICK
@given(_pairs(ANY, least=6))
def test_the_interval_holds_the_difference(pairs: Any) -> None:
    """XP-01: the same for absolute differences, zeros and all."""
    result = compare(*_split(pairs), tolerance=0.05, absolute=True)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert result.difference is not None
    assert result.ci_low <= result.difference <= result.ci_high


@QUICK
@given(_pairs(), st.booleans())
def test_swapping_the_sides_inverts_the_ratio(pairs: Any, higher: bool) -> None:
    """XP-01: baseline and candidate swapped: ratio and interval invert, the sides of the test change places."""
    baseline, candidate = _split(pairs)
    there = compare(baseline, candidate, tolerance=0.05, higher_is_better=higher)
    back = compare(candidate, baseline, tolerance=0.05, higher_is_better=higher)
    turned = compare(baseline, candidate, tolerance=0.05, higher_is_better=not higher)
    assert there.ratio is not None
    assert back.ratio == pytest.approx(1.0 / there.ratio)
    if there.ci_low is not None:
        assert back.ci_high == pytest.approx(1.0 / there.ci_low)
    assert back.p_two_sided == there.p_two_sided
    assert back.p_regression == turned.p_regression
    assert back.p_pass == turned.p_pass


@QUICK
@given(_pairs(), TOLERANCE, st.integers(-20, 20))
def test_the_unit_of_a_ratio_does_not_matter(pairs: Any, tolerance: float, exponent: int) -> None:
    """XP-01: milliseconds or seconds give the same comparison (powers of two are exact)."""
    baseline, candidate = _split(pairs)
    scaled = [[value * 2.0**exponent for value in side] for side in (baseline, candidate)]
    first = compare(baseline, candidate, tolerance=tolerance).to_dict()
    second = compare(*scaled, tolerance=tolerance).to_dict()
    for name in ("baseline_median", "candidate_median"):
        assert second.pop(name) == (first.pop(name) or 0.0) * 2.0**exponent
    assert second == first


@QUICK
@given(_pairs(), TOLERANCE, st.randoms(use_true_random=False))
def test_the_order_of_blocks_does_not_matter(pairs: Any, tolerance: float, random: Any) -> None:
    """XP-01: blocks shuffled as pairs give the same comparison."""
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert compare(*_split(shuffled), tolerance=tolerance) == compare(*_split(pairs), tolerance=tolerance)


@QUICK
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique_by=abs),
    st.integers(0, 11),
    st.integers(1, 30),
    st.integers(0, 60),
)
def test_a_worse_block_never_looks_better(shifts: list[int], index: int, step: int, tolerance: int) -> None:
    """XP-01: without ties, worsening one block raises no p of a regression and lowers no p of a pass."""
    index %= len(shifts)
    worse = [shift + step * (i == index) for i, shift in enumerate(shifts)]
    # Dropping zeros and changing ties changes the conditional null, so monotony is only claimed without either.
    for values in (shifts, worse, [tolerance - v for v in shifts], [tolerance - v for v in worse]):
        assume(0 not in values and len({abs(value) for value in values}) == len(values))
    zeros = [0.0] * len(shifts)
    before = compare(zeros, [float(v) for v in shifts], tolerance=float(tolerance), absolute=True)
    after = compare(zeros, [float(v) for v in worse], tolerance=float(tolerance), absolute=True)
    assert before.p_regression is not None
    assert after.p_regression is not None
    assert after.p_regression <= before.p_regression
    assert before.p_pass is not None
    assert after.p_pass is not None
    assert after.p_pass >= before.p_pass
    assert before.difference is not None
    assert after.difference is not None
    assert after.difference >= before.difference


@QUICK
@given(_pairs(), TOLERANCE, TOLERANCE)
def test_a_wider_tolerance_never_loses_a_pass(pairs: Any, first: float, second: float) -> None:
    """XP-01: without ties and zeros in the distances to the tolerance, p_pass falls as the tolerance grows."""
    narrow, wide = sorted((first, second))
    logs = [math.log(after / before) for before, after in pairs]
    for tolerance in (narrow, wide):
        distances = [abs(round(math.log1p(tolerance) - value, 9)) for value in logs]
        assume(0.0 not in distances and len(set(distances)) == len(distances))
    p_narrow = compare(*_split(pairs), tolerance=narrow).p_pass
    p_wide = compare(*_split(pairs), tolerance=wide).p_pass
    assert p_narrow is not None
    assert p_wide is not None
    assert p_wide <= p_narrow


@QUICK
@given(_pairs(st.one_of(st.none(), POSITIVE), least=0, most=20), TOLERANCE, st.booleans())
def test_missing_data_never_passes(pairs: Any, tolerance: float, higher: bool) -> None:
    """XP-01: with fewer than five complete blocks nothing passes, and missing values add nothing."""
    result = compare(*_split(pairs), tolerance=tolerance, higher_is_better=higher)
    complete = [pair for pair in pairs if None not in pair]
    assert result == compare(*_split(complete), tolerance=tolerance, higher_is_better=higher)
    if len(complete) < 5:
        assert judge({"metric": result}).verdict is Verdict.INCONCLUSIVE


@QUICK
@given(_pairs(ANY), TOLERANCE)
def test_negation_turns_a_difference(pairs: Any, tolerance: float) -> None:
    """XP-01: a metric and its negative, with the other direction better, are the same claim."""
    baseline, candidate = _split(pairs)
    plain = compare(baseline, candidate, tolerance=tolerance, absolute=True)
    negated = compare(
        [-v for v in baseline], [-v for v in candidate], tolerance=tolerance, absolute=True, higher_is_better=True
    )
    assert (plain.p_regression, plain.p_pass, plain.shift) == (negated.p_regression, negated.p_pass, negated.shift)
