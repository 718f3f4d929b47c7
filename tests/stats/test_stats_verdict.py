"""The rules of the verdicts: Holm, what counts, what a campaign needs, and what its size cannot show."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_staging.stats import Comparison, Verdict, compare, detectable, judge, smallest_regression
from pytest_staging.stats.verdict import holm

TEN = [100.0, 103.0, 98.0, 101.0, 99.0, 104.0, 97.0, 102.0, 105.0, 96.0]


def _compared(factor: float, spread: float = 0.001, n: int = 10) -> Comparison:
    candidate = [value * factor * (1.0 + spread * (i % 5 - 2)) for i, value in enumerate(TEN[:n])]
    return compare(TEN[:n], candidate, tolerance=0.05)


SAME = _compared(1.0)
WORSE = _compared(1.1)
NOISY = _compared(1.0, spread=0.2)
MISSING = compare([None] * 10, [None] * 10, tolerance=0.05)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Verdict.INCONCLUSIVE),
        ({"a": SAME}, Verdict.PASS),
        ({"a": SAME, "b": SAME}, Verdict.PASS),
        ({"a": WORSE}, Verdict.REGRESSION),
        ({"a": NOISY}, Verdict.INCONCLUSIVE),
        ({"a": MISSING}, Verdict.INCONCLUSIVE),
        ({"a": SAME, "b": MISSING}, Verdict.INCONCLUSIVE),
        ({"a": SAME, "b": NOISY}, Verdict.INCONCLUSIVE),
        ({"a": SAME, "b": WORSE}, Verdict.REGRESSION),
        ({"a": NOISY, "b": MISSING, "c": WORSE}, Verdict.REGRESSION),
    ],
)
def test_the_rule_of_the_campaign(given: dict[str, Comparison], expected: Verdict) -> None:
    """XP-01: any regression, else all passed, else inconclusive; nothing never passes."""
    assert judge(given).verdict is expected


def test_advisory_metrics_are_shown_but_not_counted() -> None:
    """XP-01: an advisory regression is seen and decides nothing."""
    judgement = judge({"a": SAME, "b": WORSE, "c": MISSING}, advisory=["b", "c", "unknown"])
    assert judgement.verdict is Verdict.PASS
    advisory = judgement.verdicts["b"]
    assert (advisory.verdict, advisory.counted, advisory.p_holm) == (Verdict.REGRESSION, False, None)


def test_only_advisory_metrics_are_no_pass() -> None:
    """XP-01: with nothing counted, nothing is known."""
    judgement = judge({"a": SAME}, advisory={"a"})
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, "no counted metric was compared")


def test_advisory_metrics_do_not_dilute_the_correction() -> None:
    """XP-01: Holm is over the counted comparisons only."""
    many = {f"extra{i}": SAME for i in range(100)}
    assert judge({"a": WORSE, **many}).verdict is not Verdict.REGRESSION
    assert judge({"a": WORSE, **many}, advisory=set(many)).verdict is Verdict.REGRESSION


def test_what_cannot_exist_is_shown_and_not_counted() -> None:
    """XP-01: a native image has no collector; that is neither a pass nor an obstacle, nor a comparison."""
    judgement = judge({"a": SAME, "gc": MISSING}, not_applicable=["gc"], advisory=["gc"])
    assert judgement.verdict is Verdict.PASS
    item = judgement.verdicts["gc"]
    assert (item.verdict, item.applicable, item.counted) == (Verdict.INCONCLUSIVE, False, False)
    assert item.reason == "not applicable"
    assert judgement.verdicts["a"].p_holm == SAME.p_regression


def test_only_what_cannot_exist_is_no_pass() -> None:
    """XP-01: a campaign without any applicable metric is inconclusive."""
    assert judge({"gc": MISSING}, not_applicable=["gc"]).verdict is Verdict.INCONCLUSIVE


def test_a_metric_with_values_cannot_be_called_not_applicable() -> None:
    """XP-01: no regression is hidden by a wrong mark."""
    with pytest.raises(ValueError, match="gc is called not applicable but has values in 10 blocks"):
        judge({"gc": WORSE}, not_applicable=["gc"])


@pytest.mark.parametrize("n", [1, 3, 4])
def test_too_few_blocks_say_so(n: int) -> None:
    """XP-01: the reason counts the blocks."""
    judgement = judge({"a": _compared(1.0, n=n)})
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.verdicts["a"].reason == f"only {n} complete block{'s' * (n > 1)}; a pass needs 5"


def test_a_pass_needs_five_blocks_whatever_its_p() -> None:
    """XP-01: the smallest N is kept even for a comparison that claims more."""
    assert judge({"a": replace(SAME, n=4)}).verdict is Verdict.INCONCLUSIVE


def test_a_significant_change_within_tolerance_is_no_regression() -> None:
    """XP-01: surely 3 % worse passes at 5 %."""
    small = _compared(1.03)
    assert small.p_regression is not None
    assert small.p_regression < 0.01
    assert judge({"a": small}).verdict is Verdict.PASS


def test_an_uncertain_change_says_what_is_needed() -> None:
    """XP-01: inconclusive names the blocks that would decide."""
    reason = judge({"a": NOISY}).verdicts["a"].reason
    assert f"about {NOISY.runs_needed} blocks would be needed" in reason


def test_a_large_but_uncertain_change() -> None:
    """XP-01: beyond the tolerance, but not shown."""
    uncertain = _compared(1.2, spread=0.3)
    judgement = judge({"a": uncertain, **{f"b{i}": SAME for i in range(20)}})
    assert "too uncertain for a regression" in judgement.verdicts["a"].reason


def test_holm_by_hand() -> None:
    """XP-01: the published step-down on four p-values."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )


def test_holm_keeps_missing_comparisons_in_the_number() -> None:
    """XP-01: a metric that failed to appear does not make the others easier to condemn."""
    assert holm({"a": 0.01, "b": None}) == {"a": 0.02, "b": 1.0}


def test_twelve_metrics_and_seven_blocks_cannot_regress() -> None:
    """XP-01: the smallest p of 7 blocks is 1/128, twelve times that is above .05; eight blocks are enough."""
    for n, expected in ((7, Verdict.INCONCLUSIVE), (8, Verdict.REGRESSION)):
        terrible = {f"metric{i}": _compared(3.0, n=n) for i in range(12)}
        judgement = judge(terrible)
        assert judgement.verdict is expected
        assert any("over 12 comparisons; that needs 8" in note for note in judgement.notes) is (n == 7)


def test_the_planned_blocks_decide_the_notes() -> None:
    """XP-01: dropped blocks are named per metric; the notes are about the plan."""
    assert judge({"a": SAME}, planned=4).notes == (
        "4 blocks cannot show a pass; that needs 5",
        "4 blocks cannot show a regression over 1 comparison; that needs 5",
    )
    assert judge({"a": SAME}).notes == ()


@pytest.mark.parametrize(
    ("m", "smallest"), [(0, 5), (1, 5), (2, 6), (3, 6), (6, 7), (7, 8), (12, 8), (13, 9), (51, 10)]
)
def test_the_smallest_number_of_blocks(m: int, smallest: int) -> None:
    """XP-01: ceil(log2(m / .05)), at least that of one comparison."""
    assert smallest_regression(m) == smallest
    assert detectable(smallest, m).can_regress is (m > 0)
    assert not detectable(smallest - 1, m).can_regress


def test_detectable() -> None:
    """XP-01: what a size can show, before anything runs."""
    able = detectable(7, 12)
    assert (able.can_pass, able.can_regress, able.pass_needs, able.regression_needs) == (True, False, 5, 8)
    assert not detectable(4, 1).can_pass
    with pytest.raises(ValueError, match="negative"):
        detectable(-1, 1)


def test_a_judgement_is_json() -> None:
    """XP-01: verdicts are written by value."""
    written = json.loads(json.dumps(judge({"a": SAME, "b": MISSING}).to_dict(), allow_nan=False))
    assert written["verdicts"]["a"]["verdict"] == "pass"
    assert written["verdict"] == str(Verdict.INCONCLUSIVE) == "inconclusive"
