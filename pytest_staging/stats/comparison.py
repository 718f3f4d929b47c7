"""One metric of a baseline and a candidate, compared block by block."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from . import power, signed_rank

_DECIMALS = 12
_LARGEST = 1e150
_SMALLEST = 1e-150


@dataclass(frozen=True)
class Comparison:
    """What the blocks say about one metric.

    `ratio` is always candidate / baseline as measured, whichever direction is better; in absolute mode it is
    None and `difference` is candidate - baseline in the metric's unit. `ci_low` and `ci_high` are the two-sided
    95 % limits of whichever is given, each None when unbounded (fewer than 6 blocks).

    `shift` is the same estimate turned so that positive means worse: a log ratio, or an absolute difference.
    `p_regression` is the one-sided exact p for "worse at all", `p_pass` for "not worse by the tolerance or
    more". `tolerance` is the one used: a fraction, or absolute in the metric's unit when `absolute` is true.
    `switched` says that a zero value turned a ratio metric into an absolute one. `runs_needed` is the number of
    blocks for an 80 % chance of a pass if nothing changed. With `n` of 0 every estimate and p is None.
    """

    ratio: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_two_sided: float | None
    p_regression: float | None
    p_pass: float | None
    n: int
    runs_needed: int | None
    tolerance: float
    higher_is_better: bool
    absolute: bool
    switched: bool
    baseline_median: float | None
    candidate_median: float | None
    shift: float | None

    @property
    def tau(self) -> float:
        """The tolerance on the scale of `shift`: ln(1 + tolerance), or the absolute tolerance."""
        return _tau(self.tolerance, self.absolute)

    @property
    def beyond_tolerance(self) -> bool:
        """Whether the estimate is worse than the tolerance allows; false without data."""
        return self.shift is not None and self.shift > self.tau

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """The fields by name, ready for JSON: no NaN, no infinity, None for what is not known."""
        return asdict(self)


def compare(
    baseline: Sequence[float | None],
    candidate: Sequence[float | None],
    *,
    tolerance: float,
    higher_is_better: bool = False,
    absolute: bool = False,
    absolute_tolerance: float | None = None,
) -> Comparison:
    """Compare two equally long series, value i of both from block i, in the same unit.

    None on either side drops the block. By default ratios are compared and `tolerance` is a fraction: .05 allows
    a cost to become 1.05 times as large, and a higher-is-better metric to fall to 1 / 1.05. With `absolute`,
    plain differences are compared and `tolerance` is in the metric's unit.

    A ratio metric with a zero in any complete block is compared absolutely (`switched`). The tolerance is then
    `absolute_tolerance` in the metric's unit, or, when that is not given, the fraction of the baseline's median.
    If that median is 0 too, nothing may get worse and a pass needs an improvement, so a metric that can be zero
    should have an absolute tolerance. A given `absolute_tolerance` also wins in absolute mode. A tolerance of 0
    is allowed and means the same: only an improvement passes.

    Method: Wilcoxon signed-rank test with exact conditional null on the differences, rounded to 12 decimals so
    that equal differences tie; Hodges-Lehmann estimate with its exact interval.

    Raises ValueError for series of unequal length, values or tolerances that are no plausible finite numbers,
    negative tolerances, and negative values of a ratio metric.
    """
    _check_tolerance("tolerance", tolerance)
    if absolute_tolerance is not None:
        _check_tolerance("absolute_tolerance", absolute_tolerance)
    before, after = _complete_pairs(baseline, candidate, absolute)
    switched = not absolute and (0.0 in before or 0.0 in after)
    absolute = absolute or switched
    if absolute and absolute_tolerance is not None:
        tolerance = absolute_tolerance
    elif switched:
        tolerance *= statistics.median(before)
    terms = _Terms(tolerance, higher_is_better, absolute, switched)
    return _compared(before, after, terms) if before else _empty(terms)


@dataclass(frozen=True)
class _Terms:
    """How the differences are taken and what they may be, after any switch to absolute ones."""

    tolerance: float
    higher_is_better: bool
    absolute: bool
    switched: bool


def _compared(before: list[float], after: list[float], terms: _Terms) -> Comparison:
    measured = _differences(before, after, terms.absolute)
    worse = [-value for value in measured] if terms.higher_is_better else measured
    walsh = signed_rank.walsh_averages(measured)
    estimate = signed_rank.hodges_lehmann(walsh)
    low, high = signed_rank.interval(walsh, len(measured))
    tau = _tau(terms.tolerance, terms.absolute)
    deviation = _deviation(measured)
    return Comparison(
        ratio=None if terms.absolute else math.exp(estimate),
        difference=estimate if terms.absolute else None,
        ci_low=_limit(low, terms.absolute),
        ci_high=_limit(high, terms.absolute),
        p_two_sided=signed_rank.p_two_sided(measured),
        p_regression=signed_rank.p_greater(worse),
        p_pass=signed_rank.p_greater([round(tau - value, _DECIMALS) for value in worse]),
        n=len(measured),
        runs_needed=None if deviation is None else power.runs_needed(tau, deviation),
        baseline_median=statistics.median(before),
        candidate_median=statistics.median(after),
        shift=-estimate if terms.higher_is_better else estimate,
        **vars(terms),
    )


def _empty(terms: _Terms) -> Comparison:
    """No complete block: nothing is known, and nothing is 0."""
    return Comparison(
        ratio=None,
        difference=None,
        ci_low=None,
        ci_high=None,
        p_two_sided=None,
        p_regression=None,
        p_pass=None,
        n=0,
        runs_needed=None,
        baseline_median=None,
        candidate_median=None,
        shift=None,
        **vars(terms),
    )


def _deviation(values: list[float]) -> float | None:
    """The sample standard deviation; statistics.stdev, exact in fractions, took a third of a comparison's time."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def unusable_reason(value: float, absolute: bool) -> str | None:
    """Why `compare` refuses a value, with these words to put after it; None when it takes it."""
    # The bounds keep every quotient, difference and exponential finite.
    if value != 0.0 and not _SMALLEST <= abs(value) <= _LARGEST:
        return "is not a finite number in the measurable range"
    return "has no ratio; compare it by an absolute_tolerance alone" if value < 0.0 and not absolute else None


def _complete_pairs(
    baseline: Sequence[float | None], candidate: Sequence[float | None], absolute: bool
) -> tuple[list[float], list[float]]:
    if len(baseline) != len(candidate):
        raise ValueError(
            f"baseline has {len(baseline)} blocks and candidate {len(candidate)}; give one value per block to each, "
            "None where it is missing"
        )
    before: list[float] = []
    after: list[float] = []
    for block, (first, second) in enumerate(zip(baseline, candidate, strict=True)):
        checked = _checked("baseline", block, first, absolute), _checked("candidate", block, second, absolute)
        if checked[0] is not None and checked[1] is not None:
            before.append(checked[0])
            after.append(checked[1])
    return before, after


def _checked(side: str, block: int, value: float | None, absolute: bool) -> float | None:
    """The value as a float; refused even in an incomplete block, for it shows a parser's mistake."""
    if value is None:
        return None
    if why := unusable_reason(value, absolute):
        raise ValueError(f"{side} value {value!r} of block {block} {why}")
    return float(value)


def _check_tolerance(name: str, value: float) -> None:
    if not 0.0 <= value <= _LARGEST:
        raise ValueError(f"{name} must be a finite number of at least 0, not {value!r}")


def _differences(before: list[float], after: list[float], absolute: bool) -> list[float]:
    pairs = zip(before, after, strict=True)
    if absolute:
        return [round(second - first, _DECIMALS) for first, second in pairs]
    return [round(math.log(second / first), _DECIMALS) for first, second in pairs]


def _tau(tolerance: float, absolute: bool) -> float:
    # Rounded like the differences, so that a change of exactly the tolerance is neither within nor beyond it.
    return round(tolerance if absolute else math.log1p(tolerance), _DECIMALS)


def _limit(value: float | None, absolute: bool) -> float | None:
    return value if value is None or absolute else math.exp(value)
