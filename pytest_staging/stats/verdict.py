"""Verdicts per metric and for a campaign.

A pass and a regression are both claims that need evidence; whatever shows neither is inconclusive. Regressions are
corrected for the number of comparisons (S. Holm, "A simple sequentially rejective multiple test procedure", 1979), so
that a campaign without any change shows one with probability at most .05. Passes need no correction: the campaign
passes only when every counted metric does (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from pytest_staging.wording import number_of

from .comparison import Comparison
from .power import ALPHA, SMALLEST_PASS, detectable


class Verdict(str, Enum):
    """The answer for a metric or a campaign; never a bool, since not knowing is an answer."""

    PASS = "pass"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class MetricVerdict:
    """The verdict on one comparison, with its `reason` in plain words.

    `p_holm` is the adjusted p of a regression: None when the comparison is not `counted`, or was judged by the
    stopping rule, which uses nominal levels instead. `applicable` is false for a metric that cannot exist there.
    """

    verdict: Verdict
    p_holm: float | None
    reason: str
    counted: bool = True
    applicable: bool = True


@dataclass(frozen=True)
class Judgement:
    """The verdict of a campaign, those of its metrics by name, and notes on what its size cannot show."""

    verdict: Verdict
    verdicts: Mapping[str, MetricVerdict]
    reason: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The fields by name, ready for JSON."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "notes": list(self.notes),
            "verdicts": {name: {**vars(item), "verdict": item.verdict.value} for name, item in self.verdicts.items()},
        }


def judge(
    comparisons: Mapping[str, Comparison],
    *,
    advisory: Collection[str] = (),
    not_applicable: Collection[str] = (),
    planned: int | None = None,
) -> Judgement:
    """Judge all comparisons of a campaign at once: every metric, mode and candidate, by any unique name.

    Names in `advisory` get an uncorrected verdict that is not counted. Names in `not_applicable` stand for metrics
    that cannot exist there: shown, never a pass, not counted. Names that were not compared are ignored in both; that
    can only make the judgement stricter. `planned` is the planned number of blocks, for the notes; without it the
    largest number of complete blocks is taken. Raises ValueError when a metric called not applicable has values.
    """
    counted = counted_names(comparisons, advisory, not_applicable)
    adjusted = holm({name: comparisons[name].p_regression for name in counted})
    verdicts = {
        name: not_applicable_verdict()
        if name in not_applicable
        else metric_verdict(comparison, adjusted.get(name, comparison.p_regression), name in adjusted)
        for name, comparison in comparisons.items()
    }
    verdict, reason = campaign_verdict(verdicts)
    blocks = max((comparisons[name].n for name in counted), default=0) if planned is None else planned
    return Judgement(verdict, verdicts, reason, _notes(blocks, len(counted)))


def counted_names(
    comparisons: Mapping[str, Comparison], advisory: Collection[str], not_applicable: Collection[str]
) -> list[str]:
    """The names that decide the campaign's verdict, in order. Raises ValueError as `judge` does."""
    for name in not_applicable:
        if name in comparisons and comparisons[name].n:
            raise ValueError(f"{name} is called not applicable but has values in {comparisons[name].n} blocks")
    return [name for name in comparisons if name not in advisory and name not in not_applicable]


def holm(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """Holm's adjusted p-values. A missing p counts as 1: it stays in the number of comparisons."""
    known = {name: 1.0 if p is None else p for name, p in p_values.items()}
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, name in enumerate(sorted(known, key=known.__getitem__)):
        running = max(running, min(1.0, (len(known) - rank) * known[name]))
        adjusted[name] = running
    return adjusted


def metric_verdict(
    comparison: Comparison,
    p_worse: float | None,
    counted: bool,
    *,
    regression_level: float = ALPHA,
    pass_level: float = ALPHA,
    adjusted: bool = True,
) -> MetricVerdict:
    """Judge one comparison by its p of a regression, Holm-adjusted or not, against the two levels."""
    p_holm = p_worse if counted and adjusted else None
    p_pass = comparison.p_pass
    if p_worse is None or p_pass is None or not comparison.n:
        return MetricVerdict(Verdict.INCONCLUSIVE, p_holm, f"no complete block; a pass needs {SMALLEST_PASS}", counted)
    worse = p_worse <= regression_level
    allowed = _amount(comparison, comparison.tau)
    if worse and comparison.beyond_tolerance:
        reason = f"{_estimate(comparison)}, beyond the allowed {allowed} (p {p_worse:.3g})"
        return MetricVerdict(Verdict.REGRESSION, p_holm, reason, counted)
    if comparison.n >= SMALLEST_PASS and p_pass <= pass_level:
        reason = f"{_estimate(comparison)}; shown to be less than the allowed {allowed} (p {p_pass:.3g})"
        return MetricVerdict(Verdict.PASS, p_holm, reason, counted)
    return MetricVerdict(Verdict.INCONCLUSIVE, p_holm, _why_inconclusive(comparison, worse), counted)


def not_applicable_verdict() -> MetricVerdict:
    """The verdict on a metric that cannot exist there: shown, never a pass, not counted."""
    return MetricVerdict(Verdict.INCONCLUSIVE, None, "not applicable", counted=False, applicable=False)


def campaign_verdict(verdicts: Mapping[str, MetricVerdict]) -> tuple[Verdict, str]:
    """The campaign's verdict and reason: any regression, else all passed, else inconclusive. Nothing never passes."""
    counted = {name: item.verdict for name, item in verdicts.items() if item.counted}
    worse = [name for name, verdict in counted.items() if verdict is Verdict.REGRESSION]
    if worse:
        return Verdict.REGRESSION, f"worse beyond tolerance: {', '.join(worse)}"
    if not counted:
        return Verdict.INCONCLUSIVE, "no counted metric was compared"
    unclear = [name for name, verdict in counted.items() if verdict is not Verdict.PASS]
    if unclear:
        return Verdict.INCONCLUSIVE, f"neither passed nor regressed: {', '.join(unclear)}"
    return Verdict.PASS, f"within tolerance: all {number_of(len(counted), 'counted metric')}"


def _notes(blocks: int, comparisons: int) -> tuple[str, ...]:
    able = detectable(blocks, comparisons)
    notes = []
    if not able.can_pass:
        notes.append(f"{number_of(blocks, 'block')} cannot show a pass; that needs {able.pass_needs}")
    if comparisons and not able.can_regress:
        over = number_of(comparisons, "comparison")
        notes.append(
            f"{number_of(blocks, 'block')} cannot show a regression over {over}; that needs {able.regression_needs}"
        )
    return tuple(notes)


def _why_inconclusive(comparison: Comparison, worse: bool) -> str:
    if comparison.n < SMALLEST_PASS:
        return f"only {number_of(comparison.n, 'complete block')}; a pass needs {SMALLEST_PASS}"
    estimate = _estimate(comparison)
    allowed = _amount(comparison, comparison.tau)
    if comparison.switched and not comparison.tau:
        return f"{estimate}; zero values leave no relative tolerance, and no absolute one is declared"
    if worse:
        return f"{estimate}: a real change, but not shown to be less than the allowed {allowed}{_needed(comparison)}"
    if comparison.beyond_tolerance:
        return f"{estimate}, beyond the allowed {allowed}, but too uncertain for a regression{_needed(comparison)}"
    return f"{estimate}, but not shown to be less than the allowed {allowed}{_needed(comparison)}"


def _needed(comparison: Comparison) -> str:
    needed = comparison.runs_needed
    return "" if needed is None or needed <= comparison.n else f"; about {needed} blocks would be needed"


def _estimate(comparison: Comparison) -> str:
    shift = comparison.shift or 0.0
    if not shift:
        return "no change"
    return f"{'worse' if shift > 0.0 else 'better'} by {_amount(comparison, abs(shift))}"


def _amount(comparison: Comparison, size: float) -> str:
    """A non-negative size on the scale of `shift`, in words: a percentage, or absolute in the metric's unit."""
    return f"{size:.4g}" if comparison.absolute else f"{math.expm1(size) * 100.0:.3g} %"
