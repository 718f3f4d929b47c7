"""A/A noise: what equal cells say about the runs, the warm-up and the duration that a campaign needs."""

from __future__ import annotations

import math
import random

import pytest

from pytest_staging.campaign.noise import MIN_RUNS, Noise, noise_of, propose
from pytest_staging.stats import runs_needed


def cells(deviation: float, count: int, seed: int = 1) -> list[dict[str, float | None]]:
    """Cells whose neighbours' log ratios have that deviation."""
    random.seed(seed)
    scale = deviation / math.sqrt(2)
    return [{"p95": 10 * math.exp(random.gauss(0, scale)), "gc_pause": None} for _ in range(count)]


def test_noise_of_equal_cells() -> None:
    """XP-01: the deviation is that of two equal cells side by side, and gives the runs to see 5 %."""
    (found,) = noise_of(cells(0.2, 4000))
    assert found.metric == "p95"
    assert found.deviation == pytest.approx(0.2, rel=0.05)
    assert found.runs == runs_needed(math.log1p(0.05), found.deviation)


def test_a_metric_that_a_cell_lacks_is_left_out() -> None:
    """Half a study proves nothing."""
    assert noise_of([{"p95": 1.0, "p50": 1.0}, {"p95": 1.1, "p50": None}])[0].metric == "p95"
    assert len(noise_of([{"p95": 1.0, "p50": 1.0}, {"p95": 1.1, "p50": None}])) == 1


def halves_of(between: float, within: float, duration_s: float, count: int = 4000) -> tuple[list, Noise]:
    """Recordings whose variance is known: b between cells and w / duration within."""
    random.seed(3)
    halves, wholes = [], []
    for _ in range(count):
        level = random.gauss(0, math.sqrt(between / 2))
        noise = [random.gauss(0, math.sqrt(within / (duration_s / 2) / 2)) for _ in range(2)]
        halves.append((10 * math.exp(level + noise[0]), 10 * math.exp(level + noise[1])))
        wholes.append({"p95": 10 * math.exp(level + sum(noise) / 2)})
    return halves, noise_of(wholes)[0]


def test_noise_within_cells_asks_for_longer_ones() -> None:
    """XP-02: with an expensive start and all the noise within, fewer and longer cells are the shorter campaign."""
    halves, p95 = halves_of(between=0.0001, within=0.2, duration_s=5.0)
    found = propose(halves, p95, 5.0, other_s=30.0)
    assert found is not None
    assert found.duration_s == 20.0
    assert found.total_s == pytest.approx(2 * found.runs * (20.0 + 30.0))


def test_noise_between_cells_asks_for_shorter_ones() -> None:
    """XP-02: what a fresh start brings does not shrink with time, only with runs."""
    halves, p95 = halves_of(between=0.04, within=0.0001, duration_s=10.0)
    found = propose(halves, p95, 10.0, other_s=1.0)
    assert found is not None
    assert found.duration_s == 5.0
    assert found.runs >= (p95.runs or 0) * 0.9


def test_at_least_enough_runs_for_a_verdict() -> None:
    """However quiet it is."""
    halves, p95 = halves_of(between=1e-9, within=1e-9, duration_s=10.0)
    found = propose(halves, p95, 10.0, other_s=1.0)
    assert found is not None
    assert found.runs == MIN_RUNS


def test_no_proposal_without_both_halves() -> None:
    """A half without a request tells nothing."""
    noise = Noise(metric="p95", deviation=0.1, runs=30)
    assert propose([(None, 1.0), (1.0, 1.0)], noise, 10.0, 1.0) is None
