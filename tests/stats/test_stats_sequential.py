"""The stopping rule: nominal levels, joint error rates and decisions."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats as oracle

from pytest_staging.stats import LOOKS, Comparison, Verdict, compare, decide, nominal_levels, stopping_levels
from pytest_staging.stats.signed_rank import p_greater

DRAW = np.random.default_rng(20)
BASE = [float(value) for value in DRAW.uniform(90.0, 110.0, size=30)]
NOISE = [float(value) for value in DRAW.normal(0.0, 1.0, size=30)]


def _compared(factor: float, n: int = 10, sd: float = 0.001) -> Comparison:
    candidate = [value * factor * math.exp(sd * noise) for value, noise in zip(BASE[:n], NOISE[:n], strict=True)]
    return compare(BASE[:n], candidate, tolerance=0.05)


SAME = _compared(1.0)
WORSE = _compared(1.2)
NOISY = _compared(1.0, sd=0.3)
MISSING = compare([None], [None], tolerance=0.05)


def test_the_published_levels() -> None:
    """XP-02: the nominal levels for twelve comparisons and for a pass, as printed."""
    levels = stopping_levels(12)
    assert levels.looks == LOOKS == (10, 15, 20, 30)
    assert [f"{level:.5f}" for level in levels.regression] == ["0.00187", "0.00112", "0.00106", "0.00144"]
    assert [f"{level:.4f}" for level in levels.passing] == ["0.0225", "0.0168", "0.0171", "0.0228"]


def test_the_levels_are_quick() -> None:
    """XP-02: computed anew, at the cost of some million multiplications: well under a second."""

    def cost_s(what: Callable[[], object]) -> float:
        before_s = time.process_time()
        what()
        return time.process_time() - before_s

    nominal_levels.cache_clear()
    assert cost_s(lambda: stopping_levels(37)) < 20 * cost_s(lambda: sum(one * one for one in range(1_000_000)))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12, 0.05 / 200])
def test_the_joint_error_rate_is_the_spending(alpha: float) -> None:
    """XP-02: scipy's multivariate normal finds what the boundaries spend: at most alpha, and nearly all of it."""
    bounds = [oracle.norm.isf(level) for level in nominal_levels(alpha)]
    for count in range(1, len(LOOKS) + 1):
        looks = LOOKS[:count]
        correlation = [[math.sqrt(min(a, b) / max(a, b)) for b in looks] for a in looks]
        joint = oracle.multivariate_normal(cov=correlation, abseps=1e-8, maxpts=2_000_000)
        spent = 1.0 - joint.cdf(bounds[:count])
        allowed = alpha * math.log1p((math.e - 1.0) * looks[-1] / LOOKS[-1])
        assert 0.97 * allowed - 1e-6 <= spent <= allowed + 1e-6


def test_one_look_spends_everything() -> None:
    """XP-02: a single look is the plain test, a little on the strict side."""
    assert 0.0495 < nominal_levels(0.05, (10,))[0] <= 0.05


def test_more_comparisons_ask_for_more() -> None:
    """XP-02: the levels fall as the comparisons grow; no comparison counts as one."""
    levels = [stopping_levels(m).regression for m in (1, 2, 12, 100, 5000)]
    assert all(fewer > more for a, b in itertools.pairwise(levels) for fewer, more in zip(a, b, strict=True))
    assert stopping_levels(0).regression == stopping_levels(1).regression == stopping_levels(1).passing


@pytest.mark.parametrize("looks", [(), (0, 5), (10, 10), (20, 10)])
def test_looks_must_rise(looks: tuple[int, ...]) -> None:
    """XP-02: refused with the looks in the message."""
    with pytest.raises(ValueError, match="rising order"):
        nominal_levels(0.05, looks)


@pytest.mark.parametrize("alpha", [0.0, -0.1, 0.6, math.nan])
def test_alpha_must_be_a_level(alpha: float) -> None:
    """XP-02: refused."""
    with pytest.raises(ValueError, match="alpha"):
        nominal_levels(alpha)


@cache
def _p_at_every_size(repetitions: int = 4000) -> np.ndarray:
    """p-values of normal data without a change, after 5 to 30 blocks."""
    rows = np.random.default_rng(2).normal(size=(repetitions, 30))
    return np.array([[p_greater(row[:n]) for n in range(5, 31)] for row in rows.tolist()])


def test_looking_often_without_correction_is_the_mistake_avoided() -> None:
    """XP-02: testing at .05 after every run from 5 to 30 condemns .179 of unchanged versions."""
    assert (_p_at_every_size() <= 0.05).any(axis=1).mean() == pytest.approx(0.179, abs=0.02)


def test_the_levels_hold_the_error_rate() -> None:
    """XP-02: at the four looks with nominal levels at most .05 are, for exact p-values too."""
    at_looks = _p_at_every_size()[:, [look - 5 for look in LOOKS]]
    rate = (at_looks <= np.array(nominal_levels(0.05))).any(axis=1).mean()
    assert 0.035 <= rate <= 0.05 + 0.007


@pytest.mark.parametrize(
    ("given", "stop", "verdict"),
    [
        ({"a": SAME, "b": SAME}, True, Verdict.PASS),
        ({"a": SAME, "b": NOISY}, False, Verdict.INCONCLUSIVE),
        ({"a": SAME, "b": MISSING}, False, Verdict.INCONCLUSIVE),
        ({"a": NOISY, "b": WORSE}, True, Verdict.REGRESSION),
        ({}, False, Verdict.INCONCLUSIVE),
    ],
)
def test_the_first_look(given: dict[str, Comparison], stop: bool, verdict: Verdict) -> None:
    """XP-02: stop for a regression or when all passed, else go on."""
    decision = decide(given, 0)
    assert (decision.stop, decision.verdict, decision.look) == (stop, verdict, 10)
    assert decision.next_look == (None if stop else 15)
    assert all(item.p_holm is None for item in decision.judgement.verdicts.values())


@pytest.mark.parametrize(("look", "following"), [(0, 15), (1, 20), (2, 30), (3, None)])
def test_the_last_look_stops(look: int, following: int | None) -> None:
    """XP-02: what is not known after the last look stays inconclusive."""
    decision = decide({"a": NOISY}, look)
    assert (decision.stop, decision.next_look) == (look == 3, following)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reason.startswith("the last look is reached") is (look == 3)


def test_the_nominal_levels_decide() -> None:
    """XP-02: a p between the nominal level and .05 goes on, at the level it stops."""
    level = nominal_levels(0.05)[0]
    for p_pass, expected in ((0.04, Verdict.INCONCLUSIVE), (level, Verdict.PASS)):
        assert decide({"a": _with(SAME, p_pass=p_pass)}, 0).verdict is expected
    strict = stopping_levels(12).regression[0]
    for p_worse, expected in ((0.002, Verdict.INCONCLUSIVE), (strict, Verdict.REGRESSION)):
        assert decide({"a": _with(WORSE, p_regression=p_worse)}, 0, 12).verdict is expected


def _with(comparison: Comparison, **changes: float) -> Comparison:
    return Comparison(**{**vars(comparison), **changes})


def test_a_significant_change_within_tolerance_goes_on() -> None:
    """XP-02: a regression must be beyond the tolerance at every look."""
    assert not decide({"a": _compared(1.03), "b": NOISY}, 0).stop


def test_advisory_and_not_applicable_stop_nothing() -> None:
    """XP-02: shown, not counted; the advisory one is judged without the correction."""
    decision = decide({"a": SAME, "b": WORSE, "gc": MISSING}, 0, advisory=["b"], not_applicable=["gc"])
    assert (decision.stop, decision.verdict) == (True, Verdict.PASS)
    assert decision.judgement.verdicts["b"].verdict is Verdict.REGRESSION
    assert not decision.judgement.verdicts["gc"].applicable


def test_advisory_metrics_are_judged_at_the_level_of_one() -> None:
    """XP-02: a p that is not enough among twelve comparisons is enough for a metric shown alone."""
    unsure = _with(WORSE, p_regression=0.01)
    assert decide({"a": unsure}, 0, 12).judgement.verdicts["a"].verdict is Verdict.INCONCLUSIVE
    shown = decide({"a": unsure}, 0, 12, advisory=["a"])
    assert shown.judgement.verdicts["a"].verdict is Verdict.REGRESSION
    assert shown.verdict is Verdict.INCONCLUSIVE


def test_futility_is_optional_and_never_a_verdict() -> None:
    """XP-02: when more blocks are needed than there will be, it may stop without an answer."""
    assert NOISY.runs_needed is not None
    assert NOISY.runs_needed > 30
    assert not decide({"a": NOISY}, 0).stop
    decision = decide({"a": NOISY, "b": SAME}, 0, futility=True)
    assert (decision.stop, decision.futile, decision.verdict) == (True, True, Verdict.INCONCLUSIVE)
    assert decision.reason == "more than 30 blocks would be needed: a"
    assert decide({"a": SAME}, 0, futility=True).verdict is Verdict.PASS
    assert not decide({"a": SAME, "b": MISSING}, 0, futility=True).stop


@pytest.mark.parametrize("look", [-1, 4])
def test_there_is_no_such_look(look: int) -> None:
    """XP-02: refused rather than judged at another look's level."""
    with pytest.raises(ValueError, match="not one of the 4 looks"):
        decide({"a": SAME}, look)


def test_the_plan_must_cover_what_is_counted() -> None:
    """XP-02: more comparisons than planned would overspend."""
    with pytest.raises(ValueError, match="2 comparisons are counted, but only 1"):
        decide({"a": SAME, "b": SAME}, 0, 1)
    with pytest.raises(ValueError, match="negative"):
        stopping_levels(-1)
