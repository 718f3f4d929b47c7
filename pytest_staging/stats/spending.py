"""Nominal levels for looking at growing data more than once.

Source: K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries for clinical trials" (1983), with the
spending function that resembles S. J. Pocock's constant boundary; the boundaries by the recursion of P. Armitage,
C. K. McPherson and B. C. Rowe, "Repeated significance tests on accumulating data" (1969).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

LOOKS = (10, 15, 20, 30)
"""Blocks at which a campaign of `--runs auto` is judged."""

# The sum of the data is a Brownian walk with variance 1 per five blocks. Boundaries lie on a lattice of this step,
# each rounded up so that the mass of its whole lattice cell is within the budget: levels err on the strict side, by
# one or two per cent of themselves.
_BLOCKS_PER_UNIT = 5.0
_STEP = 0.005
# Simpson's rule over the continuation region, cut off where only 1e-9 of the walks are.
_INTERVALS = 240
_CUT_OFF = 6.0
_FARTHEST = 30.0

_Walk = list[tuple[float, float]]


@lru_cache(maxsize=256)
def nominal_levels(alpha: float, looks: tuple[int, ...] = LOOKS) -> tuple[float, ...]:
    """One-sided nominal p-value levels, one per look, whose joint error rate is at most alpha.

    At a look with fraction t of the last look's blocks, alpha ln(1 + (e - 1) t) has been spent. Raises ValueError
    unless 0 < alpha <= .5 and the looks are positive and rising.
    """
    _check(alpha, looks)
    walk: _Walk = [(0.0, 1.0)]
    levels: list[float] = []
    before, spent = 0.0, 0.0
    for look in looks:
        variance = look / _BLOCKS_PER_UNIT
        scale = math.sqrt(variance - before)
        budget = alpha * math.log1p((math.e - 1.0) * look / looks[-1])
        cell = _boundary_cell(walk, scale, budget - spent, _FARTHEST * math.sqrt(variance))
        levels.append(_normal_tail(cell * _STEP / math.sqrt(variance)))
        walk = _continue(walk, scale, -_CUT_OFF * math.sqrt(variance), (cell - 0.5) * _STEP)
        before, spent = variance, budget
    return tuple(levels)


def _check(alpha: float, looks: Sequence[int]) -> None:
    if not 0.0 < alpha <= 0.5:
        raise ValueError(f"alpha must be above 0 and at most .5, not {alpha!r}")
    if not looks or looks[0] < 1 or any(later <= earlier for earlier, later in pairwise(looks)):
        raise ValueError(f"looks must be positive numbers of blocks in rising order, not {tuple(looks)!r}")


def _boundary_cell(walk: _Walk, scale: float, budget: float, farthest: float) -> int:
    """The lowest lattice cell at or above which the next step ends with probability within the budget."""
    low, high = 0, math.ceil(farthest / _STEP)
    while low < high:
        middle = (low + high) // 2
        if _crossing(walk, scale, (middle - 0.5) * _STEP) <= budget:
            high = middle
        else:
            low = middle + 1
    return low


def _crossing(walk: _Walk, scale: float, edge: float) -> float:
    """P(a walk that has not stopped yet is beyond the edge after its next step)."""
    return math.fsum(mass * _normal_tail((edge - place) / scale) for place, mass in walk)


def _continue(walk: _Walk, scale: float, low: float, high: float) -> _Walk:
    """The walks that stay below `high`, as Simpson nodes: places with the probability mass they stand for."""
    width = (high - low) / _INTERVALS
    norm = width / 3.0 / scale / math.sqrt(2.0 * math.pi)
    nodes: _Walk = []
    for i in range(_INTERVALS + 1):
        place = low + i * width
        weight = 1.0 if i in (0, _INTERVALS) else 4.0 if i % 2 else 2.0
        density = sum(mass * math.exp(-0.5 * ((place - start) / scale) ** 2) for start, mass in walk)
        nodes.append((place, weight * norm * density))
    return nodes


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2.0))
