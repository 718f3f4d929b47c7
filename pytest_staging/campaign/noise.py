"""How much two equal cells differ on this machine (A/A), and what that means for warm-up, duration and N."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_staging.campaign.planning import pin_files
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.model.benchmark import Benchmark, Load
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import CellFailure
from pytest_staging.model.ports import LoadRequest, LoadTool
from pytest_staging.model.version import Version
from pytest_staging.stats import runs_needed
from pytest_staging.stats.steady import SteadyRule, level_of, steady_after
from pytest_staging.stats.summary import percentile

CHANGE = 0.05
STUDIED = ("p50", "p95", "p99", "throughput")
LONG_S = 30.0
FACTORS = (0.5, 1.0, 2.0, 4.0)
MIN_CELLS = 4
MIN_RUNS = 8
"""Fewer can hardly show a regression, whatever the noise."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Of one metric: the standard deviation of the log ratio of two equal cells, and the runs to see CHANGE with it."""

    metric: str
    deviation: float
    runs: int | None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Seconds of load, the runs that they need for `metric`, and the seconds that such a campaign takes in one mode."""

    duration_s: float
    runs: int
    total_s: float


def make_study(version: Version, mode: str, cells: int, benchmark: Benchmark, path: Path, tool: LoadTool) -> Campaign:
    """Equal cells of one version, one after the other, on this machine; `path` is the benchmark's."""
    files = {benchmark.payloads[name] for name in benchmark.selected_functions}
    files |= {benchmark.load.script} if benchmark.load.script else set()
    return Campaign(
        campaign_id="noise",
        created_at="",
        baseline_slug=version.slug,
        candidate_slugs=(),
        platform_modes=(mode,),
        functions=benchmark.selected_functions,
        runs=cells,
        seed=0,
        order="fixed",
        smoke=False,
        target="local",
        benchmark_path=str(path),
        benchmark_sha256="",
        benchmark_files=pin_files(path.parent, sorted(files)),
        versions={version.slug: version.snapshot_fingerprint},
        load_tool={"name": tool.name, "version": tool.version()},
        cells=tuple(Cell(number, mode, version.slug) for number in range(1, cells + 1)),
    )


@dataclass(frozen=True)
class Study:
    """Runs cells and reads their recordings again. `say` is told each result as it comes."""

    runner: CellRunner
    say: Callable[[str], None]

    def warm_up_s(self) -> float | None:
        """Seconds until a fresh service is steady under this load; None when it was not within LONG_S, or not told.

        Raises CellFailure, also for an invalid cell: what it shows is the load tool's.
        """
        if not self.runner.tool.tells_live:
            return None
        load = replace(self.runner.benchmark.load, warm_up=None, warm_up_s=0.0, duration_s=LONG_S)
        runner = self._with(load, "warm-up")
        self.say(f"warm-up: one cell of {LONG_S:g} s from the first request on")
        summary = self._measure(runner, runner.campaign.cells[0])
        if not summary.passed:
            raise CellFailure(f"the cell that shows the warm-up is {summary.why}")
        rule = SteadyRule()
        count = int(LONG_S / rule.window_s)
        found = [self._latencies(runner, runner.campaign.cells[0], 0.0, number, count) for number in range(count)]
        windows = steady_after([level_of(one) for one in found], rule)
        return None if windows is None else windows * rule.window_s

    def measure(self) -> tuple[list[CellSummary], float]:
        """The valid cells, in order, and a cell's median seconds besides its load.

        Raises CellFailure, also when fewer than MIN_CELLS are valid.
        """
        began, found, seconds = time.monotonic(), [], []
        for cell in self.runner.campaign.cells:
            found.append(self._measure(self.runner, cell))
            seconds.append(time.monotonic() - began - self.runner.benchmark.load.duration_s)
            began = time.monotonic()
        return require_valid(found), statistics.median(seconds)

    def halves(self, cells: Sequence[CellSummary]) -> list[tuple[float | None, float | None]] | None:
        """p95 of the first and the second half of each cell's window.

        None when the tool does not tell when its requests were sent: its halves do not add up to the whole.
        """
        found = []
        for one in cells:
            warm_up_s = float(one.load_tool.get("warm_up_s", self.runner.benchmark.load.warm_up_s))
            first, second, whole = (
                self._latencies(self.runner, one.cell, warm_up_s, *part) for part in ((0, 2), (1, 2), (0, 1))
            )
            if not whole or len(first) + len(second) != len(whole):
                return None
            found.append((_p95(first), _p95(second)))
        return found

    def _measure(self, runner: CellRunner, cell: Cell) -> CellSummary:
        summary = runner.run(cell, attempt=1)
        if not summary.passed and summary.outcome != "invalid":
            raise CellFailure(f"{cell.cell_id}: {summary.reason}", summary.log_tail)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in summary.metrics.items() if value and name in STUDIED)
        self.say(f"{cell.cell_id}: {shown}" + (f" ({summary.why})" if summary.why else ""))
        return summary

    def _with(self, load: Load, name: str) -> CellRunner:
        folder = self.runner.campaign_folder / name
        return replace(self.runner, benchmark=replace(self.runner.benchmark, load=load), campaign_folder=folder)

    @staticmethod
    def _latencies(runner: CellRunner, cell: Cell, warm_up_s: float, number: int, parts: int) -> Sequence[float]:
        """Of one of so many equal parts of the load window, which began after so long a warm-up."""
        load, folder = runner.benchmark.load, runner.campaign_folder / cell.folder
        begin_s = float((folder / "load-ready").read_text()) + warm_up_s
        width_s = load.duration_s / parts
        request = LoadRequest(base_url="", load=load, bodies={}, folder=folder)
        result = runner.tool.parse_output(request, begin_s + number * width_s, begin_s + (number + 1) * width_s)
        return result.latencies_ms


def require_valid(cells: Sequence[CellSummary]) -> list[CellSummary]:
    """Those that passed. Raises CellFailure when they are fewer than MIN_CELLS."""
    valid = [one for one in cells if one.passed]
    if len(valid) < MIN_CELLS:
        why = next((one.why for one in cells if not one.passed), "too few were asked for")
        raise CellFailure(f"{len(valid)} of {len(cells)} cells are valid, and {MIN_CELLS} are the fewest: {why}")
    return valid


def noise_of(cells: Sequence[Mapping[str, float | None]]) -> list[Noise]:
    """Of each metric that all cells have, over pairs of neighbours, as a block has them."""
    found = []
    for metric in STUDIED:
        values = [value for cell in cells if (value := cell.get(metric))]
        if len(values) == len(cells):
            deviation = _deviation(values)
            found.append(Noise(metric=metric, deviation=deviation, runs=runs_needed(math.log1p(CHANGE), deviation)))
    return found


def propose(
    halves: Sequence[tuple[float | None, float | None]], p95: Noise, duration_s: float, other_s: float
) -> Proposal | None:
    """The duration with the shortest campaign that sees CHANGE in p95. `other_s` are a cell's seconds besides its load.

    The variance of a log ratio is taken for b + w / duration: b is between cells and stays, w is within them. Half a
    window has b + 2 w / duration, which tells both. None when a half has no requests.
    """
    firsts = [first for first, _ in halves if first]
    if len(firsts) < len(halves):
        return None
    whole = p95.deviation**2
    within = max(0.0, _deviation(firsts) ** 2 - whole) * duration_s
    between = max(0.0, whole - within / duration_s)
    options = []
    for factor in FACTORS:
        seconds = factor * duration_s
        needed = runs_needed(math.log1p(CHANGE), math.sqrt(between + within / seconds))
        if needed is not None:
            runs = max(MIN_RUNS, needed)
            options.append(Proposal(duration_s=seconds, runs=runs, total_s=2 * runs * (seconds + other_s)))
    return min(options, key=lambda one: one.total_s, default=None)


def lacking_reason(halves: Sequence[tuple[float | None, float | None]] | None, p95: Noise | None) -> str:
    """Why `propose` gives nothing."""
    if p95 is None:
        return "not every cell has a p95"
    if halves is None:
        return (
            "the load tool does not tell when each request was sent (Locust and h2load do, k6 with "
            "load.exact_percentiles), so what a longer or shorter cell would bring is not known"
        )
    if not all(first for first, _ in halves):
        return "half of a cell's load has no answered request; make the cells longer"
    return "no number of runs is enough at any duration"


def _p95(latencies_ms: Sequence[float]) -> float | None:
    return percentile(latencies_ms, 95.0) if latencies_ms else None


def _deviation(values: Sequence[float]) -> float:
    """Of the log ratios of neighbours, whose mean is zero because they are equal."""
    ratios = [math.log(later / earlier) for earlier, later in itertools.pairwise(values)]
    return math.sqrt(statistics.fmean([ratio * ratio for ratio in ratios]))
