"""When a service that was just started has become steady: a rule over successive windows of latencies.

Of each window the level is the geometric mean of its latencies, which a change of the mix of functions moves least.
Over the last `windows` levels:

- the drift (Theil's median slope times the number of steps, as a share of their median) is at most `tolerance`, and
- their median differs from that of the `windows` before by at most `tolerance`.

The first sees a warm-up that is under way, the second one that is so slow that few windows do not show it. Medians of
slopes and of windows are not moved by a single garbage collection. Source of the slope: H. Theil, 1950.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SteadyRule:
    """`window_s` is in seconds, `tolerance` a share (0.1 is 10 %)."""

    window_s: float = 1.0
    windows: int = 5
    tolerance: float = 0.1


def level_of(latencies_ms: Sequence[float]) -> float | None:
    """Of one window; None without a request."""
    positive = [value for value in latencies_ms if value > 0]
    return math.exp(statistics.fmean(map(math.log, positive))) if positive else None


def is_steady(levels_ms: Sequence[float | None], rule: SteadyRule) -> bool:
    """Whether the windows so far, in their order, end steadily; None is a window without a request."""
    last, before = levels_ms[-rule.windows :], levels_ms[-2 * rule.windows : -rule.windows]
    recent = [value for value in last if value is not None]
    earlier = [value for value in before if value is not None]
    if len(recent) < rule.windows or len(earlier) < rule.windows:
        return False
    level = statistics.median(recent)
    step = abs(level - statistics.median(earlier))
    return abs(_drift(recent)) <= rule.tolerance * level and step <= rule.tolerance * level


def steady_after(levels_ms: Sequence[float | None], rule: SteadyRule) -> int | None:
    """The number of windows after which the rule first held, or None."""
    ends = range(2 * rule.windows, len(levels_ms) + 1)
    return next((end for end in ends if is_steady(levels_ms[:end], rule)), None)


def _drift(values: Sequence[float]) -> float:
    """Change from the first to the last value along the median slope."""
    pairs = itertools.combinations(enumerate(values), 2)
    slopes = [(later - earlier) / (j - i) for (i, earlier), (j, later) in pairs]
    return statistics.median(slopes) * (len(values) - 1)
