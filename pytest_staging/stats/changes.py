"""Steps and drifts in a metric over campaigns: whether there is any by permutation, where it is by ruptures' PELT.

ruptures finds the best places for any penalty, also in pure noise; so a series is only searched when its order matters
by a permutation test. Needs the extra `report`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pytest_staging.model.history import Change

FEWEST = 10
"""Points below which no arrangement can be unusual enough for `ALPHA`."""
ALPHA = 0.02
PERMUTATIONS = 1999
STEP_SIZE = 3  # points that a level must have; a step is seen once three campaigns are beyond it
DRIFT_SIZE = 6
STRONG = 6.0  # of the criterion: by so much must lines be better than levels, which are the simpler story


def find_changes(values: Sequence[float]) -> list[Change]:
    """Steps or drifts in `values`, in the order of time; places count from 0. Equal values give none.

    Positive values are compared as ratios, others as differences. A series in which nothing changes is flagged with a
    probability of at most `ALPHA`. The same values give the same changes. Raises ImportError without the extra.
    """
    import numpy as np

    if len(values) < FEWEST:
        return []
    relative = bool(min(values) > 0)
    signal = np.log(np.asarray(values, float)) if relative else np.asarray(values, float)
    if float(np.ptp(signal)) < 1e-12 or _p_of_order(signal) > ALPHA:
        return []
    return _located(signal, relative)


def _p_of_order(signal: Any) -> float:
    """How often a shuffled series has as clear a step, or neighbours as alike: the smaller of both p, doubled."""
    import numpy as np

    shuffled = np.random.default_rng(20260101).permuted(np.tile(signal, (PERMUTATIONS, 1)), axis=1)
    found = []
    for statistic in (_step_size, _likeness):
        own, others = statistic(signal[None, :])[0], statistic(shuffled)
        found.append((1 + int((others >= own - 1e-12).sum())) / (PERMUTATIONS + 1))
    return 2 * min(found)


def _step_size(series: Any) -> Any:
    """Of each row: the largest standardised difference between what lies before and after one place."""
    import numpy as np

    count = series.shape[1]
    centred = series - series.mean(axis=1, keepdims=True)
    before = np.arange(STEP_SIZE, count - STEP_SIZE + 1)
    sums = np.cumsum(centred, axis=1)[:, before - 1]
    return np.abs(sums / np.sqrt(before * (count - before) / count)).max(axis=1)


def _likeness(series: Any) -> Any:
    """Of each row: how like its neighbours each value is (von Neumann); tells a level that comes back, and a drift."""
    import numpy as np

    return -(np.diff(series, axis=1) ** 2).sum(axis=1)


def _located(signal: Any, relative: bool) -> list[Change]:
    """The better of two descriptions by the Bayesian information criterion: levels, or straight lines."""
    import numpy as np

    levels, lines = _fit(signal, "l2", STEP_SIZE, 2), _fit(signal, "linear", DRIFT_SIZE, 3)
    if levels[0] <= lines[0] + STRONG:
        means = [float(signal[start:end].mean()) for start, end in levels[1]]
        return [
            Change(kind="step", start=end - 1, end=end, amount=_amount(after - before, relative), relative=relative)
            for (_, end), before, after in zip(levels[1], means, means[1:], strict=False)
        ]
    found: list[Change] = []
    last: float | None = None
    spread = math.sqrt(max(_rest(signal, lines[1], 1) / len(signal), 1e-300))
    for start, end in lines[1]:
        slope, first = np.polyfit(np.arange(end - start), signal[start:end], 1)
        if last is not None and abs(first - last) > 3 * spread:
            amount = _amount(float(first) - last, relative)
            found.append(Change(kind="step", start=start - 1, end=start, amount=amount, relative=relative))
        grown = float(slope) * (end - start - 1)
        last = float(first) + grown
        if abs(grown) > 3 * spread:
            amount = _amount(grown, relative)
            found.append(Change(kind="drift", start=start, end=end - 1, amount=amount, relative=relative))
    return found


def _fit(signal: Any, model: str, smallest: int, weight: int) -> tuple[float, list[tuple[int, int]]]:
    """(criterion, segments) of ruptures' best segmentation; each segment and its place spend `weight` numbers."""
    import numpy as np
    import ruptures

    count = len(signal)
    columns = signal[:, None] if model == "l2" else np.column_stack([signal, np.arange(count), np.ones(count)])
    # From one point to the next: a step or drift hardly touches the middle of these differences.
    noise = float(np.median(np.abs(np.diff(signal)))) / 0.6745 / math.sqrt(2) or float(signal.std())
    search = ruptures.Pelt(model=model, min_size=smallest, jump=1).fit(columns)
    ends = [int(end) for end in search.predict(pen=weight * 2 * noise**2 * math.log(count))]
    segments = list(zip([0, *ends[:-1]], ends, strict=True))
    rest = _rest(signal, segments, 0 if model == "l2" else 1)
    criterion = count * math.log(max(rest / count, 1e-30)) + (weight * len(segments) - 1) * math.log(count)
    return criterion, segments


def _rest(signal: Any, segments: Sequence[tuple[int, int]], degree: int) -> float:
    """The sum of squares that levels (degree 0) or lines (1) leave."""
    import numpy as np

    total = 0.0
    for start, end in segments:
        at = np.arange(end - start)
        total += float(((signal[start:end] - np.polyval(np.polyfit(at, signal[start:end], degree), at)) ** 2).sum())
    return total


def _amount(change: float, relative: bool) -> float:
    return math.exp(change) if relative else change
