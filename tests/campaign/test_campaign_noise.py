"""A/A noise: what equal cells say about the runs, the warm-up and the duration that a campaign needs."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cells import make_campaign, make_summary

from pytest_staging.campaign.noise import (
    MIN_CELLS,
    MIN_RUNS,
    Noise,
    Study,
    lacking_reason,
    noise_of,
    propose,
    require_valid,
)
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import CellFailure
from pytest_staging.model.ports import LoadResult
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
    assert "make the cells longer" in lacking_reason([(None, 1.0), (1.0, 1.0)], noise)


def test_invalid_cells_do_not_count() -> None:
    """XP-06: they are the load tool's noise, not the service's; a study of too few valid ones fails, and says why."""
    planned = make_campaign(MIN_CELLS + 1).cells[: MIN_CELLS + 1]
    cells = [make_summary(one, p95=1.0) for one in planned]
    cells[1] = replace(cells[1], outcome="invalid", reason="the load generator was saturated")
    assert require_valid(cells) == [cells[0], *cells[2:]]
    cells[2] = replace(cells[1])
    with pytest.raises(CellFailure, match="3 of 5 cells are valid, and 4 are the fewest: invalid: the load generator"):
        require_valid(cells)


class Tool:
    """Tells 100 latencies; `instants` are when their requests were sent, None for a tool that does not know."""

    def __init__(self, instants: list[float] | None) -> None:
        self.instants = instants

    def parse_output(self, request: Any, start_s: float, end_s: float) -> LoadResult:
        sent = self.instants if self.instants is None else [one for one in self.instants if start_s <= one < end_s]
        found = [5.0] * 100 if sent is None else [1000.0 - one for one in sent]
        return LoadResult(latencies_ms=sorted(found), requests=len(found), failures=0)


def halves_told(folder: Path, instants: list[float] | None, **facts: float) -> Any:
    """The first cell's load began at 100 s, after a warm-up of 2 s that the benchmark asks for."""
    (cell, *_) = make_campaign(1).cells
    (folder / cell.folder).mkdir(parents=True)
    (folder / cell.folder / "load-ready").write_text("98.0")
    load = Load(shape=LoadShape.CLOSED, users=1, warm_up_s=2.0, duration_s=10.0)
    runner = SimpleNamespace(tool=Tool(instants), benchmark=SimpleNamespace(load=load), campaign_folder=folder)
    return Study(runner, print).halves([replace(make_summary(cell), load_tool=facts)])


def test_halves_of_any_tool_that_tells_when_it_sent(tmp_path: Path) -> None:
    """XP-06: whatever its name; one whose halves are the whole again tells nothing, and that is said."""
    instants = [100.0 + number / 10 for number in range(100)]
    ((first, second),) = halves_told(tmp_path / "a", instants)
    assert first > 895 > second
    assert halves_told(tmp_path / "b", None) is None
    assert halves_told(tmp_path / "c", []) is None
    noise = Noise(metric="p95", deviation=0.1, runs=30)
    assert "does not tell when each request was sent" in lacking_reason(None, noise)
    assert "not every cell has a p95" in lacking_reason(None, None)


def test_halves_begin_where_the_warm_up_ended(tmp_path: Path) -> None:
    """XP-06: one that ended when the service was steady took as long as the cell says."""
    ((first, second),) = halves_told(tmp_path, [104.0, 112.0], warm_up_s=5.0)
    assert (first, second) == (896.0, 888.0)
