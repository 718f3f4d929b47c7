"""One metric compared: directions, zeros, missing blocks and refusals."""

from __future__ import annotations

import json
import math

import pytest

from pytest_staging.stats import Verdict, compare, judge

TEN = [100.0, 103.0, 98.0, 101.0, 99.0, 104.0, 97.0, 102.0, 105.0, 96.0]


def _verdict(**metric: object) -> Verdict:
    return judge({"metric": compare(**metric)}).verdict  # type: ignore[arg-type]


def _times(values: list[float], factor: float) -> list[float]:
    """Values changed by about the factor, all by a slightly different one."""
    return [value * (factor + 0.0001 * i) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("factor", "higher_is_better", "expected"),
    [
        (1.10, False, Verdict.REGRESSION),
        (0.90, False, Verdict.PASS),
        (1.00, False, Verdict.PASS),
        (1.10, True, Verdict.PASS),
        (0.90, True, Verdict.REGRESSION),
        (1.00, True, Verdict.PASS),
    ],
)
def test_direction(factor: float, higher_is_better: bool, expected: Verdict) -> None:
    """XP-01: worse is up or down, as declared."""
    candidate = _times(TEN, factor)
    assert _verdict(baseline=TEN, candidate=candidate, tolerance=0.05, higher_is_better=higher_is_better) is expected


def test_the_ratio_is_as_measured_whichever_way_is_better() -> None:
    """XP-01: ratio and interval are candidate / baseline; only the shift turns."""
    candidate = _times(TEN, 0.9)
    cost = compare(TEN, candidate, tolerance=0.05)
    gain = compare(TEN, candidate, tolerance=0.05, higher_is_better=True)
    assert cost.ratio == gain.ratio == pytest.approx(0.9, abs=0.001)
    assert (cost.ci_low, cost.ci_high) == (gain.ci_low, gain.ci_high)
    assert cost.shift is not None
    assert gain.shift == -cost.shift
    assert (cost.beyond_tolerance, gain.beyond_tolerance) == (False, True)


def test_a_change_of_exactly_the_tolerance_is_neither() -> None:
    """XP-01: on the edge the estimate is not beyond the tolerance, and not within it either."""
    same = compare(TEN, [value * 1.05 for value in TEN], tolerance=0.05)
    assert same.p_pass == 1.0
    assert not same.beyond_tolerance
    assert judge({"metric": same}).verdict is Verdict.INCONCLUSIVE


def test_missing_values_drop_their_block() -> None:
    """XP-01: a block counts only when both sides have it."""
    comparison = compare([1.0, None, 3.0, 4.0], [1.0, 2.0, None, 5.0], tolerance=0.05)
    assert comparison.n == 2
    assert (comparison.baseline_median, comparison.candidate_median) == (2.5, 3.0)


@pytest.mark.parametrize("blocks", [0, 3])
def test_no_complete_block(blocks: int) -> None:
    """XP-01: nothing is known, nothing is 0, nothing passes."""
    comparison = compare([None] * blocks, [1.0] * blocks, tolerance=0.05, higher_is_better=True)
    known = {name: value for name, value in comparison.to_dict().items() if value is not None}
    assert known == {"n": 0, "tolerance": 0.05, "higher_is_better": True, "absolute": False, "switched": False}
    assert not comparison.beyond_tolerance
    assert judge({"metric": comparison}).verdict is Verdict.INCONCLUSIVE


def test_an_interval_needs_six_blocks() -> None:
    """XP-01: below, it is unbounded."""
    five = compare(TEN[:5], TEN[:5], tolerance=0.05)
    six = compare(TEN[:6], TEN[:6], tolerance=0.05)
    assert (five.ci_low, five.ci_high) == (None, None)
    assert (six.ci_low, six.ci_high) == (1.0, 1.0)


@pytest.mark.parametrize(("n", "expected"), [(4, Verdict.INCONCLUSIVE), (5, Verdict.PASS), (10, Verdict.PASS)])
def test_no_failures_at_all(n: int, expected: Verdict) -> None:
    """XP-01: a fail rate of 0 against 0 passes with an absolute tolerance from 5 blocks on."""
    zeros = [0.0] * n
    comparison = compare(zeros, zeros, tolerance=0.01, absolute=True)
    assert (comparison.p_regression, comparison.p_pass) == (1.0, 2.0**-n)
    assert (comparison.ratio, comparison.difference) == (None, 0.0)
    assert judge({"fail_rate": comparison}).verdict is expected


def test_new_failures_regress() -> None:
    """XP-01: a fail rate from 0 to 5 % in every block is a regression."""
    candidate = [0.05 + i / 1000 for i in range(10)]
    comparison = compare([0.0] * 10, candidate, tolerance=0.01, absolute=True)
    assert comparison.difference == pytest.approx(0.0545, abs=0.001)
    assert judge({"fail_rate": comparison}).verdict is Verdict.REGRESSION


def test_a_zero_switches_to_differences() -> None:
    """XP-01: the tolerance becomes the fraction of the baseline's median."""
    comparison = compare([0.0, *TEN[1:]], TEN, tolerance=0.1)
    assert (comparison.switched, comparison.absolute, comparison.ratio) == (True, True, None)
    assert comparison.tolerance == pytest.approx(10.0)
    assert comparison.tau == comparison.tolerance


def test_a_zero_in_an_incomplete_block_does_not_switch() -> None:
    """XP-01: a dropped block has no say."""
    assert not compare([0.0, 1.0], [None, 1.0], tolerance=0.1).switched


def test_a_declared_absolute_tolerance_is_used_after_the_switch() -> None:
    """XP-01: with it, zeros on both sides pass; before the switch it is not used."""
    zeros = [0.0] * 10
    assert _verdict(baseline=zeros, candidate=zeros, tolerance=0.1, absolute_tolerance=0.5) is Verdict.PASS
    assert compare(TEN, TEN, tolerance=0.1, absolute_tolerance=0.5).tolerance == 0.1
    assert compare(TEN, TEN, tolerance=0.1, absolute=True, absolute_tolerance=0.5).tolerance == 0.5


def test_zeros_without_an_absolute_tolerance_cannot_pass() -> None:
    """XP-01: a fraction of nothing allows nothing, and the reason says what to declare."""
    zeros = [0.0] * 10
    comparison = compare(zeros, zeros, tolerance=0.1)
    assert (comparison.tolerance, comparison.p_pass, comparison.runs_needed) == (0.0, 1.0, None)
    assert "no absolute one is declared" in judge({"queue": comparison}).verdicts["queue"].reason


def test_a_tolerance_of_zero_asks_for_an_improvement() -> None:
    """XP-01: only what is shown to be better passes."""
    assert _verdict(baseline=TEN, candidate=TEN, tolerance=0.0) is Verdict.INCONCLUSIVE
    assert _verdict(baseline=TEN, candidate=_times(TEN, 0.9), tolerance=0.0) is Verdict.PASS


def test_negative_values_have_differences() -> None:
    """XP-01: allowed in absolute mode, refused as a ratio."""
    assert compare([-1.0], [-3.0], tolerance=0.1, absolute=True).difference == -2.0
    with pytest.raises(ValueError, match="has no ratio; compare it by an absolute_tolerance alone"):
        compare([-1.0], [3.0], tolerance=0.1)


def test_unequal_lengths() -> None:
    """XP-01: pairing by guess would be wrong; the message says what to give."""
    with pytest.raises(ValueError, match=r"baseline has 2 blocks and candidate 1.*None where it is missing"):
        compare([1.0, 2.0], [1.0], tolerance=0.05)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200, 1e-300])
def test_values_that_are_no_measurement(bad: float) -> None:
    """XP-01: refused, by side and block, even where the other side is missing."""
    with pytest.raises(ValueError, match=r"candidate value .* of block 1"):
        compare([1.0, None], [1.0, bad], tolerance=0.05)


@pytest.mark.parametrize("bad", [-0.01, math.nan, math.inf])
@pytest.mark.parametrize("name", ["tolerance", "absolute_tolerance"])
def test_tolerances_that_are_none(name: str, bad: float) -> None:
    """XP-01: a NaN tolerance would compare false with everything."""
    tolerances = {"tolerance": 0.05, "absolute_tolerance": 0.05, name: bad}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        compare([1.0], [1.0], **tolerances)  # type: ignore[arg-type]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_comparison_is_json(absolute: bool) -> None:
    """XP-01: strict JSON, no NaN."""
    comparison = compare(TEN, _times(TEN, 1e3), tolerance=0.05, absolute=absolute)
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["n"] == 10


def test_runs_needed() -> None:
    """XP-01: ceil(1.05 ((1.645 + .842) / r) ** 2 + 2.5) from tolerance and spread, or None."""
    candidate = [value * (1.1 if i % 2 else 0.9) for i, value in enumerate(TEN)]
    logs = [math.log(after / before) for before, after in zip(TEN, candidate, strict=True)]
    mean = sum(logs) / 10
    r = math.log(1.05) / math.sqrt(sum((value - mean) ** 2 for value in logs) / 9)
    assert compare(TEN, candidate, tolerance=0.05).runs_needed == math.ceil(1.05 * (2.487 / r) ** 2 + 2.5) > 10
    assert compare(TEN[:1], TEN[:1], tolerance=0.05).runs_needed is None
    assert compare(TEN, candidate, tolerance=0.0).runs_needed is None


def test_runs_needed_is_never_below_a_pass() -> None:
    """XP-01: without any spread the formula says 3, but a pass needs 5; beyond any number there is none."""
    assert compare(TEN, TEN, tolerance=0.05).runs_needed == 5
    assert compare(TEN, TEN[::-1], tolerance=1e-12).runs_needed is not None
    assert compare([1e150, 1e-150], [1e-150, 1e150], tolerance=1e-200).runs_needed is None
