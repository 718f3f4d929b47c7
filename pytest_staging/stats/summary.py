"""Summaries of plain numbers: what is printed next to a verdict, never what decides it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Median, mean and range of `n` values, all in the unit of the values."""

    median: float
    mean: float
    min: float
    max: float
    n: int


def summarise(values: Iterable[float]) -> Summary | None:
    """Summarise finite numbers; None when there are none, so that an absent metric never reads as 0.

    Raises ValueError for NaN and infinities.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    if not all(math.isfinite(value) for value in ordered):
        raise ValueError("cannot summarise values that are not finite numbers")
    low, high = ordered[0], ordered[-1]
    # The sum is exact before its one rounding, the quotient is not: keep the mean inside the range.
    mean = min(max(math.fsum(ordered) / len(ordered), low), high)
    return Summary(percentile(ordered, 50.0), mean, low, high, len(ordered))


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100) of values sorted in ascending order, in their unit.

    Linear interpolation between the closest ranks (Hyndman and Fan, type 7, the default of most numeric
    libraries): the value at position (n - 1) q / 100, counted from 0. Raises ValueError for no values, or
    a q outside 0 to 100.
    """
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    if not 0.0 <= q <= 100.0:
        raise ValueError(f"a percentile must be between 0 and 100, not {q!r}")
    position = (len(ordered) - 1) * q / 100.0
    index = min(int(position), len(ordered) - 1)
    fraction = position - index
    low, high = ordered[index], ordered[min(index + 1, len(ordered) - 1)]
    # Measured from the nearer end, so that the result stays monotone in q and hits both ends exactly.
    if fraction < 0.5:
        return low + (high - low) * fraction
    return high - (high - low) * (1.0 - fraction)
