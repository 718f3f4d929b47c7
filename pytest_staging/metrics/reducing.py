"""From a time series to a metric: its peak, its growth over the load window, or its last value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from pytest_staging.metrics.sampler import Recording
from pytest_staging.model.benchmark import How, SeriesSpec
from pytest_staging.model.observing import Reading

Reduced = tuple[float | None, str]
"""The value; or None, and why there is none."""


def reduce_all(wanted: Mapping[str, SeriesSpec], recording: Recording, where: str) -> Reading:
    """Every wanted metric: a value, or null with the reason. `where` was asked; for messages."""
    if not recording.rows:
        why = f"all {recording.failed} samples of {where} failed: {recording.failure}"
        return Reading(metrics=dict.fromkeys(wanted), missing=dict.fromkeys(wanted, why))
    reduced = {name: reduce_series(name, spec.how, spec.name, recording) for name, spec in wanted.items()}
    metrics = {name: value for name, (value, _) in reduced.items()}
    return Reading(metrics=metrics, missing={name: why for name, (value, why) in reduced.items() if value is None})


def reduce_series(name: str, how: How, shown: str, recording: Recording) -> Reduced:
    """One metric out of the column `name`, called `shown` where it comes from."""
    column = [row.values[name] for row in recording.rows if name in row.values]
    if not column:
        return None, f"{shown} was in none of {len(recording.rows)} samples"
    known = [value for value in column if value is not None]
    if not known:
        return None, f"{shown} was no finite number in any of {len(column)} samples"
    if how is How.PEAK:
        return max(known), ""
    if how is How.LAST:
        edge = _edge_reason(name, shown, recording, (-1,))
        return (None, edge) if edge else (known[-1], "")
    return _growth(known, _edge_reason(name, shown, recording, (0, -1)), shown)


def _growth(known: list[float], edge: str, shown: str) -> Reduced:
    if any(later < earlier for earlier, later in pairwise(known)):
        return None, f"the counter {shown} went backwards"
    # Without its first and last value the counter's growth is that of a shorter window.
    return (None, edge) if edge else (round(known[-1] - known[0], 6), "")


def _edge_reason(name: str, shown: str, recording: Recording, edges: tuple[int, ...]) -> str:
    if not recording.last or (0 in edges and not recording.first):
        return "the first or the last sample failed" if 0 in edges else "the last sample failed"
    if any(recording.rows[edge].values.get(name) is None for edge in edges):
        return f"{shown} was not in the " + ("first or the last sample" if 0 in edges else "last sample")
    return ""
