"""What a number of blocks can and cannot show."""

from __future__ import annotations

import math
from dataclasses import dataclass

ALPHA = 0.05
"""Error rate of a false pass of one metric, and of any false regression in a whole campaign."""

SMALLEST_PASS = 5
"""Fewest complete blocks for a pass: the exact one-sided p of n blocks is at least 2**-n, and 2**-5 < .05."""

# Normal quantiles for a one-sided 5 % test with 80 % power; the factor and the addend make up for ranks instead
# of values and for a small sample (asymptotic relative efficiency 3 / pi, fitted against the exact test).
_QUANTILES = 1.645 + 0.842
_RANK_FACTOR = 1.05
_SMALL_SAMPLE = 2.5


@dataclass(frozen=True)
class Detectable:
    """What `n` complete blocks can show for `comparisons` judged together."""

    n: int
    comparisons: int
    can_pass: bool
    can_regress: bool
    pass_needs: int
    regression_needs: int


def detectable(n: int, comparisons: int) -> Detectable:
    """Say whether n blocks can give a pass or a regression over that many counted comparisons.

    Pure arithmetic on the smallest exact p-value, for use before a campaign starts. Raises ValueError for a
    negative count.
    """
    if n < 0 or comparisons < 0:
        raise ValueError(f"blocks and comparisons must not be negative, got {n} and {comparisons}")
    needs = smallest_regression(comparisons)
    return Detectable(n, comparisons, n >= SMALLEST_PASS, comparisons > 0 and n >= needs, SMALLEST_PASS, needs)


def smallest_regression(comparisons: int) -> int:
    """Fewest blocks for a regression: ceil(log2(m / .05)), by whole numbers. No comparisons count as one."""
    return (max(comparisons, 1) * round(1.0 / ALPHA) - 1).bit_length()


def runs_needed(tau: float, deviation: float) -> int | None:
    """Blocks for an 80 % chance of a pass when nothing changed, or None when no number is enough.

    `tau` is the tolerance and `deviation` the standard deviation of the differences, both in the unit of the
    differences (log ratio, or the metric's own). Never fewer than a pass needs at all.
    """
    if tau <= 0.0:
        return None
    quotient = _QUANTILES * deviation / tau
    needed = _RANK_FACTOR * quotient * quotient + _SMALL_SAMPLE
    return max(SMALLEST_PASS, math.ceil(needed)) if math.isfinite(needed) else None
