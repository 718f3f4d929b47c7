"""How far the campaign is: phases go from wherever a cell runs to the controller through one small file per worker."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell, CellSummary

PHASE_FILE = ".phase"


@dataclass(frozen=True, order=True)
class Phase:
    """What one worker does, since when in epoch seconds. `seat` is its host slot; empty where there is only one."""

    seat: str
    worker: str
    cell_id: str
    name: str
    since: float


def worker_number(name: str) -> int:
    """Of an xdist worker (gw3 is 3) or of a worker's file; 0 for anything else."""
    digits = name.removeprefix("gw").lstrip("-")
    return int(digits) if digits.isdecimal() else 0


def phase_path(folder: Path, worker: int) -> Path:
    """The file of one worker; that of the first, or only, one has no number."""
    return folder / (f"{PHASE_FILE}-{worker}" if worker else PHASE_FILE)


def write_phase(folder: Path, cell_id: str, phase: str, worker: int = 0, seat: str = "") -> None:
    """One line, replaced at every phase. Progress is a courtesy: it never stops a campaign."""
    with suppress(OSError):
        phase_path(folder, worker).write_text(f"{cell_id} {phase} {time.time():.3f} {seat}".rstrip() + "\n")


def read_phases(folder: Path) -> list[Phase]:
    """Of every worker that has one, by host slot."""
    return sorted(one for path in folder.glob(f"{PHASE_FILE}*") if (one := _read_phase(path)))


def _read_phase(path: Path) -> Phase | None:
    """None for a file that is gone, or half written."""
    with suppress(OSError, ValueError):
        cell_id, name, since, *seat = path.read_text().split()
        return Phase("".join(seat), path.name.removeprefix(PHASE_FILE), cell_id, name, float(since))
    return None


def remove_phases(folder: Path, workers: Iterable[int] | None = None) -> None:
    """Those of `workers`, or of all."""
    paths = folder.glob(f"{PHASE_FILE}*") if workers is None else [phase_path(folder, one) for one in workers]
    with suppress(OSError):
        for path in paths:
            path.unlink(missing_ok=True)


class Estimate:
    """Time left, from the mean duration of the cells that this session finished."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = self._last = time.monotonic()

    def count(self) -> None:
        self.done += 1
        self._last = time.monotonic()

    def left(self) -> str:
        """In words; empty before the first cell is done."""
        if not self.done or self.done >= self.total:
            return ""
        each = (self._last - self._started) / self.done
        # Counts down while a cell runs; one that takes longer than the others holds it where that cell should be done.
        remaining = self.total - self.done
        seconds = max(each * remaining - (time.monotonic() - self._last), each * (remaining - 1))
        return f"~{seconds:.0f} s left" if seconds < 90 else f"~{seconds / 60:.0f} min left"


@dataclass(frozen=True)
class Ratios:
    """Of one candidate in one mode: how many pairs are complete, and each metric's median candidate/baseline."""

    slug: str
    mode: str
    pairs: int
    medians: tuple[tuple[str, str], ...]


class Standing:
    """What the results so far look like: blocks that are done, and the median ratio of each counted metric's pairs.

    It describes and decides nothing: neither the stopping rule nor the verdict knows of it.
    """

    def __init__(self, campaign: Campaign, benchmark: Benchmark, known: Mapping[str, CellSummary]) -> None:
        self._campaign = campaign
        self._metrics = [name for name, spec in benchmark.metrics.items() if not spec.advisory]
        self._missing: dict[str, set[str]] = {}
        for cell in campaign.cells:
            self._missing.setdefault(cell.block_id, set()).add(cell.cell_id)
        self._known: dict[str, CellSummary] = {}
        self._ratios: dict[tuple[str, str], Ratios] = {}
        self.blocks = len(self._missing)
        self.blocks_on: dict[str, int] = {}
        for summary in known.values():
            self.add(summary)

    def add(self, summary: CellSummary) -> None:
        """Takes a cell's result; a later one takes the place of an earlier one."""
        cell = summary.cell
        self._known[cell.cell_id] = summary
        missing = self._missing.get(cell.block_id, set())
        if missing == {cell.cell_id}:
            host = str(summary.host.get("name"))
            self.blocks_on[host] = self.blocks_on.get(host, 0) + 1
        missing.discard(cell.cell_id)
        if not self._campaign.smoke:
            compared = self._campaign.candidate_slugs
            slugs = compared if cell.version_slug == self._campaign.baseline_slug else (cell.version_slug,)
            for slug in slugs:
                self._ratios[slug, cell.platform_mode] = self._ratios_of(slug, cell.platform_mode)

    @property
    def blocks_done(self) -> int:
        return sum(not missing for missing in self._missing.values())

    def ratios(self) -> list[Ratios]:
        """One for each candidate and mode that has a pair, in the campaign's order; none in a smoke campaign."""
        order = [(slug, mode) for slug in self._campaign.candidate_slugs for mode in self._campaign.platform_modes]
        # A copy, since results come in while another thread draws.
        known = dict(self._ratios)
        return [one for key in order if (one := known.get(key)) and one.medians]

    def _ratios_of(self, slug: str, mode: str) -> Ratios:
        pairs = [*self._pairs(slug, mode)]
        medians = [(name, text) for name in self._metrics if (text := _median_ratio(pairs, name))]
        return Ratios(slug, mode, len(pairs), tuple(medians))

    def _pairs(self, slug: str, mode: str) -> Iterator[tuple[CellSummary, CellSummary]]:
        for run in range(1, self._campaign.runs + 1):
            both = [self._known.get(Cell(run, mode, one).cell_id) for one in (self._campaign.baseline_slug, slug)]
            if both[0] and both[1] and both[0].passed and both[1].passed:
                yield both[0], both[1]


def _median_ratio(pairs: Iterable[tuple[CellSummary, CellSummary]], metric: str) -> str:
    """Empty when no pair has a ratio: a metric that is missing, or zero."""
    values = [(one.metrics.get(metric), other.metrics.get(metric)) for one, other in pairs]
    ratios = [after / before for before, after in values if before and after]
    if not ratios:
        return ""
    median = statistics.median(ratios)
    return f"{median:.3f}" if median < 10 else f"{median:.1f}"


@dataclass(frozen=True)
class Busy:
    """What a host slot does, or a worker where there are no hosts; a lone worker needs no name.

    `seconds` is whole seconds in this phase; `blocks`, those that the host has finished, is None for a worker.
    """

    name: str
    phase: str
    seconds: int
    blocks: int | None
    cell_id: str


@dataclass(frozen=True)
class Progress:
    """Everything that the live view shows; equal as long as it would look the same."""

    done: int
    cells: int
    blocks_done: int
    blocks: int
    left: str
    busy: tuple[Busy, ...]
    ratios: tuple[Ratios, ...]

    @property
    def counts(self) -> str:
        return f"{self.done}/{self.cells} cells, {self.blocks_done}/{self.blocks} blocks"


def build_progress(phases: list[Phase], estimate: Estimate, standing: Standing, now: float) -> Progress:
    """As it stands at `now`, in epoch seconds."""
    return Progress(
        done=estimate.done,
        cells=estimate.total,
        blocks_done=standing.blocks_done,
        blocks=standing.blocks,
        left=estimate.left(),
        busy=tuple(_busy(one, len(phases), standing, now) for one in phases),
        ratios=tuple(standing.ratios()),
    )


def _busy(phase: Phase, workers: int, standing: Standing, now: float) -> Busy:
    return Busy(
        name=phase.seat or (f"worker {worker_number(phase.worker)}" if workers > 1 else ""),
        phase=phase.name,
        # Of the clock, not since the phase began: so all rows change at once, and the screen once per second.
        seconds=max(0, int(now) - int(phase.since)),
        blocks=standing.blocks_on.get(phase.seat, 0) if phase.seat else None,
        cell_id=phase.cell_id,
    )


def render_cell(summary: CellSummary, estimate: Estimate) -> str:
    """One line for a finished cell."""
    width = len(str(estimate.total))
    seconds = sum(summary.phases.values())
    p95 = summary.metrics.get("p95")
    facts = [f"p95 {p95:.4g} ms"] if p95 is not None else []
    if summary.load_tool.get("steady") is False:
        facts.append(f"not steady after {summary.load_tool['warm_up_s']:g} s")
    facts += [estimate.left()] if estimate.left() else []
    reason = f": {summary.reason.splitlines()[0]}" if summary.reason else ""
    return (
        f"  {estimate.done:>{width}}/{estimate.total}  {summary.cell.cell_id}  {summary.outcome}{reason}"
        f"  {seconds:.1f} s" + "".join(f", {fact}" for fact in facts)
    )
