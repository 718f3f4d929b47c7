"""The Wilcoxon signed-rank test with its exact conditional null, and the Hodges-Lehmann estimate.

Sources: F. Wilcoxon, "Individual comparisons by ranking methods" (1945); J. L. Hodges and E. L. Lehmann,
"Estimates of location based on rank tests" (1963); the interval by J. W. Tukey's Walsh averages, as in
M. Hollander and D. A. Wolfe, "Nonparametric Statistical Methods", chapter 3.

Zero differences are dropped and ties get midranks. Given the magnitudes, every pattern of signs is equally
likely under the null, so the null is exact with ties too. Above EXACT_LIMIT values its cost would grow with the
square of their number; the normal approximation, with the variance of the very midranks and a correction for
continuity, then differs from it by less than .0005.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import overload

EXACT_LIMIT = 100
"""Largest number of values for which the null is exact and the Walsh averages are listed."""

_UNITS = 10**12


def p_greater(differences: Sequence[float]) -> float:
    """One-sided exact p-value for "the differences are centred above zero", from 2**-n to 1.

    Takes any finite differences, in any unit and order. 1.0 when none of them is other than zero.
    """
    nonzero = [value for value in differences if value]
    ranks = _doubled_midranks([abs(value) for value in nonzero])
    statistic = sum(rank for rank, value in zip(ranks, nonzero, strict=True) if value > 0)
    return _upper_tail(tuple(sorted(ranks)), statistic)


def p_two_sided(differences: Sequence[float]) -> float:
    """Two-sided exact p-value: twice the smaller one-sided one, at most 1."""
    return min(1.0, 2.0 * min(p_greater(differences), p_greater([-value for value in differences])))


def walsh_averages(values: Sequence[float]) -> Sequence[float]:
    """The sorted averages (v_i + v_j) / 2 for all i <= j: n (n + 1) / 2 numbers in the unit of the values."""
    if len(values) > EXACT_LIMIT:
        return WalshAverages(values)
    return sorted([(first + second) / 2.0 for i, first in enumerate(values) for second in values[i:]])


class WalshAverages(Sequence[float]):
    """The same sequence without listing it: an element is found by bisection, in about 50 passes over the values.

    The values are taken in steps of 1e-12, the precision that differences are rounded to, so an element is exact.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self._steps = sorted(round(value * _UNITS) for value in values)

    def __len__(self) -> int:
        return len(self._steps) * (len(self._steps) + 1) // 2

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...

    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        rank = index + len(self) if index < 0 else index
        if not 0 <= rank < len(self):
            raise IndexError(index)
        low, high = 2 * self._steps[0], 2 * self._steps[-1]
        while low < high:
            middle = (low + high) // 2
            if self._count(middle) > rank:
                high = middle
            else:
                low = middle + 1
        return low / 2 / _UNITS

    def _count(self, limit: int) -> int:
        """How many sums of two values, in steps, are at most `limit`."""
        count, right = 0, len(self._steps) - 1
        for left, value in enumerate(self._steps):
            while right >= left and value + self._steps[right] > limit:
                right -= 1
            if right < left:
                break
            count += right - left + 1
        return count


def hodges_lehmann(walsh: Sequence[float]) -> float:
    """The Hodges-Lehmann estimate: the median of the sorted Walsh averages. Raises ValueError for none."""
    if not walsh:
        raise ValueError("the Hodges-Lehmann estimate needs at least one value")
    middle = len(walsh) // 2
    return walsh[middle] if len(walsh) % 2 else (walsh[middle - 1] + walsh[middle]) / 2.0


def interval(walsh: Sequence[float], n: int, tail: float = 0.025) -> tuple[float | None, float | None]:
    """Confidence limits from the sorted Walsh averages of `n` values, at most `tail` outside on each side.

    `tail` .025 gives the two-sided 95 % interval, .05 the two one-sided 95 % bounds. A limit that n values
    cannot give is None: the interval is unbounded.
    """
    k = critical_rank(n, tail)
    return (walsh[k - 1], walsh[-k]) if k else (None, None)


@lru_cache(maxsize=512)
def critical_rank(n: int, tail: float) -> int:
    """The largest k with P(W+ <= k - 1) <= tail for n values without ties, or 0 when there is none."""
    if n > EXACT_LIMIT:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(n * (n + 1) / 4 + NormalDist().inv_cdf(tail) * deviation + 0.5)
    ranks = tuple(range(2, 2 * n + 1, 2))
    total = n * (n + 1) // 2
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        # By symmetry P(W+ <= k) is P(W+ >= total - k); ranks are doubled.
        if _upper_tail(ranks, 2 * (total - middle)) <= tail:
            low = middle + 1
        else:
            high = middle
    return low


def _doubled_midranks(magnitudes: Sequence[float]) -> list[int]:
    """Twice the midrank of each magnitude: tied values share the mean of their ranks, which may be a half."""
    order = sorted(range(len(magnitudes)), key=magnitudes.__getitem__)
    ranks = [0] * len(order)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and magnitudes[order[end]] == magnitudes[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = start + 1 + end
        start = end
    return ranks


@lru_cache(maxsize=4096)
def _upper_tail(ranks: tuple[int, ...], statistic: int) -> float:
    """P(the sum of a random subset of the doubled ranks >= statistic), exactly, then rounded once."""
    size = len(ranks)
    if not size:
        return 1.0
    if size > EXACT_LIMIT:
        deviation = math.sqrt(sum(rank * rank for rank in ranks)) / 2
        # By erfc, because 1 - cdf would round a clear result to a p of 0.
        return math.erfc((statistic - 1 - sum(ranks) / 2) / deviation / math.sqrt(2)) / 2
    width = size + 1
    tail = _sign_counts(ranks) >> (statistic * width)
    # The digits of `tail` in base 2**width are the counts; their sum is at most 2**size, below base - 1,
    # so the remainder by base - 1 (casting out nines) is that sum.
    return int(tail % ((1 << width) - 1)) / int(1 << size)


@lru_cache(maxsize=256)
def _sign_counts(ranks: tuple[int, ...]) -> int:
    """How many of the 2**n sign patterns give each sum of positive ranks, packed into one integer.

    The dynamic programme multiplies the polynomials (1 + x**rank). Kept as digits in base 2**(n + 1), one
    multiplication is a shift and an addition; lists of counts were a hundred times slower at 30 blocks.
    """
    width = len(ranks) + 1
    counts = 1
    for rank in ranks:
        counts += counts << (rank * width)
    return counts
